"""Lightning's Trainer, set up as a recipe says, kept quiet, and without what it does for nothing in each step."""

import logging
import os
import warnings
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities.warnings import PossibleUserWarning

from sightline.data.loader import explained_failures
from sightline.recipe import Recipe

PRECISION: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "float32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}


class Module(lightning.LightningModule):
    """Lightning's, whose hooks' names are set quickly."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Lightning sets its hooks' names 36 times a step; torch would look for parameters in each."""
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)


class _Unmeasured(PassThroughProfiler):
    """Lightning measures nothing unless it is asked to, but makes a generator for each of 29 actions of a step."""

    _nothing: AbstractContextManager[None] = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What Lightning does within is left alone."""
        del action_name
        return self._nothing


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
        profiler=_Unmeasured(),
        limit_val_batches=0,
    )


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
