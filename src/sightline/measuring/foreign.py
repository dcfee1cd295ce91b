"""An ONNX file that Sightline didn't write: timed on noise of the shape that it states."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.deps import require
from sightline.engines import Settings, find_engine
from sightline.errors import ModelError, SightlineError
from sightline.formats import Runner
from sightline.formats.onnx import OnnxRunner, runtime_errors
from sightline.formats.openvino import OpenVinoRunner

ENGINES = ("onnx", "openvino")
"""That read an ONNX file."""
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


@dataclass(frozen=True)
class StatedInput:
    """What a file says of its one input."""

    shape: tuple[int | None, ...]
    """None where any number will do; the batch comes first."""
    dtype: type[np.generic]

    def noise(self, batch_size: int, image_size: int | None) -> NDArray[Any]:
        """An input for so many images. Raises ModelError where the file takes another number, or states no size."""
        if self.shape[0] not in (None, batch_size):
            raise ModelError(f"The file takes batches of {self.shape[0]} alone, not of {batch_size}.")
        sides = [image_size if side is None else side for side in self.shape[1:]]
        if None in sides:
            raise ModelError(
                "The file takes images of any size. Name a model folder beside it, whose size it is given."
            )
        shape = (batch_size, *(side for side in sides if side is not None))
        draws = np.random.default_rng(0)
        if self.dtype is np.uint8:
            return draws.integers(0, 256, shape, dtype=np.uint8)
        return draws.standard_normal(shape, dtype=np.float32).astype(self.dtype)


def stated_input(path: str | Path) -> StatedInput:
    """What the file takes. Raises ModelError for what is no ONNX file of a network with one image input."""
    runtime = require("onnxruntime", extra="onnx", purpose="Reading an ONNX file")
    if not Path(path).is_file():
        raise ModelError(f"There is no file {str(path)!r}.")
    try:
        inputs = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).get_inputs()
    except runtime_errors() as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{str(path)!r} can't be opened by ONNX Runtime: {reason}") from error
    if len(inputs) != 1:
        raise ModelError(f"{str(path)!r} takes {len(inputs)} inputs, where a classifier of images takes one.")
    kind, shape = inputs[0].type, tuple(side if isinstance(side, int) else None for side in inputs[0].shape)
    if kind not in _TYPES or len(shape) != 4:
        raise ModelError(f"{str(path)!r} takes {kind} of {len(shape)} dimensions, where images have 4.")
    return StatedInput(shape, _TYPES[kind])


def open_foreign(
    path: str, engine: str, settings: Settings, batch_size: int, image_size: int | None
) -> tuple[Callable[[NDArray[Any]], Any], NDArray[Any]]:
    """The file as that engine runs it, and noise to call it with. Raises SightlineError."""
    images = stated_input(path).noise(batch_size, image_size)
    if engine not in ENGINES:
        raise SightlineError(f"{path!r} can't be run by {engine!r}. It can by {', '.join(ENGINES)}.")
    if settings.precision not in (known := find_engine(engine).precisions):
        raise SightlineError(f"{engine!r} has no precision {settings.precision!r}. It has: {', '.join(known)}.")
    if engine == "onnx":
        runner: Runner = OnnxRunner(Path(path), settings.threads)
    else:
        runner = OpenVinoRunner(Path(path), settings.precision, settings.threads)
    return runner.run, images
