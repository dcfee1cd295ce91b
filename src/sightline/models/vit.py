"""ViT: an image is a sentence of patches, read by a plain transformer encoder.

Paper: An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale (Dosovitskiy et al., 2020),
https://arxiv.org/abs/2010.11929

Each patch becomes a token by one linear map; a learned class token goes in front, a learned position is added
(equation 1), L blocks of attention and MLP follow (equations 2 and 3), and the class token is the image's
representation (equation 4). Table 1 gives Base and Large. Tiny and Small have the same shape with 3 and 6 heads of
64 (DeiT, Touvron et al., 2020, https://arxiv.org/abs/2012.12877, Table 1).

Differs from the paper:
- The head is one linear layer, as in the paper's fine-tuning; its pre-training head has a hidden layer with tanh.
- Dropout sits where section B.1 puts it (after every dense layer but the query, key and value projections, and after
  the positions are added); its rate is 0, as in the checkpoints of torchvision and timm.
- Feature maps are the patches' tokens, without the class token, after each quarter of the blocks. All have the
  stride of a patch: the paper has no pyramid.

Initialisation: DeiT's: linear layers, positions and the class token truncated normal (0.02), biases 0; the patches'
map as PyTorch has it. The paper's code starts its head at 0, so that the first gradient
reaches nothing but the head; here the head starts as the other linear layers do.
Shapes: B batch, D width, T tokens (patches and the class token), G patches per side, N heads.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import ModelError
from sightline.layers.drop_path import DropPath
from sightline.layers.image_size import check_image_size
from sightline.layers.mlp import Mlp
from sightline.models import Classifier, Family, Stage, Variant, rounded

MIN_GRID = 7
"""Fewest patches per side that are kept when the image shrinks; B/32 has as many at 224 pixels."""


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """A row of Table 1, and the size of a patch."""

    patch_size: int = 16
    """Pixels."""
    width: int
    depth: int
    """Blocks; a multiple of 4."""
    num_heads: int
    image_size: int = 224
    """Pixels; the positions that are learned belong to it."""


class PatchEmbedding(nn.Module):
    """Cut the image into patches and map each linearly to a token (equation 1)."""

    def __init__(self, in_channels: int, width: int, patch_size: int) -> None:
        super().__init__()
        # A convolution whose stride is its kernel sees each patch once: unfold and Linear in one operation.
        self.proj = nn.Conv2d(in_channels, width, patch_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, G G, D), row by row."""
        return self.proj(images).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention (appendix A)."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.dropout = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, -1))  # (B, T, 3, N, D / N)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, N, T, D / N)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.dropout(self.proj(mixed.transpose(1, 2).flatten(2)))


class Block(nn.Module):
    """Attention, then the MLP, each behind a layer norm and beside a shortcut (Figure 1, right)."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, num_heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, 4 * width)
        self.drop_path = DropPath()  # one rate for a block; its two branches draw apart

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ViT(Classifier):
    """Patches to tokens, a plain encoder, the class token, a linear head."""

    def __init__(self, config: ViTConfig, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.image_size = config.image_size
        self.grid = config.image_size // config.patch_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid**2 + 1, config.width))
        self.patch_embed = PatchEmbedding(in_channels, config.width, config.patch_size)
        self.dropout = nn.Dropout(0.0)
        self.blocks = nn.ModuleList([Block(config.width, config.num_heads) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.num_features = config.width
        quarter = config.depth // 4
        self.stages = tuple(Stage(f"blocks.{quarter * n - 1}", config.width, config.patch_size) for n in (1, 2, 3, 4))
        self.head_dropout = nn.Dropout(0.0)
        self.head = nn.Linear(config.width, num_classes)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.apply(_initialise)

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> four maps (B, D, G, G), after each quarter of the blocks."""
        x = self._tokens(images)
        quarter = len(self.blocks) // 4
        maps: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if (index + 1) % quarter == 0:
                patches = x[:, 1:].transpose(1, 2)  # (B, D, G G), without the class token
                maps.append(patches.unflatten(2, (self.grid, self.grid)))
        return maps

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D), the class token after the last layer norm."""
        x = self._tokens(images)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]

    def _tokens(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, T, D), equation 1. Raises ModelError for another size than the network's."""
        check_image_size(images, self.image_size)
        patches = self.patch_embed(images)
        class_token = self.cls_token.expand(patches.shape[0], -1, -1)  # len() would fix an export's batch size
        return self.dropout(torch.cat((class_token, patches), 1) + self.pos_embed)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def _fit(config: Any, image_size: int) -> tuple[Any, str]:
    """Smaller patches for small images, about 8 per side: 4 pixels at 32."""
    patch_size = config.patch_size
    if image_size >= MIN_GRID * patch_size:
        if image_size % patch_size:
            below = image_size // patch_size * patch_size
            raise ModelError(
                f"ViT's patches of {patch_size} pixels don't tile an image of {image_size}. "
                f"Use {below} or {below + patch_size} pixels."
            )
        return replace(config, image_size=image_size), ""
    fitting = [size for size in range(max(image_size // 16, 1), image_size // 4 + 1) if image_size % size == 0]
    if not fitting:
        raise ModelError(
            f"No patch cuts an image of {image_size} pixels into about 8 per side. Use a multiple of 8 pixels."
        )
    patch_size = min(fitting, key=lambda size: abs(size - image_size / 8))
    grid = image_size // patch_size
    note = f"{grid}x{grid} patches of {patch_size} pixels replace those of {config.patch_size}"
    return replace(config, image_size=image_size, patch_size=patch_size), note


TORCHVISION = "torchvision IMAGENET1K_V1, its table of models; attention's two products are counted"
TIMM = "timm's results-imagenet.csv, augreg_in21k_ft_in1k (pre-trained on ImageNet-21k), and its benchmark tables"


def _scale(config: Any, width: float, depth: float) -> Any:
    """Whole heads, each as wide as before, and blocks in multiples of 4."""
    heads = max(1, round(config.num_heads * width))
    return replace(
        config,
        width=config.width // config.num_heads * heads,
        num_heads=heads,
        depth=rounded(config.depth * depth, 4),
    )


ENTRY = Family(
    title="An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
    paper="https://arxiv.org/abs/2010.11929",
    year=2020,
    model=ViT,
    variants={
        "vit_ti_16": Variant(
            config=ViTConfig(width=192, depth=12, num_heads=3),
            num_params=5_717_416,
            num_macs=1_260_000_000,
            top1=75.452,
            source=TIMM,
            timm="vit_tiny_patch16_224",
        ),
        "vit_s_16": Variant(
            config=ViTConfig(width=384, depth=12, num_heads=6),
            num_params=22_050_664,
            num_macs=4_610_000_000,
            top1=81.402,
            source=TIMM,
            timm="vit_small_patch16_224",
        ),
        "vit_b_16": Variant(
            config=ViTConfig(width=768, depth=12, num_heads=12),
            num_params=86_567_656,
            num_macs=17_564_000_000,
            top1=81.072,
            source=TORCHVISION,
            timm="vit_base_patch16_224",
        ),
        "vit_b_32": Variant(
            config=ViTConfig(patch_size=32, width=768, depth=12, num_heads=12),
            num_params=88_224_232,
            num_macs=4_409_000_000,
            top1=75.912,
            source=TORCHVISION,
            timm="vit_base_patch32_224",
        ),
        "vit_l_16": Variant(
            config=ViTConfig(width=1024, depth=24, num_heads=16),
            num_params=304_326_632,
            num_macs=61_555_000_000,
            top1=79.662,
            source=TORCHVISION,
            timm="vit_large_patch16_224",
        ),
    },
    fit=_fit,
    scale=_scale,
    renamings={
        "torchvision": (
            (r"^class_token$", "cls_token"),
            (r"^encoder\.pos_embedding$", "pos_embed"),
            (r"^conv_proj\.", "patch_embed.proj."),
            (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
            (r"^encoder\.ln\.", "norm."),
            (r"\.ln_([12])\.", r".norm\1."),
            (r"\.self_attention\.in_proj_(weight|bias)$", r".attn.qkv.\1"),
            (r"\.self_attention\.out_proj\.", ".attn.proj."),
            # "linear_1" and "linear_2" in files that torchvision wrote before it numbered its layers (0.14).
            (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
            (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
            (r"^heads\.head\.", "head."),
        ),
        "timm": (),
    },
)
