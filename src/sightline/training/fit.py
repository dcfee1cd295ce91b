"""Lightning's Trainer, set up as a recipe says and kept quiet."""

import logging
import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import lightning
import torch
from lightning.pytorch.utilities.warnings import PossibleUserWarning

from sightline.data.loader import Batches, explained_failures
from sightline.data.order import TrainingOrder
from sightline.errors import RecipeError
from sightline.recipe import Recipe, TrainConfig
from sightline.training.allocator import keep_pages
from sightline.training.checkpoint import Checkpoint
from sightline.training.interruption import watch_for_interruption
from sightline.training.progress_bar import ProgressBar
from sightline.training.run import Run

PRECISION: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "float32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}


def fit(run: Run, batches: Batches, device: torch.device, checkpoint: Checkpoint | None) -> bool:
    """Train until the recipe's end; False when the user stopped it before.

    `batches.order` is the whole run's TrainingOrder; what `checkpoint` has done is skipped.
    Raises SightlineError when the loss is lost, an image can't be read or a checkpoint can't be written.
    """
    recipe = run.task.recipe
    keep_pages()
    if checkpoint is not None:
        run.resume(checkpoint)
    if recipe.train.channels_last:
        run.task.model.to(memory_format=torch.channels_last)
    assert isinstance(batches.order, TrainingOrder)
    remaining = replace(batches, order=replace(batches.order, start=run.task.progress.position))
    if len(remaining) == 0 or run.journal.stopped:
        return True
    with run_quietly(), watch_for_interruption() as interrupted:
        run.interrupted = interrupted
        trainer = trainer_for(recipe, device, [run, ProgressBar(run)])
        trainer.fit(run.task, train_dataloaders=remaining)
        return run.task.progress.position == run.task.num_batches or bool(run.journal.stopped)


def trainer_for(recipe: Recipe, device: torch.device, callbacks: list[lightning.Callback]) -> lightning.Trainer:
    """Lightning's engine for one long epoch, as the recipe says."""
    return lightning.Trainer(
        accelerator={"cuda": "gpu"}.get(device.type, device.type),
        devices=1,
        precision=PRECISION[recipe.train.precision],
        max_epochs=1,
        accumulate_grad_batches=recipe.accumulate,
        deterministic=recipe.train.deterministic or None,
        benchmark=False,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )


def check_precision(config: TrainConfig, device: torch.device) -> None:
    """Raise RecipeError for a precision the device can't train in."""
    if config.precision == "fp16" and device.type == "cpu":
        raise RecipeError("train.precision 'fp16' needs a GPU. On this CPU set train.precision to bf16 or float32.")


@contextmanager
def determinism_restored() -> Generator[None]:
    """What train.deterministic asks of torch ends with the block: Lightning sets it for the whole process."""
    before, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)


@contextmanager
def run_quietly() -> Generator[None]:
    """Lightning's banners and advice stay out of the user's terminal; its errors don't, and ours explain."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # train.deterministic on a GPU needs it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PossibleUserWarning)
        # Lightning 2.6 asks torch for names that 2.15 deprecated.
        warnings.filterwarnings("ignore", message=r".*is deprecated.*", module=r"lightning\..*")
        try:
            with explained_failures():
                yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
