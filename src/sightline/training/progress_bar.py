"""The bar over a whole run: epoch, loss, images a second, time left."""

from typing import Any

import lightning
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sightline.training.run import Run

REFRESH = 10
"""Batches between two readings of the loss: each waits for the device."""


class ProgressBar(lightning.Callback):
    """On a terminal a bar; elsewhere one line an epoch."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            redirect_stdout=False,
        )
        self.rows_shown = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Draw it where the run stands."""
        del trainer, pl_module
        self.rows_shown = len(self.run.journal.rows)
        task = self.run.task
        self.bar.add_task("", total=task.num_batches, completed=task.progress.position, epoch="", figures="")
        self.bar.start()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move on; runs after `Run` has counted the batch."""
        del pl_module, outputs, batch
        task = self.run.task
        position = task.progress.position
        epoch = f"{min(position // task.batches_per_epoch + 1, task.recipe.epochs)}/{task.recipe.epochs}"
        self.bar.update(self.bar.task_ids[0], completed=position, epoch=epoch)
        if batch_idx % REFRESH == 0 and self.console.is_terminal and task.progress.seen:
            self._show_figures(trainer)
        for row in self.run.journal.rows[self.rows_shown :]:
            measure = "accuracy" if row.train_accuracy is not None else "mean average precision"
            right = "" if row.train_accuracy is None else f"  accuracy {row.train_accuracy:.2%}"
            looked = "" if row.val_loss is None else f"  val loss {row.val_loss:.4f}  {measure} {row.val_accuracy:.2%}"
            self.bar.console.print(
                f"epoch {row.epoch:>3}  train loss {row.train_loss:.4f}{right}{looked}  "
                f"{row.seconds:.1f} s  {row.images_per_second:,.0f} images/s",
                highlight=False,
                soft_wrap=True,
            )
        self.rows_shown = len(self.run.journal.rows)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Leave the terminal as it was."""
        del trainer, pl_module
        self.bar.stop()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        del trainer, pl_module, exception
        self.bar.stop()

    def _show_figures(self, trainer: lightning.Trainer) -> None:
        del trainer
        progress = self.run.task.progress
        loss = float(progress.loss_sum) / progress.seen
        speed = self.bar.tasks[0].speed
        images = "" if not speed else f"  {speed * self.run.task.recipe.batch_size:,.0f} images/s"
        self.bar.update(self.bar.task_ids[0], figures=f"loss {loss:.4f}{images}")
