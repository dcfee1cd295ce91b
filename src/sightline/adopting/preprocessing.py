"""How images were prepared for a network that comes from elsewhere: what is stated, and what has to be assumed."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from sightline import pretrained
from sightline.errors import MissingPackageError, ModelError, RecipeError
from sightline.preprocess import IMAGENET_MEAN, IMAGENET_STD, Interpolation, Preprocess

CENTRE = 0.875
"""Of the resized side is what ImageNet's networks are shown in evaluation, unless their authors say otherwise."""

SMALL = 64
"""Pixels; networks for smaller images are shown them whole."""


@dataclass(frozen=True, kw_only=True)
class StatedPreprocess:
    """What the user knows of the preprocessing, as in `Preprocess`; None where it isn't known."""

    image_size: int | None = None
    resize: int | None = None
    interpolation: Interpolation | None = None
    mean: tuple[float, float, float] | None = None
    """On the scale 0 to 1. A network that normalises inside takes 0 here, and 1 for the std; or 1/255 for pixels."""
    std: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != 3:
                raise RecipeError(f"{name} is of three numbers, one for each channel, got {values}.")
        if self.mean is not None and not all(0 <= value <= 1 for value in self.mean):
            raise RecipeError(
                f"mean is of pixels from 0 to 1, got {self.mean}. Divide what is meant for pixels up to 255 by 255."
            )
        if self.std is not None and not all(0 < value < math.inf for value in self.std):
            raise RecipeError(f"Every std must be a number greater than 0, got {self.std}.")

    def settle(
        self,
        model: str | None,
        *,
        known: Preprocess | None = None,
        unlike: tuple[str, ...] = (),
        image_size: int | None = None,
    ) -> tuple[Preprocess, str]:
        """The whole preprocessing, and sentences on it that name what is assumed.

        `model` is an architecture, whose published weights tell what they expect; `known` is what a file says itself,
        `unlike` sentences on what it says besides, and `image_size` the size that its input has. Raises ModelError for
        a size that the file doesn't take, RecipeError for values that can't be.
        """
        if None not in (image_size, self.image_size) and image_size != self.image_size:
            raise ModelError(f"The file takes images of {image_size} pixels, not of {self.image_size}.")
        size = self.image_size or image_size
        if known is not None:
            found, whose = known, "from config.json"
        else:
            found, whose, unlike = _published(model, size)
        size = size or found.image_size
        values: dict[str, Any] = asdict(found)
        values |= {"image_size": size, "resize": max(round(found.resize * size / found.image_size), size)}
        stated = {name: value for name, value in asdict(self).items() if value is not None}
        settled = Preprocess(**values | stated)
        given = {*stated, *(["image_size"] if image_size is not None else [])}
        assumed = [name for name in values if name not in given]
        return settled, " ".join((_sentence(settled, assumed, whose), *unlike))


def _published(model: str | None, image_size: int | None) -> tuple[Preprocess, str, tuple[str, ...]]:
    """What the published weights of an architecture expect, else what is usual; whose settings they are, and more."""
    if model is None:
        return _usual(image_size or 224), "as is usual for ImageNet", ()
    from sightline.models import find_variant

    variant = find_variant(model)[1]
    theirs = model.removeprefix("timm/")
    tagged = theirs if model.startswith("timm/") and "." in theirs else ""
    source = f"timm:{tagged}" if model.startswith("timm/") else "default"
    try:
        published = pretrained.find(source, name=model, timm_name=variant.timm or model)
    except (ModelError, MissingPackageError):  # nobody publishes any, or timm, which would know, isn't installed
        return _usual(image_size or variant.image_size), "as is usual for ImageNet", ()
    assert isinstance(published, pretrained.Published)  # a local file has no such name
    return published.preprocess, f"as for {published.source}", published.unlike


def _usual(image_size: int) -> Preprocess:
    resize = image_size if image_size <= SMALL else round(image_size / CENTRE)
    return Preprocess(image_size=image_size, resize=resize, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def _sentence(preprocess: Preprocess, assumed: list[str], whose: str) -> str:
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (preprocess.mean, preprocess.std))
    settled = (
        f"Images: short side to {preprocess.resize} pixels ({preprocess.interpolation}), centre of "
        f"{preprocess.image_size}, mean {mean}, std {std}"
    )
    return f"{settled}; assumed {whose}: {', '.join(assumed)}." if assumed else f"{settled}; all as stated."
