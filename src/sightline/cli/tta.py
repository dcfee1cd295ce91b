"""`--tta`, as `evaluate` and `predict` have it."""

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sightline.views import TestTimeAugmentation


class Tta(StrEnum):
    """The views of an image that are averaged over."""

    FLIP = "flip"
    FIVE_CROP = "five_crop"


def views_of(choice: Tta | None) -> "TestTimeAugmentation | None":
    """The choice as the library names it."""
    return None if choice is None else choice.value


def sentence(choice: Tta) -> str:
    """What was done, for the output."""
    views = {Tta.FLIP: "the image and its mirror image", Tta.FIVE_CROP: "the image's centre and four corners"}[choice]
    return f"Test-time augmentation {choice.value}: logits averaged over {views}."
