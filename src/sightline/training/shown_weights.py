"""The weights that validation and the model folder see, where they are not the training's own."""

import itertools
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor

from sightline.data.loader import Batches
from sightline.data.order import TrainingOrder
from sightline.devices import autocast
from sightline.randomness import seed_torch
from sightline.training.averaging import WeightAverage, measure_statistics
from sightline.training.task import ClassificationTask

FREE_BATCHES = 50
"""Batches that batch-norm statistics of schedule-free weights are measured on; the figure of its authors."""


class ShownWeights:
    """Averages the weights as the recipe says, and shows the average where the weights are judged."""

    def __init__(self, task: ClassificationTask, training: Batches) -> None:
        self._task = task
        self._training = training
        self._average: WeightAverage | None = None
        self._swa_first = task.recipe.train.swa_first_epoch(task.recipe.epochs)

    @property
    def words(self) -> str:
        """What is shown, as in "Kept the weights of epoch 3"."""
        train = self._task.recipe.train
        if train.ema_decay is not None:
            return f"the exponential average of the weights (train.ema_decay {train.ema_decay})"
        if self._swa_first is not None:
            return f"the weights, from epoch {self._swa_first} on their mean (train.swa_start {train.swa_start}),"
        return "the weights"

    @property
    def state(self) -> dict[str, Tensor]:
        """Of the average, for a checkpoint; empty without one."""
        return {} if self._average is None else self._average.state

    def start(self, state: dict[str, Tensor]) -> None:
        """Follow the model, which is where it trains by now; `state` is a checkpoint's, or empty."""
        train = self._task.recipe.train
        if train.ema_decay is None and train.swa_start is None:
            return
        self._average = WeightAverage(self._task.model)
        if state:
            self._average.load(state)

    def after_batch(self) -> None:
        """Take the average on, where an update or an epoch has just ended."""
        task, decay = self._task, self._task.recipe.train.ema_decay
        if self._average is None:
            return
        position = task.progress.position
        if decay is not None and task.at_update:
            self._average.take_exponential(-(-position // task.recipe.accumulate) - 1, decay)
        if self._swa_first is not None and position % task.batches_per_epoch == 0 and self._num_means > 0:
            self._average.take_equal(self._num_means - 1)

    @contextmanager
    def shown(self, optimizer: Any) -> Generator[None]:
        """Within it the model holds them; the training's weights come back to the bit.

        An optimiser that trains other weights than it gives in the end (schedule-free) has `eval()` and `train()`.
        """
        averaged = self._average is not None and (self._swa_first is None or self._num_means > 0)
        if not averaged and not hasattr(optimizer, "eval"):
            yield
            return
        model = self._task.model
        own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        free = hasattr(optimizer, "eval")
        if free:
            optimizer.eval()
        try:
            if averaged and self._average is not None:
                self._average.show()
            if free or (averaged and self._swa_first is not None):
                images = itertools.islice(self._epoch_s_images(), FREE_BATCHES if free else None)
                with autocast(self._task.device, self._task.recipe.train.precision):
                    measure_statistics(model, images)
            yield
        finally:
            if free:
                optimizer.train()
            model.load_state_dict(own)

    @property
    def _num_means(self) -> int:
        """Epochs whose weights the equal mean holds by now."""
        completed = self._task.progress.position // self._task.batches_per_epoch
        return 0 if self._swa_first is None else max(completed - self._swa_first + 1, 0)

    def _epoch_s_images(self) -> Iterator[Tensor]:
        """The batches of the last epoch once more, augmented as they were."""
        task, order = self._task, self._training.order
        assert isinstance(order, TrainingOrder)
        last = (task.progress.position - 1) // task.batches_per_epoch
        again = replace(order, epochs=last + 1, start=last * task.batches_per_epoch)
        for number, batch in enumerate(replace(self._training, order=again)):
            seed_torch(task.recipe.seed, last, number, "statistics")  # dropout before a batch norm draws
            moved = task.transfer_batch_to_device(batch, task.device, 0)
            yield task.preprocess.normalize(task.augment(moved, epoch=last).images)
