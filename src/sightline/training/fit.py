"""A run, from where it stands to its end."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace

import torch

from sightline.data.loader import Batches
from sightline.data.order import TrainingOrder
from sightline.errors import RecipeError
from sightline.recipe import TrainConfig
from sightline.training.allocator import keep_pages
from sightline.training.checkpoint import Checkpoint
from sightline.training.engine import run_quietly, trainer_for
from sightline.training.interruption import watch_for_interruption
from sightline.training.progress_bar import ProgressBar
from sightline.training.run import Run


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
