"""Horizontal flip: every second image, mirrored."""

from dataclasses import dataclass, replace

from sightline.augmentations import Batch
from sightline.errors import RecipeError
from sightline.operations.windows import change_some
from sightline.randomness import Draws


@dataclass(frozen=True, kw_only=True)
class Flip:
    """Mirror images left to right."""

    probability: float = 0.5
    """How often an image is mirrored, 0 to 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise RecipeError(f"augment.flip.probability must be 0 to 1, got {self.probability}.")

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """Shapes stay: images (B, 3, H, W), targets (B, K)."""
        mirrored = draws.uniform("flip")[:, 0] < self.probability
        return replace(batch, images=change_some(batch.images, mirrored, lambda images: images.flip(3)))


ENTRY = Flip
