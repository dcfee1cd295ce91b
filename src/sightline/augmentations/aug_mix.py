"""AugMix: each image is mixed with chains of mild operations on itself.

Source: AugMix: A Simple Data Processing Method to Improve Robustness and Uncertainty (Hendrycks et al., ICLR 2020),
section 3; torchvision's ranges. Differs: the images alone, without the paper's Jensen-Shannon consistency loss.
The operations are the paper's: none that is a corruption of ImageNet-C.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sightline.augmentations import Batch, within
from sightline.operations import as_uint8, like, per_image
from sightline.operations.mixing import dirichlet, mixing_weights
from sightline.operations.policy import Space, apply_each
from sightline.randomness import Draws

NUM_MAGNITUDES = 10
LONGEST_CHAIN = 3
SPACE = Space(
    largest={
        "shear_x": 0.3, "shear_y": 0.3, "translate_x": 1 / 3, "translate_y": 1 / 3, "rotate": 30, "posterize": 4,
        "solarize": 1, "auto_contrast": 0, "equalize": 0,
    },
    most_bits=4,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AugMix:
    """Mix images with chains of mild operations on themselves."""

    severity: int = 3
    """How strong the operations may be, 1 to 10."""
    num_chains: int = 3
    """Chains that are mixed, each of 1 to 3 operations; 1 to 10."""
    alpha: float = 1.0
    """Beta and Dirichlet parameter of the weights, 0.01 to 100; 1 makes all weights as likely."""

    def __post_init__(self) -> None:
        within("augment.aug_mix.severity", self.severity, 1, NUM_MAGNITUDES)
        within("augment.aug_mix.num_chains", self.num_chains, 1, 10)
        within("augment.aug_mix.alpha", self.alpha, 0.01, 100)

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """Shapes stay: images (B, 3, H, W), targets (B, K). Float images are rounded to whole levels first."""
        images = as_uint8(batch.images)
        own = mixing_weights(draws, "aug_mix", self.alpha)  # (B,)
        shares = dirichlet(draws, "aug_mix chains", self.alpha, self.num_chains) * (1 - own)[:, None]
        mixed = per_image(own.float(), images) * images
        for chain in range(self.num_chains):
            mixed += per_image(shares[:, chain].float(), images) * self._chain(images, draws, f"aug_mix chain {chain}")
        return replace(batch, images=like(mixed, batch.images))

    def _chain(self, images: Tensor, draws: Draws, operation: str) -> Tensor:
        """1 to 3 operations, one after another."""
        lengths = 1 + draws.integers(f"{operation} length", LONGEST_CHAIN)  # (B, 1)
        chosen = draws.integers(operation, len(SPACE.names), LONGEST_CHAIN)
        chosen = torch.where(torch.arange(LONGEST_CHAIN) < lengths, chosen, -1)
        magnitudes = draws.integers(f"{operation} magnitude", self.severity, LONGEST_CHAIN) / (NUM_MAGNITUDES - 1)
        strengths = torch.where(draws.uniform(f"{operation} sign", LONGEST_CHAIN) < 0.5, -1.0, 1.0) * magnitudes
        for step in range(LONGEST_CHAIN):
            images = apply_each(images, SPACE, chosen[:, step], strengths[:, step])
        return images


ENTRY = AugMix
