"""The learning-rate range test: train with a rising rate, watch the loss, suggest where it falls fastest.

Source: Cyclical Learning Rates for Training Neural Networks (Smith, 2017), section 3.3, with a rate that rises
exponentially.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from sightline.data.loader import Batches, Pixels
from sightline.data.prepare import prepare
from sightline.devices import pick_device
from sightline.errors import RecipeError, SightlineError
from sightline.files import write_json
from sightline.randomness import seed_torch
from sightline.recipe import Recipe
from sightline.training.engine import run_quietly, trainer_for
from sightline.training.fastest import resolved
from sightline.training.fit import determinism_restored
from sightline.training.interruption import NOTHING_KEPT, told_of_a_stop, watch_for_interruption
from sightline.training.job import architecture, check_job
from sightline.training.labels import build_loss
from sightline.training.layers import settle
from sightline.training.limits import Zeros, shorten_weights
from sightline.training.lost_loss import lost_loss
from sightline.training.order import training_order
from sightline.training.probe import fit_head
from sightline.training.short import check_steps, shortened
from sightline.training.start import begin_from_images, starting_network
from sightline.training.task import ClassificationTask, Progress
from sightline.training.teacher import teacher_of

log = logging.getLogger("sightline")

KEPT = 0.9
"""The share of the smoothed loss that each update keeps."""
DIVERGED = 4.0
"""The test stops where the smoothed loss is so many times its lowest, as fastai's does."""
RULE = "the rate at which the smoothed loss falls fastest per decade of the rate, before it is lowest"


@dataclass(frozen=True, kw_only=True)
class RateRange:
    """What the test has seen, update by update."""

    rates: list[float]
    losses: list[float]
    """Training loss, before the update with that rate."""
    smoothed: list[float]
    diverged: bool
    """Whether the test stopped before the highest rate."""
    suggestion: float | None
    """None where no rate lowered the loss."""
    rule: str = RULE

    def write(self, folder: Path) -> None:
        """Write learning-rate.json and learning-rate.png. Raises SightlineError when they can't be written."""
        from sightline.training.rate_plot import draw  # matplotlib takes most of a second

        write_json(folder / "learning-rate.json", asdict(self))
        draw(self, folder / "learning-rate.png")


def find_learning_rate(
    recipe: Recipe, data: str | Path, *, lowest: float = 1e-6, highest: float = 10.0, updates: int = 100
) -> RateRange:
    """Train a network of its own as the recipe says, on training images alone, while the rate rises.

    Nothing of it is kept. Raises RecipeError for a range or a number that makes no test, SightlineError when the first
    loss is no number, and like `train`, KeyboardInterrupt included when the user stopped it.
    """
    if not (0 < lowest < highest and math.isfinite(highest / lowest)):
        raise RecipeError(
            f"The lowest rate ({lowest}) must be greater than 0 and less than the highest ({highest}), "
            "which must be finite."
        )
    if updates < 20:
        raise RecipeError(f"The range test needs at least 20 updates to see a slope, got {updates}.")
    check_steps(recipe)
    check_job(recipe)
    device = pick_device(recipe.train.device)
    prepared = prepare(data, recipe.data, recipe.seed)
    recipe = resolved(recipe)
    table, indices = prepared.table, prepared.splits.train
    per_epoch = training_order(recipe, table, indices).batches_per_epoch
    short = shortened(recipe, -(-updates * recipe.accumulate // per_epoch))
    seed_torch(recipe.seed, "weights")
    model = starting_network(short, architecture(recipe, len(table.classes)), table.classes)
    preprocess = recipe.data.preprocess()
    begin_from_images(model, Pixels(table, preprocess, canvas=False), preprocess, indices)
    if recipe.finetune.begins_with_probe:
        fit_head(model, recipe, prepared, device)
    settle(model, recipe)
    if recipe.train.channels_last:
        model.to(memory_format=torch.channels_last)
    task = _RisingRate(model, short, per_epoch, build_loss(recipe.loss, table, indices))
    task.teacher = teacher_of(recipe, task.model, table.classes, device)
    if recipe.distill.unlabelled is not None:
        log.info("The range test leaves distill.unlabelled out: it trains on the data's own images alone.")
    task.rates = [lowest * (highest / lowest) ** (update / (updates - 1)) for update in range(updates)]
    pixels = Pixels(table, preprocess, canvas=True)
    order = training_order(short, table, indices)
    batches = Batches(pixels, order, table.targets, len(table.classes), recipe.data.num_workers)
    watch = _Watch(task)
    with determinism_restored(), run_quietly(), told_of_a_stop(NOTHING_KEPT), watch_for_interruption() as interrupted:
        watch.interrupted = interrupted
        trainer_for(short, device, [watch]).fit(task, train_dataloaders=batches)
        if interrupted():
            log.info(f"Stopped. {NOTHING_KEPT}")
            raise KeyboardInterrupt
    if not watch.losses:
        raise SightlineError(lost_loss(recipe, math.nan, 1))
    rates = task.rates[: len(watch.losses)]
    return RateRange(
        rates=rates,
        losses=watch.losses,
        smoothed=watch.smoothed,
        diverged=len(rates) < updates,
        suggestion=steepest(rates, watch.smoothed),
    )


def steepest(rates: list[float], smoothed: list[float]) -> float | None:
    """The rate at which the smoothed loss falls fastest per decade, before it is lowest; None where it never falls.

    The first tenth of the updates, where few losses have been averaged, is left out.
    """
    first = len(rates) // 10
    lowest = first + int(np.argmin(smoothed[first:]))
    if lowest - first < 2 or smoothed[lowest] >= smoothed[first]:
        return None
    slopes = np.gradient(smoothed[first : lowest + 1], np.log10(rates[first : lowest + 1]))
    return rates[first + int(np.argmin(slopes))]


class _RisingRate(ClassificationTask):
    """Training as it is, but for the rate."""

    rates: list[float]

    def schedule_rate(self, update: int, updates: int, updates_per_epoch: float) -> float:
        """The next rate of the range."""
        del updates, updates_per_epoch
        return self.rates[min(update, len(self.rates) - 1)]


class _Watch(lightning.Callback):
    """Counts batches, takes the loss of each update, and ends the test."""

    def __init__(self, task: _RisingRate) -> None:
        self.task = task
        self.losses: list[float] = []
        self.smoothed: list[float] = []
        self.interrupted: Callable[[], bool] = lambda: False
        """Whether the user asked to stop; looked at between steps."""
        self._mean = 0.0
        self._zeros = Zeros(task.model) if task.recipe.train.keep_zeros else None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Watch in Lightning's place, which has just put its own handlers there."""
        del trainer, pl_module
        self.interrupted()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After an update, decide whether to go on."""
        del pl_module, outputs, batch, batch_idx
        task = self.task
        task.progress.position += 1
        if self.interrupted():
            trainer.should_stop = True
            return
        if not task.at_update:
            return
        if task.recipe.train.max_norm is not None:
            shorten_weights(task.model, task.recipe.train.max_norm)
        if self._zeros is not None:
            self._zeros.keep(trainer.optimizers[0])
        loss = float(task.progress.loss_sum) / task.progress.seen
        task.progress = Progress(position=task.progress.position)
        if not math.isfinite(loss):
            trainer.should_stop = True
            return
        self._mean = KEPT * self._mean + (1 - KEPT) * loss
        self.losses.append(loss)
        self.smoothed.append(self._mean / (1 - KEPT ** len(self.losses)))
        diverged = self.smoothed[-1] > DIVERGED * min(self.smoothed)
        trainer.should_stop = diverged or len(self.losses) == len(task.rates)
