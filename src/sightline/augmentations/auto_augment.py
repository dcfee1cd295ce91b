"""AutoAugment: pairs of operations that a search found for ImageNet, CIFAR-10 or SVHN.

Source: AutoAugment: Learning Augmentation Strategies from Data (Cubuk et al., CVPR 2019), appendix, tables 7 to 9 (the
policies) and 6 (the ranges, with torchvision's share of the side for translations).
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from sightline.augmentations import Batch
from sightline.operations import as_uint8, like
from sightline.operations.policy import Space, apply_each
from sightline.randomness import Draws

NUM_MAGNITUDES = 10
SPACE = Space(
    largest={
        "shear_x": 0.3, "shear_y": 0.3, "translate_x": 150 / 331, "translate_y": 150 / 331, "rotate": 30,
        "brightness": 0.9, "color": 0.9, "contrast": 0.9, "sharpness": 0.9, "posterize": 4, "solarize": 1,
        "auto_contrast": 0, "equalize": 0, "invert": 0,
    }
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AutoAugment:
    """Apply one of 25 pairs of operations that a search found."""

    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"
    """The data set it was found on."""

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """Shapes stay: images (B, 3, H, W), targets (B, K). Float images are rounded to whole levels."""
        operations, probabilities, strengths = _table(self.policy)
        pair = draws.integers("auto_augment", len(operations))[:, 0]
        happens = draws.uniform("auto_augment happens", 2) < probabilities[pair]
        chosen = torch.where(happens, operations[pair], -1)  # (B, 2)
        signs = torch.where(draws.uniform("auto_augment sign", 2) < 0.5, -1.0, 1.0)
        images = as_uint8(batch.images)
        for step in range(2):
            images = apply_each(images, SPACE, chosen[:, step], (signs * strengths[pair])[:, step])
        return replace(batch, images=like(images, batch.images))


@cache
def _table(policy: str) -> tuple[Tensor, Tensor, Tensor]:
    """The operations' numbers, their probabilities and their strengths (0 to 1), (25, 2) each."""
    pairs = [[step.split() for step in line.split(",")] for line in POLICIES[policy].strip().splitlines()]
    operations = torch.tensor([[SPACE.names.index(name) for name, _, _ in pair] for pair in pairs])
    probabilities = torch.tensor([[float(share) for _, share, _ in pair] for pair in pairs])
    levels = torch.tensor([[int(level) for _, _, level in pair] for pair in pairs])
    return operations, probabilities, levels / (NUM_MAGNITUDES - 1)


POLICIES = {
    "imagenet": """
        posterize 0.4 8, rotate 0.6 9
        solarize 0.6 5, auto_contrast 0.6 0
        equalize 0.8 0, equalize 0.6 0
        posterize 0.6 7, posterize 0.6 6
        equalize 0.4 0, solarize 0.2 4
        equalize 0.4 0, rotate 0.8 8
        solarize 0.6 3, equalize 0.6 0
        posterize 0.8 5, equalize 1.0 0
        rotate 0.2 3, solarize 0.6 8
        equalize 0.6 0, posterize 0.4 6
        rotate 0.8 8, color 0.4 0
        rotate 0.4 9, equalize 0.6 0
        equalize 0.0 0, equalize 0.8 0
        invert 0.6 0, equalize 1.0 0
        color 0.6 4, contrast 1.0 8
        rotate 0.8 8, color 1.0 2
        color 0.8 8, solarize 0.8 7
        sharpness 0.4 7, invert 0.6 0
        shear_x 0.6 5, equalize 1.0 0
        color 0.4 0, equalize 0.6 0
        equalize 0.4 0, solarize 0.2 4
        solarize 0.6 5, auto_contrast 0.6 0
        invert 0.6 0, equalize 1.0 0
        color 0.6 4, contrast 1.0 8
        equalize 0.8 0, equalize 0.6 0
    """,
    "cifar10": """
        invert 0.1 0, contrast 0.2 6
        rotate 0.7 2, translate_x 0.3 9
        sharpness 0.8 1, sharpness 0.9 3
        shear_y 0.5 8, translate_y 0.7 9
        auto_contrast 0.5 0, equalize 0.9 0
        shear_y 0.2 7, posterize 0.3 7
        color 0.4 3, brightness 0.6 7
        sharpness 0.3 9, brightness 0.7 9
        equalize 0.6 0, equalize 0.5 0
        contrast 0.6 7, sharpness 0.6 5
        color 0.7 7, translate_x 0.5 8
        equalize 0.3 0, auto_contrast 0.4 0
        translate_y 0.4 3, sharpness 0.2 6
        brightness 0.9 6, color 0.2 8
        solarize 0.5 2, invert 0.0 0
        equalize 0.2 0, auto_contrast 0.6 0
        equalize 0.2 0, equalize 0.6 0
        color 0.9 9, equalize 0.6 0
        auto_contrast 0.8 0, solarize 0.2 8
        brightness 0.1 3, color 0.7 0
        solarize 0.4 5, auto_contrast 0.9 0
        translate_y 0.9 9, translate_y 0.7 9
        auto_contrast 0.9 0, solarize 0.8 3
        equalize 0.8 0, invert 0.1 0
        translate_y 0.7 9, auto_contrast 0.9 0
    """,
    "svhn": """
        shear_x 0.9 4, invert 0.2 0
        shear_y 0.9 8, invert 0.7 0
        equalize 0.6 0, solarize 0.6 6
        invert 0.9 0, equalize 0.6 0
        equalize 0.6 0, rotate 0.9 3
        shear_x 0.9 4, auto_contrast 0.8 0
        shear_y 0.9 8, invert 0.4 0
        shear_y 0.9 5, solarize 0.2 6
        invert 0.9 0, auto_contrast 0.8 0
        equalize 0.6 0, rotate 0.9 3
        shear_x 0.9 4, solarize 0.3 3
        shear_y 0.8 8, invert 0.7 0
        equalize 0.9 0, translate_y 0.6 6
        invert 0.9 0, equalize 0.6 0
        contrast 0.3 3, rotate 0.8 4
        invert 0.8 0, translate_y 0.0 2
        shear_y 0.7 6, solarize 0.4 8
        invert 0.6 0, rotate 0.8 4
        shear_y 0.3 7, translate_x 0.9 3
        shear_x 0.1 6, invert 0.6 0
        solarize 0.7 2, translate_y 0.6 7
        shear_y 0.8 4, invert 0.8 0
        shear_x 0.7 9, translate_y 0.8 3
        shear_y 0.8 5, auto_contrast 0.7 0
        shear_x 0.7 2, invert 0.1 0
    """,
}
"""A line a pair: operation, probability, magnitude 0 to 9 (0 too where there is none)."""

ENTRY = AutoAugment
