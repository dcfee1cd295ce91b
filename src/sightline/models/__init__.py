"""Architectures: one file per paper, each binding ENTRY to a Family of variants.

`create_model` builds any of them by name. The contract is `Classifier`: features, maps, a head.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

from torch import Tensor, nn

from sightline import catalog, surgery
from sightline.errors import ModelError, unknown_name


@dataclass(frozen=True, slots=True)
class Stage:
    """A place in a network where a feature map is taken."""

    name: str
    """The submodule's name, as in `named_modules`."""
    channels: int
    stride: int
    """Input pixels per pixel of the map."""


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


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One network of a paper, by the numbers that were published."""

    config: Any
    """The paper's own frozen dataclass of widths, depths and the like."""
    num_params: int
    """Exact, with `num_classes` classes and without auxiliary classifiers."""
    num_macs: int | None = None
    """Multiply-accumulates for one image of `image_size`, as published; None where nobody published them."""
    top1: float | None = None
    """Published accuracy on the set it was made for (ImageNet-1k validation unless `num_classes` says CIFAR), percent."""
    source: str = ""
    """Where num_macs and top1 come from."""
    image_size: int = 224
    num_classes: int = 1000


Renaming = tuple[tuple[str, str | None], ...]
"""Regular expressions and replacements, applied to each tensor's name in turn; None drops the tensor."""


def any_size(config: Any, image_size: int) -> tuple[Any, str]:
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
    """Raises ModelError with the nearest name when there is none."""
    if name not in variants():
        raise ModelError(unknown_name("model", name, variants(), listing="`sightline models`"))
    return variants()[name]


def fit_note(name: str, image_size: int) -> str:
    """What `create_model` changes in this architecture for images of that size, as a sentence; "" if nothing."""
    family, variant = find_variant(name)
    return "" if image_size == variant.image_size else family.fit(variant.config, image_size)[1]


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    image_size: int | None = None,
    in_channels: int = 3,
    dropout: float | None = None,
    drop_path: float | None = None,
    activation: str | None = None,
) -> Classifier:
    """A network with fresh weights, in training mode.

    Left out, `num_classes` and `image_size` (pixels) are the paper's; another size may change the stem
    (`fit_note` says how). `dropout` and `drop_path` are rates from 0 to 1 and `activation` a name;
    left out, each is the architecture's own.

    Raises ModelError for an unknown name, a size the architecture can't take, or a setting it doesn't have.
    """
    family, variant = find_variant(name)
    config = variant.config
    if image_size is not None and image_size != variant.image_size:
        config, _ = family.fit(config, image_size)
    model = family.model(config, variant.num_classes if num_classes is None else num_classes, in_channels)
    if dropout is not None:
        surgery.set_dropout(model, dropout)
    if drop_path is not None:
        surgery.set_drop_path(model, drop_path)
    if activation is not None:
        surgery.replace_activation(model, activation)
    return model
