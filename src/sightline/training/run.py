"""What happens between the steps of a run: look at the validation split, keep the best, log, checkpoint.

Lightning sees a run as one long epoch: the loader goes through all of ours, so that workers never restart,
no step waits at an epoch's end, and resuming is starting the order further on. The place in the run is
ours (`Progress.position`), and everything here is a function of it.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import torch

from sightline.data.loader import Batches
from sightline.model_folder import save_weights
from sightline.prediction import collect_logits
from sightline.recipe_text import to_yaml
from sightline.training.checkpoint import Checkpoint, save_checkpoint
from sightline.training.gradients import GradientWatch, is_sampled
from sightline.training.journal import Journal
from sightline.training.labels import accuracy
from sightline.training.limits import Clock, Zeros, outlook, shorten_weights
from sightline.training.metrics_log import MetricsLog, Row
from sightline.training.shown_weights import ShownWeights
from sightline.training.task import ClassificationTask, Progress

log = logging.getLogger("sightline")


class Run(lightning.Callback):
    """Between two steps: count, and at an epoch's end validate, log and checkpoint."""

    def __init__(
        self, folder: Path, task: ClassificationTask, training: Batches, validation: Batches, data_fingerprint: str
    ) -> None:
        self.folder = folder
        self.task = task
        self.shown_weights = ShownWeights(task, training)
        self.clock = Clock(task.recipe.train.max_hours)
        self.gradients = GradientWatch(task.model) if task.recipe.train.watch_gradients else None
        self.validation = validation
        self.targets = torch.from_numpy(validation.targets[[n for part in validation.order for n in part]])
        self.data_fingerprint = data_fingerprint
        self.journal = Journal()
        self.metrics = MetricsLog(folder)
        self.interrupted: Callable[[], bool] = lambda: False
        """Whether the user asked to stop; looked at between steps."""
        self._resumed: Checkpoint | None = None
        self._zeros: Zeros | None = None
        self._saved_at = time.monotonic()
        self._epoch_began = time.monotonic()
        self._seen_before = 0  # images of this epoch that the run had done when it was stopped
        self._checkpoint_due = False

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.folder / "checkpoints" / "last.pt"

    @property
    def best(self) -> Path:
        """The weights with the best validation figure."""
        return self.folder / "checkpoints" / "best.safetensors"

    @property
    def kept(self) -> Path:
        """The weights for the model folder: the best, or the last, as the recipe says."""
        select = self.task.recipe.train.select
        return self.best if select == "best" else self.folder / "checkpoints" / "last.safetensors"

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from there: the model now, the optimiser once Lightning has made it."""
        self.task.progress = Progress(**checkpoint.progress)
        self.journal = Journal.read(checkpoint.journal)
        self.task.validation_losses = self.journal.validation_losses
        self.task.model.load_state_dict(checkpoint.model)
        self._resumed = checkpoint
        epoch, batch = divmod(self.task.progress.position, self.task.batches_per_epoch)
        if epoch < self.task.recipe.epochs and not self.journal.stopped:
            log.info(
                f"Going on with epoch {epoch + 1} of {self.task.recipe.epochs}, "
                f"after {batch} of its {self.task.batches_per_epoch} batches."
            )

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Put back the state of what only now is where it computes."""
        del pl_module
        self.interrupted()
        self._saved_at = self._epoch_began = time.monotonic()
        self._seen_before = self.task.progress.seen
        self.clock.begin(self.journal.seconds)
        self._zeros = Zeros(self.task.model) if self.task.recipe.train.keep_zeros else None
        self.shown_weights.start(self._resumed.average if self._resumed else {})
        if self._resumed is None:
            return
        trainer.optimizers[0].load_state_dict(self._resumed.optimizer)
        if self._resumed.scaler:
            trainer.precision_plugin.load_state_dict(self._resumed.scaler)
        if self.gradients is not None:
            self.gradients.load(self._resumed.gradients)
        self._resumed = None

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Watch it, if it is one of those that are."""
        del trainer, pl_module, batch, batch_idx
        per_epoch = self.task.batches_per_epoch
        if self.gradients is not None and is_sampled(self.task.progress.position % per_epoch, per_epoch):
            self.gradients.begin()

    def on_before_backward(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, loss: Any) -> None:
        """The forward pass has been watched."""
        del trainer, pl_module, loss
        if self.gradients is not None:
            self.gradients.end_forward()

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: Any
    ) -> None:
        """Take note of the gradients before they are clipped."""
        del trainer, pl_module, optimizer
        if self.gradients is not None:
            self.gradients.take()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move on by a batch."""
        del pl_module, outputs, batch, batch_idx
        task, train = self.task, self.task.recipe.train
        task.progress.position += 1
        if train.max_norm is not None and task.at_update:
            shorten_weights(task.model, train.max_norm)
        if self._zeros is not None and task.at_update:
            self._zeros.keep(trainer.optimizers[0])
        self.shown_weights.after_batch()
        batches = self.clock.batches_in_all(task.progress.position)
        if batches is not None and batches < task.num_batches:
            log.info(outlook(task.recipe, batches / task.batches_per_epoch))
        out_of_time = task.at_update and task.progress.position < task.num_batches and self.clock.is_up
        if task.progress.position % task.batches_per_epoch == 0 or out_of_time:
            self._end_epoch(trainer, out_of_time=out_of_time)
        asked = self.interrupted()
        overdue = time.monotonic() - self._saved_at >= train.checkpoint_minutes * 60
        if task.at_update and (self._checkpoint_due or asked or overdue or trainer.should_stop):
            self.save(trainer)
        if asked and task.at_update:
            trainer.should_stop = True

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Close the logs."""
        del trainer, pl_module
        self.metrics.close()

    def save(self, trainer: lightning.Trainer) -> None:
        """Write the checkpoint to resume from. Raises SightlineError when it can't be written."""
        self.task.check_finite()
        began = time.monotonic()
        progress = self.task.progress
        progress.loss_sum, progress.correct = float(progress.loss_sum), float(progress.correct)
        self.journal.seconds = self.clock.seconds
        checkpoint = Checkpoint(
            recipe=to_yaml(self.task.recipe),
            data_fingerprint=self.data_fingerprint,
            progress=asdict(progress),
            journal=asdict(self.journal),
            model=self.task.model.state_dict(),
            optimizer=trainer.optimizers[0].state_dict(),
            scaler=trainer.precision_plugin.state_dict(),
            average=self.shown_weights.state,
            gradients={} if self.gradients is None else self.gradients.state,
            teacher="" if self.task.teacher is None else self.task.teacher.fingerprint,
        )
        save_checkpoint(self.last, checkpoint)
        self._saved_at = time.monotonic()
        self._epoch_began += self._saved_at - began  # an epoch's seconds are those of its steps
        self._checkpoint_due = False

    def ending(self) -> list[str]:
        """Sentences: why the run ended, where that was early, and which weights are kept."""
        train, journal = self.task.recipe.train, self.journal
        said: list[str] = []
        if journal.stopped == "patience":
            said.append(f"Stopped early: {train.patience} looks without a gain in the validation {train.monitor}.")
        if journal.stopped == "max_hours":
            epochs, rate = self.task.progress.position / self.task.batches_per_epoch, journal.rows[-1].lr
            said.append(
                f"Stopped by train.max_hours ({train.max_hours:g}) after {epochs:.1f} of {self.task.recipe.epochs} "
                f"epochs, at a learning rate of {rate:.3g} of {self.task.recipe.optim.lr:g}."
            )
        if train.select == "last":
            return [*said, f"Kept {self.shown_weights.words} at the end of epoch {journal.rows[-1].epoch}."]
        figure = "lowest validation loss" if train.monitor == "loss" else "highest validation accuracy"
        return [*said, f"Kept {self.shown_weights.words} of epoch {journal.best_epoch}, with the {figure}."]

    def _end_epoch(self, trainer: lightning.Trainer, *, out_of_time: bool) -> None:
        """Make the epoch's row, whole or not, and decide whether the run ends with it."""
        self.task.check_finite()
        progress, recipe = self.task.progress, self.task.recipe
        epoch = -(-progress.position // self.task.batches_per_epoch)
        seconds = time.monotonic() - self._epoch_began
        row = Row(
            epoch=epoch,
            train_loss=float(progress.loss_sum) / progress.seen,
            train_accuracy=None if self.task.loss.multi_label else progress.accuracy,
            lr=self.task.rate,
            seconds=round(seconds, 3),
            images_per_second=round((progress.seen - self._seen_before) / seconds, 1),
        )
        if epoch % recipe.train.validate_every == 0 or epoch == recipe.epochs or out_of_time:
            with self.shown_weights.shown(trainer.optimizers[0]):
                self._look(row)
        if epoch < recipe.epochs and self.journal.is_out_of_patience(recipe.train):
            self.journal.stopped = "patience"
        if out_of_time:
            self.journal.stopped = "max_hours"
        trainer.should_stop = trainer.should_stop or bool(self.journal.stopped)
        if self.gradients is not None:
            self.journal.gradients += self.gradients.rows(epoch)
            self.metrics.write_gradients(self.journal.gradients)
        self.journal.rows.append(row)
        self.task.validation_losses = self.journal.validation_losses
        self.metrics.write(self.journal.rows)
        self.task.progress = Progress(position=progress.position)
        self._epoch_began, self._seen_before = time.monotonic(), 0
        self._checkpoint_due = True

    def _look(self, row: Row) -> None:
        """Fill in the validation figures of the weights that are shown, and keep these when the recipe would."""
        recipe = self.task.recipe
        logits = collect_logits(
            self.task.model,
            self.validation,
            self.task.preprocess,
            device=self.task.device,
            precision=recipe.train.precision,
            label="Validating",
        )
        row.val_loss = self.task.loss.validation(logits, self.targets)
        row.val_accuracy = accuracy(logits, self.targets)
        is_best = self.journal.look(row, recipe.train)
        if is_best or recipe.train.select == "last":
            save_weights(self.kept, self.task.model.state_dict())
