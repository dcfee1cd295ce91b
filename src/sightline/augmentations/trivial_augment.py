"""TrivialAugment: one operation of one magnitude, both chosen at random; nothing to tune.

Source: TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation (Müller and Hutter, ICCV 2021), section 3,
with the "wide" ranges of its table 1. Translations reach 32 pixels, which may push a small image out whole.
"""

from dataclasses import dataclass, replace

import torch

from sightline.augmentations import Batch
from sightline.operations import as_uint8, like
from sightline.operations.policy import Space, apply_each
from sightline.randomness import Draws

NUM_MAGNITUDES = 31
SPACE = Space(
    largest={
        "identity": 0, "shear_x": 0.99, "shear_y": 0.99, "translate_x": 32, "translate_y": 32, "rotate": 135,
        "brightness": 0.99, "color": 0.99, "contrast": 0.99, "sharpness": 0.99, "posterize": 6, "solarize": 1,
        "auto_contrast": 0, "equalize": 0,
    },
    translate="pixels",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrivialAugment:
    """Apply one operation, chosen at random with its magnitude."""

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """Shapes stay: images (B, 3, H, W), targets (B, K). Float images are rounded to whole levels."""
        chosen = draws.integers("trivial_augment", len(SPACE.names))[:, 0]
        negative = draws.uniform("trivial_augment sign")[:, 0] < 0.5
        magnitudes = draws.integers("trivial_augment magnitude", NUM_MAGNITUDES)[:, 0]
        strengths = torch.where(negative, -1.0, 1.0) * magnitudes / (NUM_MAGNITUDES - 1)
        images = apply_each(as_uint8(batch.images), SPACE, chosen, strengths)
        return replace(batch, images=like(images, batch.images))


ENTRY = TrivialAugment
