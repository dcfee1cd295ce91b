"""Colour jitter: brightness, contrast, saturation and hue of each image, in an order of its own.

Source: Some Improvements on Deep Convolutional Neural Network Based Image Classification (Howard, 2013), section 2.2,
in the form of torchvision's ColorJitter.
"""

import itertools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sightline.augmentations import Batch, within
from sightline.operations import beside, like
from sightline.operations.colour import adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation
from sightline.randomness import Draws

ADJUSTMENTS = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
ORDERS = tuple(itertools.permutations(range(len(ADJUSTMENTS))))


@dataclass(frozen=True, kw_only=True)
class ColorJitter:
    """Change brightness, contrast, saturation and hue."""

    brightness: float = 0.4
    """The factor lies within 1 - brightness and 1 + brightness; 0 to 1."""
    contrast: float = 0.4
    """The same for the distance from the image's mean grey."""
    saturation: float = 0.4
    """The same for the distance from greyscale."""
    hue: float = 0.1
    """Farthest move around the circle of hues to either side, 0 to 0.5 of a turn."""

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            within(f"augment.color_jitter.{name}", getattr(self, name), 0, 1)
        within("augment.color_jitter.hue", self.hue, 0, 0.5)

    def amounts(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """For each image the four amounts (B, 4), and the order (B, 4) in which ADJUSTMENTS are applied."""
        signed = 2 * draws.uniform("color_jitter", 4) - 1
        reach = torch.tensor([self.brightness, self.contrast, self.saturation, self.hue])
        amounts = signed * reach + torch.tensor([1.0, 1.0, 1.0, 0.0])
        order = draws.integers("color_jitter order", len(ORDERS))[:, 0]
        return amounts, torch.tensor(ORDERS)[order]

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """Shapes stay: images (B, 3, H, W), targets (B, K)."""
        amounts, order = self.amounts(draws)
        reach = (self.brightness, self.contrast, self.saturation, self.hue)
        images = batch.images.float()
        for place in range(len(ADJUSTMENTS)):
            result = images.clone()
            for number, adjust in enumerate(ADJUSTMENTS):
                rows = torch.nonzero(order[:, place] == number)[:, 0]
                if len(rows) and reach[number]:
                    places = beside(rows, images)
                    result[places] = adjust(images[places], amounts[rows, number])
            images = result
        return replace(batch, images=like(images, batch.images))


ENTRY = ColorJitter
