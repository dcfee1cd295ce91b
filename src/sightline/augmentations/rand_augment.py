"""RandAugment: a few operations chosen at random, all of one magnitude.

Source: RandAugment: Practical Automated Data Augmentation with a Reduced Search Space (Cubuk et al., 2020), section 3;
torchvision's ranges, on its 31 magnitudes.
"""

from dataclasses import dataclass, replace

import torch

from sightline.augmentations import Batch, within
from sightline.operations import as_uint8, like
from sightline.operations.policy import Space, apply_each
from sightline.randomness import Draws

LARGEST_MAGNITUDE = 30
SPACE = Space(
    largest={
        "identity": 0, "shear_x": 0.3, "shear_y": 0.3, "translate_x": 150 / 331, "translate_y": 150 / 331,
        "rotate": 30, "brightness": 0.9, "color": 0.9, "contrast": 0.9, "sharpness": 0.9, "posterize": 4,
        "solarize": 1, "auto_contrast": 0, "equalize": 0,
    }
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RandAugment:
    """Apply operations chosen at random, all of one magnitude."""

    num_ops: int = 2
    """Operations for each image, one after another, 1 to 10."""
    magnitude: int = 9
    """How strong they are, 0 to 30; half of the signed ones go the other way."""

    def __post_init__(self) -> None:
        within("augment.rand_augment.num_ops", self.num_ops, 1, 10)
        within("augment.rand_augment.magnitude", self.magnitude, 0, LARGEST_MAGNITUDE)

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """Shapes stay: images (B, 3, H, W), targets (B, K). Float images are rounded to whole levels."""
        chosen = draws.integers("rand_augment", len(SPACE.names), self.num_ops)
        negative = draws.uniform("rand_augment sign", self.num_ops) < 0.5
        strengths = torch.where(negative, -1.0, 1.0) * self.magnitude / LARGEST_MAGNITUDE
        images = as_uint8(batch.images)
        for step in range(self.num_ops):
            images = apply_each(images, SPACE, chosen[:, step], strengths[:, step])
        return replace(batch, images=like(images, batch.images))


ENTRY = RandAugment
