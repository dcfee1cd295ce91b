"""The batch size for this machine: the largest that fits a GPU, or the smallest that keeps a CPU busy."""

import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from sightline.augmentations import Batch
from sightline.data.loader import MemoryRanOutError, explained_failures
from sightline.data.prepare import prepare
from sightline.data.table import ImageTable
from sightline.devices import autocast, pick_device, synchronize
from sightline.errors import SightlineError
from sightline.models import Classifier
from sightline.randomness import seed_torch
from sightline.recipe import Recipe
from sightline.summary import training_memory
from sightline.training.clipping import clip_gradients
from sightline.training.fastest import resolved
from sightline.training.job import architecture, check_job
from sightline.training.labels import build_loss
from sightline.training.layers import settle
from sightline.training.order import training_order
from sightline.training.short import check_steps, shortened
from sightline.training.task import ClassificationTask
from sightline.training.teacher import teacher_of

NEAR = 0.95
"""On a CPU the smallest batch is suggested whose images a second reach this share of the best."""
LONGEST_STEP = 20.0
"""Seconds of one step after which no larger batch is tried."""


@dataclass(frozen=True, kw_only=True)
class BatchSizes:
    """What was tried."""

    images_per_second: dict[int, float]
    """By batch size, of those that fitted."""
    suggestion: int
    reason: str
    """A sentence."""


def find_batch_size(recipe: Recipe, data: str | Path) -> BatchSizes:
    """Try training steps of growing batches of noise in the recipe's shapes; only classes are taken from the data.

    Raises SightlineError when not even the smallest batch fits, and like `train`.
    """
    check_steps(recipe)
    check_job(recipe)
    device = pick_device(recipe.train.device)
    prepared = prepare(data, recipe.data, recipe.seed)
    recipe = resolved(recipe)
    indices = prepared.splits.train
    repeats = recipe.data.repeats
    most = max(1, min(len(indices), recipe.optim.target_batch or len(indices)) // repeats)  # different images
    steps = _Steps(recipe, prepared.table, device, indices)
    if device.type == "cuda":
        suggestion = repeats * largest_that_fits(lambda images: steps.fits(repeats * images), most)
        reason = (
            f"the largest of at most {repeats * most:,} that fits into the memory of {torch.cuda.get_device_name()}"
        )
        return BatchSizes(images_per_second=steps.measured, suggestion=suggestion, reason=reason)
    budget = _free_memory() // 2
    for size in (repeats * images for images in _doubling(most)):
        if steps.estimate(size) > budget or not steps.fits(size) or size / steps.measured[size] > LONGEST_STEP:
            break
    if not steps.measured:
        raise SightlineError(
            f"Not even a batch of {repeats * min(2, most)} fits into half of the free memory. Lower data.image_size."
        )
    suggestion = smallest_near_best(steps.measured)
    reason = (
        f"the smallest within {1 - NEAR:.0%} of the best throughput on this {device.type}, of sizes whose estimated "
        f"memory stays below {budget / 1e9:.1f} GB, half of what is free"
    )
    return BatchSizes(images_per_second=steps.measured, suggestion=suggestion, reason=reason)


def largest_that_fits(fits: Callable[[int], bool], most: int) -> int:
    """By doubling until one is too large, then halving the gap to a sixteenth. Raises SightlineError if none fits."""
    good, bad = 0, most + 1
    for size in _doubling(most):
        if not fits(size):
            bad = size
            break
        good = size
    if good == 0:
        raise SightlineError("Not even the smallest batch fits into the GPU's memory. Lower data.image_size.")
    while bad - good > max(good // 16, 1) and bad <= most:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def smallest_near_best(images_per_second: dict[int, float]) -> int:
    """The smallest batch whose throughput reaches NEAR of the best."""
    best = max(images_per_second.values())
    return min(size for size, speed in images_per_second.items() if speed >= NEAR * best)


def _doubling(most: int) -> list[int]:
    """2, 4, 8 and so on, and the most itself."""
    return [*(2**power for power in range(1, most.bit_length()) if 2**power < most), most]


class _Steps:
    """Training steps on noise, with the recipe's network, teacher, augmentation, loss and optimiser."""

    def __init__(self, recipe: Recipe, table: ImageTable, device: torch.device, indices: NDArray[np.int64]) -> None:
        self.measured: dict[int, float] = {}
        self._recipe, self._device, self._classes = recipe, device, len(table.classes)
        seed_torch(recipe.seed, "weights")
        self._model: Classifier = architecture(recipe, self._classes).build()
        settle(self._model, recipe)
        if recipe.train.channels_last:
            self._model.to(memory_format=torch.channels_last)
        short = shortened(recipe, 1)
        per_epoch = training_order(recipe, table, indices).batches_per_epoch
        self._task = ClassificationTask(self._model, short, per_epoch, build_loss(recipe.loss, table, indices))
        self._task.teacher = teacher_of(recipe, self._model, table.classes, device)
        self._task.to(device)
        self._optimizer = self._task.configure_optimizers()

    def estimate(self, batch_size: int) -> int:
        """Bytes that training takes, by calculation."""
        recipe = self._recipe
        return training_memory(
            self._model,
            batch_size=batch_size,
            image_size=recipe.data.image_size,
            optimizer=recipe.optim.name,
            precision=recipe.train.precision,
        ).total

    def fits(self, batch_size: int) -> bool:
        """Whether two steps go through; the faster one's images a second are kept."""
        try:
            with explained_failures():
                seconds = min(self._step(batch_size) for _ in range(3))
        except MemoryRanOutError:
            return False
        finally:
            self._optimizer.zero_grad()
            gc.collect()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
        self.measured[batch_size] = round(batch_size / seconds, 1)
        return True

    def _step(self, batch_size: int) -> float:
        """Seconds of one step."""
        side = self._task.preprocess.resize
        images = torch.randint(0, 256, (batch_size, 3, side, side), dtype=torch.uint8)
        numbers = torch.arange(batch_size)
        targets = F.one_hot(numbers % self._classes, self._classes).float()
        began = time.perf_counter()
        batch = self._task.transfer_batch_to_device(Batch(images, targets, numbers), self._device, 0)
        with autocast(self._device, self._recipe.train.precision):
            loss = self._task.training_step(batch, 0)
        loss.backward()
        clip_gradients(self._model, self._recipe.optim)
        self._optimizer.step()
        self._optimizer.zero_grad()
        synchronize(self._device)
        return time.perf_counter() - began


def _free_memory() -> int:
    """Bytes that can be taken without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # no Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
