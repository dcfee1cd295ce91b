"""Swin: a transformer with a pyramid, whose attention stays in windows that shift from block to block.

Paper: Swin Transformer: Hierarchical Vision Transformer using Shifted Windows (Liu et al., 2021, Microsoft Research),
https://arxiv.org/abs/2103.14030

Tokens are patches of 4 pixels. Four stages of blocks attend within windows of 7x7 tokens, at a cost linear in the
image's area; every second block shifts its windows by half of one, so that neighbours exchange what they know
(Figure 2, equation 3). Between stages, 2x2 neighbours merge into one token of twice the width. Each head adds a
learned bias for the relative position of two tokens (equation 4). Section 3.3 gives the variants.

Differs from the paper:
- Dropout sits after each projection and linear layer; its rate is 0, as in the paper's training.
- The shifted windows are cyclic with a mask (Figure 4), which is made when the network is built: it takes images of
  one size. For another size `create_model` chooses patch and window so that windows tile every stage.

Initialisation: the authors': linear layers and the relative positions truncated normal (0.02), biases 0; the patches'
map as PyTorch has it.
Shapes: B batch, H and W the stage's tokens per side, C its width, M windows per side, T tokens in a window, N heads.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import ModelError
from sightline.layers.drop_path import DropPath, linear_rates
from sightline.layers.image_size import check_image_size
from sightline.layers.mlp import Mlp
from sightline.models import Classifier, Family, Stage, Variant, rounded


@dataclass(frozen=True, kw_only=True)
class SwinConfig:
    """A variant of section 3.3."""

    width: int
    """Of the first stage; each later stage doubles it."""
    depths: tuple[int, ...]
    """Blocks in each stage."""
    num_heads: tuple[int, ...]
    """In each stage; 32 channels a head."""
    drop_path: float
    """Rate of the last block; it climbs from 0."""
    patch_size: int = 4
    """Pixels."""
    window: int = 7
    """Tokens per side; a stage that has fewer is one window."""
    image_size: int = 224
    """Pixels; the masks of the shifted windows belong to it."""


class PatchEmbedding(nn.Module):
    """Cut the image into patches, map each linearly to a token, normalise it (Figure 3)."""

    def __init__(self, in_channels: int, width: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, width, patch_size, patch_size)
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C_in, H patch, W patch) -> (B, H, W, C)."""
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


class WindowAttention(nn.Module):
    """Multi-head self-attention among the tokens of each window, the windows moved by `shift` tokens."""

    relative_position_index: Tensor
    mask: Tensor | None
    """(M M, 1, T, T); None where nothing is shifted."""

    def __init__(self, width: int, num_heads: int, grid: int, window: int, shift: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window = window
        self.windows_per_side = grid // window
        self.shift = shift
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, num_heads))
        self.register_buffer("relative_position_index", _relative_position_index(window), persistent=False)
        mask = _shift_mask(grid, window, shift) if shift > 0 else None
        self.register_buffer("mask", mask, persistent=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.dropout = nn.Dropout(0.0)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        if self.shift > 0:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        qkv = self.qkv(self._split(x)).unflatten(3, (3, self.num_heads, -1))  # (B, M M, T, 3, N, C / N)
        qkv = qkv.permute(3, 0, 1, 4, 2, 5)  # (3, B, M M, N, T, C / N)
        if self.mask is None:  # one bias for all windows, which join the images
            query, key, value = qkv.flatten(1, 2).unbind(0)  # each (B M M, N, T, C / N)
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=self._bias())
            mixed = mixed.unflatten(0, (-1, self.windows_per_side**2))
        else:  # another bias for each window, which join the heads
            query, key, value = qkv.flatten(2, 3).unbind(0)  # each (B, M M N, T, C / N)
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=self._bias())
            mixed = mixed.unflatten(1, (-1, self.num_heads))
        mixed = mixed.transpose(2, 3)  # (B, M M, T, N, C / N)
        # Copied by name: flatten would be captured as a view where one kernel's strides allow it, which no other's do.
        mixed = mixed.clone(memory_format=torch.contiguous_format).flatten(3)  # (B, M M, T, C)
        x = self._join(self.dropout(self.proj(mixed)))
        if self.shift > 0:
            x = x.roll((self.shift, self.shift), (1, 2))
        return x

    def _bias(self) -> Tensor:
        """What is added to the attention's logits: (1, N, T, T), or with a mask (1, M M N, T, T)."""
        # An embedding and not an index: its gradient is summed in a fixed order, so that runs repeat bit by bit.
        bias = F.embedding(self.relative_position_index, self.relative_position_bias_table)  # (T, T, N)
        bias = bias.permute(2, 0, 1)
        return (bias if self.mask is None else (bias + self.mask).flatten(0, 1)).unsqueeze(0)

    def _split(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, M M, T, C)."""
        x = x.unflatten(2, (-1, self.window)).unflatten(1, (-1, self.window))  # (B, M, window, M, window, C)
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def _join(self, windows: Tensor) -> Tensor:
        """(B, M M, T, C) -> (B, H, W, C)."""
        side = self.windows_per_side
        x = windows.unflatten(2, (self.window, self.window)).unflatten(1, (side, side))  # (B, M, M, window, window, C)
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


class Block(nn.Module):
    """Window attention, then the MLP, each behind a layer norm and beside a shortcut (equation 3)."""

    def __init__(self, width: int, attention: WindowAttention, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = attention
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width)
        self.drop_path = DropPath(drop_path)  # one rate for a block; its two branches draw apart

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PatchMerging(nn.Module):
    """Join 2x2 neighbours to one token of twice the width (section 3.1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H / 2, W / 2, 2 C)."""
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (B, H / 2, 2 rows, W / 2, 2 columns, C)
        x = x.permute(0, 1, 3, 4, 2, 5).flatten(3)  # (B, H / 2, W / 2, 4 C), down each column first
        return self.reduction(self.norm(x))


class Swin(Classifier):
    """Patches to tokens, four stages with merging between them, the tokens' average, a linear head."""

    def __init__(self, config: SwinConfig, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.image_size = config.image_size
        self.patch_embed = PatchEmbedding(in_channels, config.width, config.patch_size)
        self.dropout = nn.Dropout(0.0)
        rates = iter(linear_rates(config.drop_path, sum(config.depths)))
        width = config.width
        stages: list[Stage] = []
        for index, (depth, num_heads) in enumerate(zip(config.depths, config.num_heads, strict=True)):
            if index > 0:
                self.add_module(f"merge{index}", PatchMerging(width))
                width *= 2
            stride = config.patch_size * 2**index
            grid = config.image_size // stride
            window = min(config.window, grid)
            blocks: list[nn.Module] = []
            for position in range(depth):
                shift = window // 2 if position % 2 == 1 and grid > window else 0  # one window has no neighbours
                attention = WindowAttention(width, num_heads, grid, window, shift)
                blocks.append(Block(width, attention, next(rates)))
            self.add_module(f"stage{index + 1}", nn.Sequential(*blocks))
            stages.append(Stage(f"stage{index + 1}", width, stride))
        self.stages = tuple(stages)
        self.norm = nn.LayerNorm(width)
        self.num_features = width
        self.head_dropout = nn.Dropout(0.0)
        self.head = nn.Linear(width, num_classes)
        self.apply(_initialise)

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """(B, C_in, H, W) -> a map (B, C_i, H_i, W_i) after each stage.

        Raises ModelError for images of another size than the network's.
        """
        check_image_size(images, self.image_size)
        x = self.dropout(self.patch_embed(images))
        maps: list[Tensor] = []
        for index, stage in enumerate(self.stages):
            if index > 0:
                x = self.get_submodule(f"merge{index}")(x)
            x = self.get_submodule(stage.name)(x)
            maps.append(x.permute(0, 3, 1, 2))
        return maps

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, D), the average of the last tokens after layer norm."""
        return self.norm(self.feature_maps(images)[-1].permute(0, 2, 3, 1)).mean((1, 2))


def _relative_position_index(window: int) -> Tensor:
    """(T, T): the row of the bias table for each pair of tokens, whose offsets go from 1 - window to window - 1."""
    rows, columns = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    places = torch.stack((rows.flatten(), columns.flatten()))  # (2, T)
    row_offsets, column_offsets = places[:, :, None] - places[:, None, :] + window - 1
    return row_offsets * (2 * window - 1) + column_offsets


def _shift_mask(grid: int, window: int, shift: int) -> Tensor:
    """(M M, 1, T, T): -100 between tokens that only the cyclic shift made neighbours, else 0 (Figure 4)."""
    # Along a side, three runs of tokens: up to the last window, its own, those that wrapped round.
    strip = torch.zeros(grid)
    if shift > 0:
        strip[-window:-shift] = 1
        strip[-shift:] = 2
    regions = 3 * strip[:, None] + strip
    regions = regions.unflatten(1, (-1, window)).unflatten(0, (-1, window))  # (M, window, M, window)
    regions = regions.transpose(1, 2).flatten(2).flatten(0, 1)  # (M M, T)
    return (regions[:, None, :] != regions[:, :, None]).float().mul(-100.0).unsqueeze(1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        for name, parameter in module.named_parameters():
            if name == "bias":  # merging has none
                nn.init.zeros_(parameter)
            else:
                nn.init.trunc_normal_(parameter, std=0.02)


def _fit(config: Any, image_size: int) -> tuple[Any, str]:
    """The window nearest to the paper's that tiles every stage; below 128 pixels, smaller patches and windows."""
    small = image_size < 128
    patch_size, nearest = (2, 4) if small else (config.patch_size, config.window)
    last_stride = patch_size * 2 ** (len(config.depths) - 1)
    if image_size % last_stride or image_size < 2 * last_stride:
        below = max(image_size // last_stride, 2) * last_stride
        raise ModelError(
            f"Swin ends in tokens of {last_stride} pixels, at least 2 per side, which an image of {image_size} pixels "
            f"can't be cut into. Use {below} or {below + last_stride} pixels."
        )
    grids = [image_size // (patch_size * 2**index) for index in range(len(config.depths))]
    windows = [window for window in range(2, grids[0] + 1) if all(g % window == 0 or g < window for g in grids)]
    window = min(windows, key=lambda size: abs(size - nearest))
    fitted = replace(config, image_size=image_size, patch_size=patch_size, window=window)
    changes: list[str] = []
    if patch_size != config.patch_size:
        changes.append(f"patches of {patch_size} pixels instead of {config.patch_size}")
    if window != config.window:
        changes.append(f"windows of {window}x{window} tokens instead of {config.window}x{config.window}")
    return fitted, " and ".join(changes)


TORCHVISION = "torchvision IMAGENET1K_V1, its table of models"


def _scale(config: Any, width: float, depth: float) -> Any:
    """Whole heads of 32 channels, and blocks in pairs: one with windows as they lie, one with them shifted."""
    heads = max(1, round(config.num_heads[0] * width))
    return replace(
        config,
        width=config.width // config.num_heads[0] * heads,
        depths=tuple(rounded(blocks * depth, 2) for blocks in config.depths),
        num_heads=tuple(heads * 2**stage for stage in range(len(config.depths))),
    )


ENTRY = Family(
    title="Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
    paper="https://arxiv.org/abs/2103.14030",
    year=2021,
    model=Swin,
    variants={
        "swin_t": Variant(
            config=SwinConfig(width=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), drop_path=0.2),
            num_params=28_288_354,
            num_macs=4_491_000_000,
            top1=81.474,
            source=TORCHVISION,
            timm="swin_tiny_patch4_window7_224",
        ),
        "swin_s": Variant(
            config=SwinConfig(width=96, depths=(2, 2, 18, 2), num_heads=(3, 6, 12, 24), drop_path=0.3),
            num_params=49_606_258,
            num_macs=8_741_000_000,
            top1=83.196,
            source=TORCHVISION,
            timm="swin_small_patch4_window7_224",
        ),
        "swin_b": Variant(
            config=SwinConfig(width=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32), drop_path=0.5),
            num_params=87_768_224,
            num_macs=15_431_000_000,
            top1=83.582,
            source=TORCHVISION,
            timm="swin_base_patch4_window7_224",
        ),
        "swin_l": Variant(
            config=SwinConfig(width=192, depths=(2, 2, 18, 2), num_heads=(6, 12, 24, 48), drop_path=0.2),
            num_params=196_532_476,
            num_macs=34_530_000_000,
            top1=86.320,
            source="timm's benchmark tables and results-imagenet.csv, ms_in22k_ft_in1k (pre-trained on ImageNet-22k)",
            timm="swin_large_patch4_window7_224",
        ),
    },
    fit=_fit,
    scale=_scale,
    renamings={
        "torchvision": (
            (r"\.relative_position_index$", None),
            (r"^features\.0\.0\.", "patch_embed.proj."),
            (r"^features\.0\.2\.", "patch_embed.norm."),
            *((rf"^features\.{2 * index + 1}\.", f"stage{index + 1}.") for index in range(4)),
            *((rf"^features\.{2 * index}\.", f"merge{index}.") for index in (1, 2, 3)),
            (r"\.mlp\.0\.", ".mlp.fc1."),
            (r"\.mlp\.3\.", ".mlp.fc2."),
        ),
        "timm": (
            (r"\.(?:relative_position_index|attn_mask)$", None),
            *((rf"^layers\.{index}\.blocks\.", f"stage{index + 1}.") for index in range(4)),
            *((rf"^layers\.{index}\.downsample\.", f"merge{index}.") for index in (1, 2, 3)),
            (r"^head\.fc\.", "head."),
        ),
    },
)
