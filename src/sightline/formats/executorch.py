"""ExecuTorch's .pte, its operators delegated to XNNPACK: for phones and boards without Python.

Lowered from torch.export's program. The memory of a program is planned for a largest batch, which the lowering chooses
(15 images for those tried, whatever torch.export was told); the runner here cuts larger ones up. Opened by ExecuTorch's
own Python runtime, on the CPU, which takes no number of threads.

Metadata: a constant method for each part, named "sightline_" and the part.
"""

import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.deps import require, require_torch
from sightline.errors import ModelError
from sightline.formats import FLOAT32, Format, Graph

FILE = "model.pte"
PREFIX = "sightline_"
_OPERATOR_MISSING = "0x:14"
"""The end of what its runtime says then; the number is that of its error.h."""


class ExecuTorchRunner:
    """A loaded program."""

    def __init__(self, path: Path, threads: int | None) -> None:
        if threads is not None:
            raise ModelError("ExecuTorch's Python runtime chooses its number of threads itself. Leave --threads out.")
        _check_identifier(path)
        require_torch("Running an ExecuTorch program")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own, about the libraries that it builds on
            runtime = require("executorch.runtime", extra="train,executorch", purpose="Running an ExecuTorch program")
        try:
            self._program = runtime.Runtime.get().load_program(str(path))  # the method's memory is the program's
            self._method = self._program.load_method("forward")
            self._largest: int = self._method.metadata.input_tensor_meta(0).sizes()[0]
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            if reason.endswith(_OPERATOR_MISSING):
                reason = "the network has an operation that ExecuTorch's runtime has no kernel for"
            raise ModelError(f"{str(path)!r} can't be opened: {reason}.") from error

    def run(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        """The outputs in the graph's order."""
        parts = [self._run(images[start : start + self._largest]) for start in range(0, len(images), self._largest)]
        return [np.concatenate(rows) for rows in zip(*parts, strict=True)]

    def _run(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        import torch

        # Copied, since the next call writes into the same memory.
        with torch.inference_mode():
            answers = self._method.execute([torch.from_numpy(images)])
            return [answer.numpy().copy() for answer in answers]


def _check_identifier(path: Path) -> None:
    """Raise ModelError for a file that doesn't begin as a program does: its runtime ends the process at some."""
    with path.open("rb") as file:
        file.seek(4)
        identifier = file.read(2)
    if identifier != b"ET":
        raise ModelError(f"{str(path)!r} can't be opened: it is no ExecuTorch program, or was damaged.")


def write(graph: Graph, folder: Path) -> dict[str, Any]:
    """Write model.pte. Raises ModelError when the network can't be expressed."""
    program = graph.program()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, about the libraries that it builds on
        lowering: Any = _exporter("executorch.exir")
        partition: Any = _exporter("executorch.backends.xnnpack.partition.xnnpack_partitioner")
        told = {PREFIX + key: value for key, value in graph.metadata.items()}
        try:
            lowered = lowering.to_edge_transform_and_lower(
                program, partitioner=[partition.XnnpackPartitioner()], constant_methods=told
            )
            content: bytes = lowered.to_executorch().buffer
        except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError) as error:
            reason = (str(error).splitlines() or ["it gives no reason"])[0]
            raise ModelError(f"The network can't be lowered to ExecuTorch: {reason}") from error
    (folder / FILE).write_bytes(content)
    return {"input": graph.input_name, "outputs": list(graph.output_names), "backend": "xnnpack"}


def _exporter(module: str) -> ModuleType:
    return require(module, extra="train,executorch", purpose="Exporting to ExecuTorch")


ENTRY = Format(
    title="ExecuTorch, run by XNNPACK",
    extra="train,executorch",
    modules=("executorch",),
    tolerances={"float32": FLOAT32},
    write=write,
    open=lambda folder, _precision, threads: ExecuTorchRunner(folder / FILE, threads),
)
