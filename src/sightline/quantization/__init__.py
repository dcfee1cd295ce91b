"""Post-training quantisation: one file an engine, each with `quantize` from a float32 network's files to int8 ones."""

import logging
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Request:
    """What is to be quantised, with what."""

    source: Path
    """The folder with the float32 network in the engine's format."""
    target: Path
    """The folder for the int8 one."""
    calibration: list[NDArray[np.float32]]
    """Training images, normalised as in evaluation, each (1, 3, H, W): activations' ranges are taken from them."""
    transformer: bool
    """Whether it has attention, whose ranges want other treatment."""


@dataclass(frozen=True)
class Bound:
    """How much accuracy may go."""

    max_drop: float
    """Share of the images, 0 to 1."""
    images: Iterable[NDArray[np.float32]]
    """Validation images, normalised, each (1, 3, H, W); gone through several times."""
    accuracy: Callable[[NDArray[Any]], float]
    """Of logits (N, K) for these images, in their order."""


@contextmanager
def quietly() -> Generator[None]:
    """The quantisers' own account of their work stays out of the user's terminal, bars out of the standard output."""
    loggers = [logging.getLogger(name) for name in ("nncf", "torch.utils.cpp_extension")]
    levels = [logger.level for logger in loggers]
    root, nothing = logging.getLogger(), logging.NullHandler()
    root.addHandler(nothing)  # ONNX Runtime warns through the root, which would get a handler for everybody's lines
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        root.removeHandler(nothing)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
