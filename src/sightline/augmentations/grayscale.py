"""Greyscale: some images lose their colours.

Source: A Simple Framework for Contrastive Learning of Visual Representations (Chen et al., 2020), appendix A.
"""

from dataclasses import dataclass, replace

from sightline.augmentations import Batch, within
from sightline.operations import like
from sightline.operations.colour import grey
from sightline.operations.windows import change_some
from sightline.randomness import Draws


@dataclass(frozen=True, kw_only=True)
class Grayscale:
    """Turn images grey; they keep three channels."""

    probability: float = 0.2
    """How often, 0 to 1."""

    def __post_init__(self) -> None:
        within("augment.grayscale.probability", self.probability, 0, 1)

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """Shapes stay: images (B, 3, H, W), targets (B, K)."""
        chosen = draws.uniform("grayscale")[:, 0] < self.probability
        greyed = change_some(batch.images, chosen, lambda images: like(grey(images.float()), images))
        return replace(batch, images=greyed)


ENTRY = Grayscale
