"""Losses: cross-entropy, focal and binary, of logits (B, K) and targets (B, K) that may be mixed.

Targets are 0 to 1: rows that sum to 1 where an image has one label, any sum where it may have several. All
figures are computed in float32 at least, whatever precision the network has.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import RecipeError, unknown_name
from sightline.recipe import LossConfig

_TINY = 1e-12
"""Least 1 - p in the focal loss: below gamma 1 its slope has no end at 0."""


class Loss(nn.Module):
    """The loss that a recipe asks for; its class weights move with it between devices."""

    weights: Tensor | None

    def __init__(
        self, config: LossConfig, *, multi_label: bool = False, weights: NDArray[np.float64] | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.multi_label = multi_label
        self.name = config.name or ("binary" if multi_label else "cross_entropy")
        tensor = None if weights is None else torch.from_numpy(weights).float()
        self.register_buffer("weights", tensor, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor, *, some_unlabelled: bool = False) -> Tensor:
        """The mean over the images, a scalar.

        With `some_unlabelled` a row's sum is how much of the image has a label: less than 1 where it was mixed with one
        that has none, 0 for such an image, whose loss is 0.
        """
        smoothing = self.config.label_smoothing
        if not some_unlabelled:
            return self._rows(logits.float(), targets, smoothing).mean()
        known = targets.sum(1)
        of_the_known = targets / known.clamp_min(_TINY)[:, None]
        return (self._rows(logits.float(), of_the_known, smoothing) * known).mean()

    def validation(self, logits: Tensor, targets: Tensor) -> float:
        """The same in double precision and without label smoothing, which belongs to training.

        logits (N, K); targets (N,) class numbers, or (N, K) where images may have several labels.
        """
        rows = targets if targets.ndim == 2 else F.one_hot(targets, logits.shape[1])
        return self._rows(logits.double(), rows.double(), 0.0).mean().item()

    def _rows(self, logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        """(B,) the loss of each image."""
        weights = None if self.weights is None else self.weights.to(logits)
        if self.name == "cross_entropy":
            return F.cross_entropy(logits, targets, weights, reduction="none", label_smoothing=smoothing)
        if self.name == "focal":
            loss: Callable[..., Tensor] = sigmoid_focal if self.multi_label else softmax_focal
            return loss(logits, targets, self.config.focal_gamma, weights)
        if self.multi_label:
            return F.binary_cross_entropy_with_logits(
                logits, targets * (1 - smoothing) + smoothing / 2, pos_weight=weights, reduction="none"
            ).mean(1)
        smoothed = targets * (1 - smoothing) + smoothing / targets.shape[1]
        rows = F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none").mean(1)
        return rows if weights is None else rows * (targets * weights).sum(1)


def softmax_focal(logits: Tensor, targets: Tensor, gamma: float, weights: Tensor | None = None) -> Tensor:
    """(B,): cross-entropy in which an image counts (1 - p)^gamma, where p is its class's probability.

    Source: Focal Loss for Dense Object Detection (Lin et al., 2017), equation 4, whose sigmoid is the softmax of two
    classes, here carried on to K. `weights` (K,) are the paper's alpha, equation 5.
    """
    log_p = logits.log_softmax(1)  # (B, K)
    terms = targets * _hardness(log_p, gamma) * -log_p
    return (terms if weights is None else terms * weights).sum(1)


def sigmoid_focal(logits: Tensor, targets: Tensor, gamma: float, weights: Tensor | None = None) -> Tensor:
    """(B,): binary cross-entropy, meaned over the classes, in which an answer counts (1 - p)^gamma.

    p is the probability given to the right answer, yes or no; `weights` (K,) multiply the answers yes.
    Source: Lin et al. (2017), equation 4.
    """
    log_yes, log_no = F.logsigmoid(logits), F.logsigmoid(-logits)
    yes = targets * _hardness(log_yes, gamma) * -log_yes
    no = (1 - targets) * _hardness(log_no, gamma) * -log_no
    return ((yes if weights is None else yes * weights) + no).mean(1)


def _hardness(log_p: Tensor, gamma: float) -> Tensor:
    return (-torch.expm1(log_p)).clamp_min(_TINY) ** gamma


def class_weights(config: LossConfig, classes: Sequence[str], counts: Sequence[int]) -> NDArray[np.float64] | None:
    """(K,) the weight of each class, from its number of training images; None where all weigh the same.

    "balanced" and "effective" have a mean of 1 over the training images, so that the learning rate keeps its
    meaning; a class without any weighs 0. Raises RecipeError for the name of a class that there isn't, with the
    nearest.

    Source of "effective": Class-Balanced Loss Based on Effective Number of Samples (Cui et al., 2019), equation 2.
    """
    wanted, numbers = config.class_weights, np.array(counts, dtype=np.float64)
    if wanted is None:
        return None
    if isinstance(wanted, dict):
        for name in wanted:
            if name not in classes:
                listing = "`sightline check`"
                raise RecipeError(f"loss.class_weights: {unknown_name('class', name, classes, listing=listing)}")
        return np.array([wanted.get(name, 1.0) for name in classes])
    beta = config.effective_beta
    size = numbers if wanted == "balanced" else (1 - beta**numbers) / (1 - beta)
    weights = np.divide(1, size, out=np.zeros_like(size), where=size > 0)
    return weights * numbers.sum() / (weights * numbers).sum()
