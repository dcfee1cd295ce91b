"""Random crop: a window of the network's size at a random place of the canvas.

Padding by 4 pixels is the CIFAR augmentation of Deep Residual Learning (He et al., 2016), section 4.2.
"""

from dataclasses import dataclass, replace

from sightline.augmentations import Batch
from sightline.errors import RecipeError
from sightline.operations.windows import cut
from sightline.randomness import Draws

LARGEST_PADDING = 1024


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Cut a window of data.image_size at a random place."""

    padding: int = 0
    """Pixels of black added on every side first."""

    def __post_init__(self) -> None:
        if not 0 <= self.padding <= LARGEST_PADDING:
            raise RecipeError(f"augment.crop.padding must be 0 to {LARGEST_PADDING}, got {self.padding}.")

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """Images (B, 3, H, W) -> (B, 3, image_size, image_size). Targets stay."""
        height, width = (size + 2 * self.padding for size in batch.images.shape[2:])
        places = draws.uniform("crop", 2).double()
        tops = (places[:, 0] * (height - image_size + 1)).long()
        lefts = (places[:, 1] * (width - image_size + 1)).long()
        return replace(batch, images=cut(batch.images, tops, lefts, image_size, self.padding))


ENTRY = Crop
