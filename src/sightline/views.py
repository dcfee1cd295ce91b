"""Test-time augmentation: a network's answer averaged over several views of an image.

The views' logits are averaged, not their probabilities: calibration, thresholds and everything that starts from
logits stays as it is. A temperature was fitted on single views, so that the calibration fits averages less well.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from sightline.errors import RecipeError, unknown_name
from sightline.preprocess import Preprocess

if TYPE_CHECKING:  # an exported model's views are arrays
    from torch import Tensor

Pixels = TypeVar("Pixels", "Tensor", NDArray[np.uint8])

TestTimeAugmentation = Literal["flip", "five_crop"]
"""flip: the image and its mirror image. five_crop: the centre and the four corners of the resized image."""


def needs_canvas(tta: TestTimeAugmentation | None) -> bool:
    """Whether the views are cut from the canvas, not from the window that a network sees."""
    return tta == "five_crop"


def check_views(tta: TestTimeAugmentation | None, preprocess: Preprocess) -> None:
    """Raise RecipeError for an unknown name, and where all views would be the same."""
    if tta is not None and tta not in get_args(TestTimeAugmentation):
        raise RecipeError(
            unknown_name("tta", tta, get_args(TestTimeAugmentation), listing="`sightline predict --help`")
        )
    if tta == "five_crop" and preprocess.resize == preprocess.image_size:
        raise RecipeError(
            f"--tta five_crop needs images resized to more than the {preprocess.image_size} pixels the network sees; "
            f"this model resizes them to {preprocess.resize}. Use --tta flip, or train with a larger data.resize."
        )


def averaged(
    model: "Callable[[Tensor], Tensor]", pixels: "Tensor", preprocess: Preprocess, tta: TestTimeAugmentation | None
) -> "Tensor":
    """(B, K) logits of `model`, the mean over the views of `pixels`, which are (B, 3, H, W) uint8.

    H and W are those of the canvas where `needs_canvas(tta)`, else the image size. Without `tta` there is one view.
    """
    import torch

    rows = [model(preprocess.normalize(view)) for view in views(pixels, preprocess, tta)]
    return rows[0] if len(rows) == 1 else torch.stack(rows).mean(0)


def views(pixels: Pixels, preprocess: Preprocess, tta: TestTimeAugmentation | None) -> list[Pixels]:
    """The views of pixels (B, 3, H, W), each (B, 3, image_size, image_size); the plain one first."""
    if tta is None:
        return [pixels]
    if tta == "flip":
        mirrored = list(range(pixels.shape[3] - 1, -1, -1))  # tensors take no step of -1
        return [pixels, pixels[:, :, :, mirrored]]
    size, far = preprocess.image_size, preprocess.resize - preprocess.image_size
    corners = [(preprocess.margin, preprocess.margin), (0, 0), (0, far), (far, 0), (far, far)]
    return [pixels[:, :, top : top + size, left : left + size] for top, left in corners]
