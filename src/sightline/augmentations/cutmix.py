"""CutMix: a rectangle of each image is taken from another of its batch, and as much of its target.

Source: CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features (Yun et al., ICCV 2019),
section 3.1. Differs: each image has a rectangle of its own, where the paper's code has one for the batch.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sightline.augmentations import Batch, Mixing, within
from sightline.operations import beside
from sightline.operations.mixing import mix_targets, mixing_weights
from sightline.randomness import Draws


@dataclass(frozen=True, kw_only=True)
class Cutmix(Mixing):
    """Paste a rectangle of another image of the batch into each, and mix the targets by area."""

    alpha: float = 1.0
    """Beta(alpha, alpha) draws the share that is kept, 0.01 to 100; the paper has 1, where all shares are as likely."""
    probability: float = 1.0
    """How often, 0 to 1. With mixup in the recipe too, 0.5 and 0.5 choose one of them for each image."""

    def __post_init__(self) -> None:
        within("augment.cutmix.alpha", self.alpha, 0.01, 100)
        within("augment.cutmix.probability", self.probability, 0, 1)

    def boxes(self, draws: Draws, *, height: int, width: int) -> Tensor:
        """(B, 4) int64: left, top, right and bottom of what is pasted, in pixels, within the image."""
        # From the far end of mixup's draw: at 0.5 and 0.5 the two never meet.
        chosen = draws.uniform("mixing")[:, 0] >= 1 - self.probability
        half = 0.5 * (1 - mixing_weights(draws, "cutmix", self.alpha)).sqrt() * chosen  # (B,) share of the side
        centres = draws.uniform("cutmix centre", 2).double()
        x, y = (centres[:, 0] * width).long(), (centres[:, 1] * height).long()
        across, down = (half * width).long(), (half * height).long()
        left, right = (x - across).clamp(min=0), (x + across).clamp(max=width)
        top, bottom = (y - down).clamp(min=0), (y + down).clamp(max=height)
        return torch.stack([left, top, right, bottom], dim=1)

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """Shapes stay: images (B, 3, H, W), targets (B, K), whose rows sum to what they did.

        The partner is the next image in a random order of the batch: a function of seed, epoch and the
        batch's samples.
        """
        height, width = batch.images.shape[2:]
        left, top, right, bottom = self.boxes(draws, height=height, width=width)[:, :, None].unbind(1)  # (B, 1) each
        rows, columns = torch.arange(height), torch.arange(width)
        pasted = ((rows >= top) & (rows < bottom))[:, :, None] & ((columns >= left) & (columns < right))[:, None, :]
        keep = 1 - pasted.double().mean(dim=(1, 2))  # by what was pasted, not by what was drawn
        partners = beside(draws.partners("cutmix partner"), batch.images)
        images = torch.where(beside(pasted[:, None], batch.images), batch.images[partners], batch.images)
        return replace(batch, images=images, targets=mix_targets(batch.targets, partners, keep))


ENTRY = Cutmix
