"""Mixup: each image becomes a weighted mean with another of its batch, and so does its target.

Source: mixup: Beyond Empirical Risk Minimization (Zhang et al., ICLR 2018), section 2.
Differs: the paper's code draws one weight for the whole batch; here each image has its own.
"""

from dataclasses import dataclass, replace

import torch

from sightline.augmentations import Batch, Mixing, within
from sightline.operations import beside, like, per_image
from sightline.operations.mixing import mix_targets, mixing_weights
from sightline.randomness import Draws


@dataclass(frozen=True, kw_only=True)
class Mixup(Mixing):
    """Blend images, and their targets, with another image of the batch."""

    alpha: float = 0.2
    """Beta(alpha, alpha) draws the weight, 0.01 to 100. Larger mixes more; the paper has 0.1 to 0.4 for ImageNet."""
    probability: float = 1.0
    """How often, 0 to 1. With cutmix in the recipe too, 0.5 and 0.5 choose one of them for each image."""

    def __post_init__(self) -> None:
        within("augment.mixup.alpha", self.alpha, 0.01, 100)
        within("augment.mixup.probability", self.probability, 0, 1)

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """Shapes stay: images (B, 3, H, W), targets (B, K), whose rows sum to what they did.

        The partner is the next image in a random order of the batch: a function of seed, epoch and the
        batch's samples.
        """
        chosen = draws.uniform("mixing")[:, 0] < self.probability
        keep = torch.where(chosen, mixing_weights(draws, "mixup", self.alpha), 1.0)  # (B,)
        partners = beside(draws.partners("mixup partner"), batch.images)
        weights = per_image(keep.float(), batch.images)
        images = batch.images.float()
        mixed = like(weights * images + (1 - weights) * images[partners], batch.images)
        return replace(batch, images=mixed, targets=mix_targets(batch.targets, partners, keep))


ENTRY = Mixup
