"""Gaussian blur of some images, each by a width of its own.

Source: A Simple Framework for Contrastive Learning of Visual Representations (Chen et al., 2020), appendix A.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.augmentations import Batch, ordered, within
from sightline.operations import beside, like
from sightline.randomness import Draws


@dataclass(frozen=True, kw_only=True)
class Blur:
    """Blur images with a Gaussian."""

    probability: float = 0.5
    """How often, 0 to 1."""
    sigma: tuple[float, float] = (0.1, 2.0)
    """Smallest and largest standard deviation of the Gaussian, in pixels, 0.01 to 50."""

    def __post_init__(self) -> None:
        within("augment.blur.probability", self.probability, 0, 1)
        ordered("augment.blur.sigma", self.sigma, 0.01, 50)

    def widths(self, draws: Draws) -> Tensor:
        """(B,) standard deviations in pixels; 0 for images that stay."""
        drawn = draws.uniform("blur", 2)
        low, high = self.sigma
        return torch.where(drawn[:, 0] < self.probability, low + drawn[:, 1] * (high - low), 0)

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """Shapes stay: images (B, 3, H, W), targets (B, K). Beyond the border the image is mirrored."""
        sigmas = self.widths(draws)
        rows = torch.nonzero(sigmas)[:, 0]
        if len(rows) == 0:
            return batch
        places = beside(rows, batch.images)
        blurred = _blur(batch.images[places].float(), sigmas[rows], math.ceil(3 * self.sigma[1]))
        images = batch.images.clone()
        images[places] = like(blurred, images)
        return replace(batch, images=images)


def _blur(images: Tensor, sigmas: Tensor, radius: int) -> Tensor:
    """Images (B, 3, H, W) float, each by its own sigma (B,); the kernel ends `radius` pixels from its middle."""
    count, channels, height, width = images.shape
    flat = images.reshape(1, count * channels, height, width)  # one channel an image and colour
    for axis, side in ((3, width), (2, height)):
        reach = min(radius, side - 1)  # no mirror shows more than the image
        distance = torch.arange(-reach, reach + 1)
        weights = torch.exp(-0.5 * (distance / sigmas[:, None]) ** 2)  # (B, 2 reach + 1)
        weights = (weights / weights.sum(1, keepdim=True)).repeat_interleave(channels, 0).to(images.device)
        sides = [reach, reach, 0, 0] if axis == 3 else [0, 0, reach, reach]
        kernel = weights[:, None, None, :] if axis == 3 else weights[:, None, :, None]
        flat = F.conv2d(F.pad(flat, sides, mode="reflect"), kernel, groups=count * channels)
    return flat.reshape(images.shape)


ENTRY = Blur
