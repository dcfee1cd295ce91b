"""What the labels of the training images decide: the loss, the weights of the classes, the make-up of an epoch."""

import logging

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.data.phrases import counted
from sightline.data.sampling import repeats
from sightline.data.table import ImageTable
from sightline.evaluation.ranking import mean_average_precision
from sightline.recipe import DataConfig, LossConfig
from sightline.training.losses import Loss, class_weights

log = logging.getLogger("sightline")


def build_loss(config: LossConfig, table: ImageTable, places: NDArray[np.int64]) -> Loss:
    """The loss for the training images at `places`; says what was chosen for the user. Raises RecipeError."""
    targets = table.targets[places]
    counts = targets.sum(0) if table.multi_label else np.bincount(targets, minlength=len(table.classes))
    weights = class_weights(config, table.classes, counts.tolist())
    loss = Loss(config, multi_label=table.multi_label, weights=weights)
    if table.multi_label and config.name is None:
        log.info("Loss: binary cross-entropy, a yes or no for each class, since an image may have several labels.")
    if weights is not None:
        least, most = int(weights.argmin()), int(weights.argmax())
        log.info(
            f"Class weights: {weights[least]:.3g} ({table.classes[least]!r}) to "
            f"{weights[most]:.3g} ({table.classes[most]!r})."
        )
    return loss


def balance(config: DataConfig, table: ImageTable, places: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """(len(places),) the class numbers to balance by, said with what it means; None where nothing is balanced."""
    if config.sampling != "balanced":
        return None
    targets = table.targets[places]
    rarest, times = repeats(targets)
    images = counted(int((targets == rarest).sum()), "image")
    log.info(
        f"Balanced sampling: each class is {len(targets) / len(np.unique(targets)):,.0f} images of an epoch; the "
        f"rarest, {table.classes[rarest]!r} with {images}, comes {times:.1f} times."
    )
    return targets


def accuracy(logits: Tensor, targets: Tensor) -> float:
    """The share of images (N, K) that are right, from class numbers (N,).

    With several labels an image, targets (N, K), the mean average precision of the classes: no threshold is chosen yet.
    """
    if targets.ndim == 2:
        return mean_average_precision(logits.numpy(), targets.numpy())
    return (logits.argmax(1) == targets).to(torch.float64).mean().item()
