"""What happens between the steps of a run: look at the validation split, keep the best, log, checkpoint.

Lightning sees a run as one long epoch: the loader goes through all of ours, so that workers never restart,
no step waits at an epoch's end, and resuming is starting the order further on. The place in the run is
ours (`Progress.position`), and everything here is a function of it.
"""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lightning
import torch

from sightline.data.loader import Batches
from sightline.model_folder import save_weights
from sightline.prediction import collect_logits
from sightline.recipe_text import to_yaml
from sightline.training.checkpoint import Checkpoint, save_checkpoint
from sightline.training.labels import accuracy
from sightline.training.metrics_log import MetricsLog, Row
from sightline.training.task import ClassificationTask, Progress


@dataclass(kw_only=True)
class Journal:
    """What a run has seen so far."""

    rows: list[Row] = field(default_factory=list[Row])
    """One for each epoch, as in metrics.csv."""
    best_loss: float | None = None
    """Lowest validation loss."""
    best_epoch: int = 0
    looks_without_gain: int = 0
    stopped_early: bool = False


class Run(lightning.Callback):
    """Between two steps: count, and at an epoch's end validate, log and checkpoint."""

    def __init__(self, folder: Path, task: ClassificationTask, validation: Batches, data_fingerprint: str) -> None:
        self.folder = folder
        self.task = task
        self.validation = validation
        self.targets = torch.from_numpy(validation.targets[[n for part in validation.order for n in part]])
        self.data_fingerprint = data_fingerprint
        self.journal = Journal()
        self.metrics = MetricsLog(folder)
        self.interrupted: Callable[[], bool] = lambda: False
        """Whether the user asked to stop; looked at between steps."""
        self._resumed: Checkpoint | None = None
        self._saved_at = time.monotonic()
        self._epoch_began = time.monotonic()
        self._checkpoint_due = False

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.folder / "checkpoints" / "last.pt"

    @property
    def best(self) -> Path:
        """The weights with the lowest validation loss."""
        return self.folder / "checkpoints" / "best.safetensors"

    @property
    def kept(self) -> Path:
        """The weights for the model folder: the best, or the last, as the recipe says."""
        select = self.task.recipe.train.select
        return self.best if select == "best" else self.folder / "checkpoints" / "last.safetensors"

    @contextmanager
    def shown_weights(self, trainer: lightning.Trainer) -> Generator[None]:
        """Within it the model holds the weights that validation and the model folder see.

        They are the training's own, but with an optimiser that trains other weights than it gives in the end:
        such a one has `eval()` and `train()`. The training's weights come back to the bit.
        """
        optimizer: Any = trainer.optimizers[0]
        if not hasattr(optimizer, "eval"):
            yield
            return
        model = self.task.model
        own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        optimizer.eval()
        try:
            yield
        finally:
            optimizer.train()
            model.load_state_dict(own)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from there: the model now, the optimiser once Lightning has made it."""
        self.task.progress = Progress(**checkpoint.progress)
        self.journal = Journal(**checkpoint.journal)
        self.journal.rows = [Row(**row) for row in checkpoint.journal["rows"]]
        self.task.model.load_state_dict(checkpoint.model)
        self._resumed = checkpoint

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Put the optimiser's state back."""
        del pl_module
        self.interrupted()
        self._saved_at = self._epoch_began = time.monotonic()
        if self._resumed is None:
            return
        trainer.optimizers[0].load_state_dict(self._resumed.optimizer)
        if self._resumed.scaler:
            trainer.precision_plugin.load_state_dict(self._resumed.scaler)
        self._resumed = None

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move on by a batch."""
        del pl_module, outputs, batch, batch_idx
        progress = self.task.progress
        progress.position += 1
        if progress.position % self.task.batches_per_epoch == 0:
            self._end_epoch(trainer)
        asked = self.interrupted()
        minutes = (time.monotonic() - self._saved_at) / 60
        overdue = minutes >= self.task.recipe.train.checkpoint_minutes
        if self.task.at_update and (self._checkpoint_due or asked or overdue or trainer.should_stop):
            self.save(trainer)
        if asked and self.task.at_update:
            trainer.should_stop = True

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Close the logs."""
        del trainer, pl_module
        self.metrics.close()

    def save(self, trainer: lightning.Trainer) -> None:
        """Write the checkpoint to resume from. Raises SightlineError when it can't be written."""
        self.task.check_finite()
        progress = self.task.progress
        progress.loss_sum, progress.correct = float(progress.loss_sum), float(progress.correct)
        checkpoint = Checkpoint(
            recipe=to_yaml(self.task.recipe),
            data_fingerprint=self.data_fingerprint,
            progress=asdict(progress),
            journal=asdict(self.journal),
            model=self.task.model.state_dict(),
            optimizer=trainer.optimizers[0].state_dict(),
            scaler=trainer.precision_plugin.state_dict(),
        )
        save_checkpoint(self.last, checkpoint)
        self._saved_at = time.monotonic()
        self._checkpoint_due = False

    def _end_epoch(self, trainer: lightning.Trainer) -> None:
        self.task.check_finite()
        progress, recipe = self.task.progress, self.task.recipe
        epoch = progress.position // self.task.batches_per_epoch
        seconds = time.monotonic() - self._epoch_began
        row = Row(
            epoch=epoch,
            train_loss=float(progress.loss_sum) / progress.seen,
            train_accuracy=None if self.task.loss.multi_label else float(progress.correct) / progress.seen,
            lr=trainer.optimizers[0].param_groups[0]["lr"],
            seconds=round(seconds, 3),
            images_per_second=round(progress.seen / seconds, 1),
        )
        if epoch % recipe.train.validate_every == 0 or epoch == recipe.epochs:
            with self.shown_weights(trainer):
                self._look(row)
                if recipe.train.select == "last":
                    save_weights(self.kept, self.task.model.state_dict())
        if recipe.train.patience is not None and self.journal.looks_without_gain >= recipe.train.patience:
            self.journal.stopped_early = epoch < recipe.epochs
            trainer.should_stop = True
        self.journal.rows.append(row)
        self.metrics.write(self.journal.rows)
        self.task.progress = Progress(position=progress.position)
        self._epoch_began = time.monotonic()
        self._checkpoint_due = True

    def _look(self, row: Row) -> None:
        """Fill in the validation figures, and keep the weights when they are the best so far."""
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
        if self.journal.best_loss is not None and row.val_loss >= self.journal.best_loss:
            self.journal.looks_without_gain += 1
            return
        self.journal.best_loss, self.journal.best_epoch, self.journal.looks_without_gain = row.val_loss, row.epoch, 0
        if recipe.train.select == "best":
            save_weights(self.kept, self.task.model.state_dict())
