"""Architectures: one file per paper, each binding ENTRY to a Family of variants.

`create_model` builds any of them by name. The contract is `Classifier`: features, maps, a head.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from torch import Tensor, nn

from sightline import catalog, surgery
from sightline import pretrained as published
from sightline.errors import ModelError, check_whole, unknown_name
from sightline.foreign_weights import Renaming, load_weights, read_state
from sightline.preprocess import Preprocess

MOST_TIMES = 100
"""How many times as wide or as deep as published a network may become; more is a slip of the finger."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A place in a network where a feature map is taken."""

    name: str
    """The submodule's name, as in `named_modules`."""
    channels: int
    stride: int
    """Input pixels per pixel of the map."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """The weights that a network's training starts from."""

    source: str
    """As the user names it."""
    preprocess: Preprocess | None
    """What images they were made for; None for a local file, which doesn't say."""
    notes: tuple[str, ...]
    """Sentences on what was left fresh or adapted, and why."""


class Classifier(nn.Module):
    """An image classifier: forward is `head(head_dropout(forward_features(images)))`.

    Parameters are defined in the order in which the data meets them, so that freezing up to a stage is
    freezing a prefix of `named_parameters()`.
    """

    head: nn.Module
    """(B, num_features) -> (B, K) logits; the last linear layer, and nothing before it."""
    head_dropout: nn.Dropout
    """In front of the head; its rate may be 0."""
    num_features: int
    stages: tuple[Stage, ...]
    """From the finest to the coarsest map."""
    start: Start | None = None
    """None for fresh weights."""
    num_first_pixels: int = 0
    """How many pixels of training images `begin_from` is shown, some more or less; 0 where it has nothing to do."""
    begun_layers: tuple[str, ...] = ()
    """Layers that `begin_from` fills. Pruning leaves them whole: the norms of their channels say nothing of worth."""

    def begin_from(self, images: Tensor) -> None:
        """Set fresh weights that the paper takes from training images (B, C, H, W), normalised, instead of chance."""

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised -> (B, num_features), the head's input."""
        raise NotImplementedError

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) normalised -> for each of `stages` (B, channels, H / stride, W / stride)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised -> (B, K) logits."""
        return self.head(self.head_dropout(self.forward_features(images)))

    def training_outputs(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """The logits (B, K) whose losses are added up in training, each with its weight.

        More than one where the paper trains auxiliary classifiers; they play no part in evaluation.
        """
        return [(1.0, self(images))]

    def drop_auxiliary(self) -> None:
        """Remove the auxiliary classifiers, whose tensors' names begin with "auxiliary."; most networks have none.

        Each ends in a linear layer named `head`. Only `training_outputs` uses them.
        """


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One network of a paper, by the numbers that were published."""

    config: Any
    """The paper's own frozen dataclass of widths, depths and the like."""
    num_params: int
    """Exact, with `num_classes` classes and without auxiliary classifiers."""
    num_macs: int | None = None
    """Multiply-accumulates for one image of `image_size`, as published; None where nobody published them."""
    counted_macs: int | None = None
    """Where nobody did: as `summary.num_macs` counts them, exact."""
    top1: float | None = None
    """Published accuracy in percent, on ImageNet-1k validation, or CIFAR-10 where `num_classes` is 10."""
    source: str = ""
    """Where num_macs and top1 come from."""
    image_size: int = 224
    num_classes: int = 1000
    timm: str = ""
    """The architecture's name in timm, where it differs from ours."""


def any_size(config: Any, _image_size: int) -> tuple[Any, str]:
    """For networks that end in a global pool and take any size as they are."""
    return config, ""


@dataclass(frozen=True, kw_only=True)
class Family:
    """What one paper contributes."""

    title: str
    paper: str
    """Its address."""
    year: int
    model: Callable[[Any, int, int], Classifier]
    """(config, num_classes, in_channels) -> the network with fresh weights."""
    variants: Mapping[str, Variant]
    fit: Callable[[Any, int], tuple[Any, str]] = any_size
    """(config, image_size) -> the config for images of that size, and a sentence on what was changed ("" if nothing).

    Raises ModelError with one clear sentence for a size that the architecture can't take.
    """
    scale: Callable[[Any, float, float], Any] | None = None
    """(config, width, depth) -> the config of a network so many times as wide and deep, rounded to what it can have.

    None where nobody has said what that would mean.
    """
    renamings: Mapping[str, Renaming] = field(default_factory=dict[str, Renaming])
    """By the library that wrote a checkpoint ("torchvision", "timm"): from its tensor names to ours."""


@cache
def families() -> dict[str, Family]:
    """Every family by the name of its file. Imports them all."""
    return cast(dict[str, Family], dict(catalog.entries(__name__)))


@cache
def variants() -> dict[str, tuple[Family, Variant]]:
    """Every architecture's name, with its family and numbers."""
    return {name: (family, variant) for family in families().values() for name, variant in family.variants.items()}


def find_variant(name: str) -> tuple[Family, Variant]:
    """An architecture's family and numbers; `timm/NAME` is one of timm's.

    Raises ModelError with the nearest name when there is none.
    """
    if str(name).startswith("timm/"):
        from sightline.timm_models import find_timm  # it builds on this module

        return find_timm(name)
    if str(name) not in variants():  # what is no text may not be hashable either
        raise ModelError(unknown_name("model", name, variants(), listing="`sightline models`"))
    return variants()[name]


def fit_note(name: str, image_size: int) -> str:
    """What `create_model` changes in this architecture for images of that size, as a sentence; "" if nothing."""
    return _fitted(*find_variant(name), image_size)[1]


def _fitted(family: Family, variant: Variant, image_size: int) -> tuple[Any, str]:
    check_whole(error=ModelError, image_size=image_size)
    return (variant.config, "") if image_size == variant.image_size else family.fit(variant.config, image_size)


def scaled(name: str, family: Family, variant: Variant, *, width: float, depth: float) -> Variant:
    """The variant so many times as wide and as deep, as `model.width` and `model.depth` ask. Raises ModelError."""
    if not (0 < width <= MOST_TIMES and 0 < depth <= MOST_TIMES):
        raise ModelError(
            f"Width and depth take factors greater than 0 and at most {MOST_TIMES}, got {width:g} and {depth:g}."
        )
    if family.scale is None:
        can = ", ".join(sorted(each for each, known in families().items() if known.scale is not None))
        raise ModelError(f"{name} can't be made wider or deeper by a factor; these families can: {can}.")
    return replace(variant, config=family.scale(variant.config, width, depth))


def rounded(channels: float, step: int) -> int:
    """Channels as a multiple of `step`, at least one of it; runtimes compute such numbers fastest."""
    return max(1, round(channels / step)) * step


def create_model(  # noqa: PLR0913  the network's whole description, each part by name
    name: str,
    *,
    num_classes: int | None = None,
    image_size: int | None = None,
    in_channels: int = 3,
    dropout: float | None = None,
    drop_path: float | None = None,
    activation: str | None = None,
    norm: str | None = None,
    width: float | None = None,
    depth: float | None = None,
    pretrained: str | Literal[True] | None = None,
) -> Classifier:
    """A network in training mode, with fresh weights or published ones.

    Left out, `num_classes` and `image_size` (pixels) are the paper's; another size may change the stem
    (`fit_note` says how). `dropout` and `drop_path` are rates from 0 to 1, `activation` and `norm` names;
    left out, each is the architecture's own. `width` and `depth` multiply its channels and its blocks.

    `pretrained` names weights to start from: "torchvision:IMAGENET1K_V2", "timm:TAG", a .safetensors or .pth file
    whoever wrote it, a model folder, or "default" (True means the same) for what the publisher prefers. Left out,
    `image_size` is then theirs. The network's `start` says which images they expect and what was left fresh.

    Raises ModelError for an unknown name, a size the architecture can't take, a setting it doesn't have, or
    weights that can't be had or belong to another architecture.
    """
    check_whole(error=ModelError, num_classes=num_classes, in_channels=in_channels)
    family, variant = find_variant(name)
    found: published.Published | Path | None = None
    if pretrained is not None:
        source = "default" if pretrained is True else pretrained
        found = published.find(source, name=name, timm_name=variant.timm or name)
        if image_size is None and isinstance(found, published.Published):
            image_size = found.preprocess.image_size
    if width is not None or depth is not None:
        variant = scaled(
            name, family, variant, width=1.0 if width is None else width, depth=1.0 if depth is None else depth
        )
    config, note = _fitted(family, variant, variant.image_size if image_size is None else image_size)
    num_classes = variant.num_classes if num_classes is None else num_classes
    model = family.model(config, num_classes, in_channels if found is None else 3)
    if norm is not None:  # before weights are read: those of a network with other norms don't fit
        surgery.replace_norm(model, norm)
    if found is not None:
        model.start = _load(model, found, family.renamings, form_changed=note)
        if in_channels != 3:
            surgery.change_input_channels(model, in_channels)
            adapted = f"The first convolution's kernels were averaged over 3 channels and now take {in_channels}."
            model.start = replace(model.start, notes=(*model.start.notes, adapted))
    if dropout is not None:
        surgery.set_dropout(model, dropout)
    if drop_path is not None:
        surgery.set_drop_path(model, drop_path)
    if activation is not None:
        surgery.replace_activation(model, activation)
    return model


def _load(
    model: Classifier, found: published.Published | Path, renamings: Mapping[str, Renaming], *, form_changed: str
) -> Start:
    if isinstance(found, published.Published):
        source, preprocess, unlike = found.source, found.preprocess, found.unlike
    else:
        source, preprocess, unlike = str(found), None, ()
    state = read_state(published.fetch(found) if isinstance(found, published.Published) else found)
    notes = load_weights(model, state, renamings, form_changed=form_changed, called=f"The weights {source!r}")
    return Start(source=source, preprocess=preprocess, notes=(*notes, *unlike))
