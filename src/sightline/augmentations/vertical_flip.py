"""Vertical flip: every second image, upside down. For images without an up: from above, through a microscope."""

from dataclasses import dataclass, replace

from sightline.augmentations import Batch, within
from sightline.operations.windows import change_some
from sightline.randomness import Draws


@dataclass(frozen=True, kw_only=True)
class VerticalFlip:
    """Mirror images top to bottom."""

    probability: float = 0.5
    """How often an image is mirrored, 0 to 1."""

    def __post_init__(self) -> None:
        within("augment.vertical_flip.probability", self.probability, 0, 1)

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """Shapes stay: images (B, 3, H, W), targets (B, K)."""
        mirrored = draws.uniform("vertical_flip")[:, 0] < self.probability
        return replace(batch, images=change_some(batch.images, mirrored, lambda images: images.flip(2)))


ENTRY = VerticalFlip
