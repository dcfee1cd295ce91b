"""PyTorch's compiler, torch.compile, with the weights frozen into the code and the channel innermost.

It compiles when the first batch comes, for half a minute or so, and again for each new batch size; so that batches of
any size need few, they are filled up to the next power of two. Needs a C++ compiler on the machine.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.engines import Engine, Network, Settings
from sightline.engines.torch import TorchNetwork, load
from sightline.errors import SightlineError
from sightline.exported_folder import ExportedFolder
from sightline.formats import Runner
from sightline.formats.torch import FILE, ProgramRunner
from sightline.model_folder import ModelFolder

_NUM_SIZES = 16
"""Batch sizes that are compiled for at most: powers of two up to 32,768."""


class FilledUp:
    """A network that only ever sees batches whose size is a power of two."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, 3, image_size, image_size) uint8 -> (B, K) logits. Raises SightlineError when it can't be compiled."""
        try:
            return self._network(filled_up(pixels))[: len(pixels)]
        except RuntimeError as error:  # the compiler's failures, a missing C++ compiler among them
            raise _explained(error) from error


class CompiledRunner:
    """A compiled torch.export program."""

    def __init__(self, program: ProgramRunner) -> None:
        self._program = program
        program.module = _compiled(program.module)

    def run(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        """The outputs in the graph's order. Raises SightlineError when it can't be compiled."""
        try:
            return [output[: len(images)] for output in self._program.run(filled_up(images))]
        except RuntimeError as error:
            raise _explained(error) from error


def filled_up(images: NDArray[Any]) -> NDArray[Any]:
    """A batch with zeros added until its size is a power of two."""
    size = 1 << (len(images) - 1).bit_length()
    missing = np.zeros((size - len(images), *images.shape[1:]), images.dtype)
    return np.concatenate([images, missing]) if len(missing) else images


def open_compiled(folder: ModelFolder, settings: Settings) -> Network:
    """The network, to be compiled when the first batch comes."""
    model = load(folder, settings, channels_last=True)
    return FilledUp(TorchNetwork(_compiled(model), folder.spec.preprocess, settings, channels_last=True))


def open_program(folder: ExportedFolder, settings: Settings) -> Runner:
    """An exported .pt2 program, to be compiled when the first batch comes."""
    return CompiledRunner(ProgramRunner(folder.path / FILE, settings.threads))


def _compiled(module: Any) -> Any:
    import torch

    compiler: Any = torch.compile  # whose declared types lack the last two arguments
    # Beyond the limit torch would compute eagerly without a word, and it counts other networks of the same class too.
    return compiler(
        module, dynamic=False, options={"freezing": True}, recompile_limit=_NUM_SIZES, isolate_recompiles=True
    )


def _explained(error: RuntimeError) -> SightlineError:
    reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return SightlineError(f"torch.compile can't run this network here: {reason} Use another engine, torch for one.")


ENTRY = Engine(
    title="PyTorch, compiled",
    extra="train",
    modules=("torch",),
    precisions=("float32", "bf16"),
    open=open_compiled,
    reads={"torch": open_program},
    gpu=True,
    steady=False,
)
