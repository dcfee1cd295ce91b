"""Export formats: one file a format, binding ENTRY; `sightline.exporting` holds the verb and its parity check.

A format writes a network into a folder and opens it again as a Runner. It computes the network alone: resizing
stays with `Preprocess`, the same code as in training, and what was written is compared with the model on real
images before anyone sees it. Nothing here imports torch before a format needs it: an exported ONNX or OpenVINO
model is served without.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from sightline import catalog
from sightline.errors import ModelError, unknown_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn
    from torch.export import ExportedProgram

    from sightline.exported_folder import ExportedFolder
    from sightline.preprocess import Preprocess

REFUSED = {
    "torchscript": "PyTorch has deprecated TorchScript; `torch` writes its successor, torch.export's .pt2",
    "litert": "its converter, litert-torch, needs torch older than 2.15, which Sightline is built on",
    "tflite": "its converter, litert-torch, needs torch older than 2.15, which Sightline is built on",
    "coreml": "Core ML runs on Apple's systems alone, so that its answers can't be compared with the model's here",
    "keras": "Keras has no importer for PyTorch networks",
    "tensorflow": "TensorFlow has no importer for PyTorch networks",
    "tensorrt": "it needs an NVIDIA GPU, and an engine belongs to that GPU and version; ONNX Runtime's TensorRT "
    "provider builds one from `onnx`",
}
"""Names that users ask for, and why they can't be had."""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far an export may be from its model. Logits are measured in units of their spread (`Parity.scale`)."""

    max_difference: float
    """Of any logit of any image."""
    mean_difference: float
    """Over all logits of all images."""
    min_agreement: float
    """Share of the images, 0 to 1, that both answer alike; one image may always differ."""
    max_probability_difference: float
    """Of a probability computed in the graph from the one that the same graph's logits give."""


FLOAT32 = Tolerance(max_difference=1e-3, mean_difference=1e-4, min_agreement=0.995, max_probability_difference=1e-5)
"""The same arithmetic in another order: networks filled with random weights were within 1e-5 of their logits' spread
(benchmarks/export_parity.py), and two orders of magnitude are left for deeper ones. A mean that is off by a twentieth
of the pixels' range is outside it (tests/cli/test_export.py)."""

BF16 = Tolerance(max_difference=0.5, mean_difference=0.05, min_agreement=0.95, max_probability_difference=1e-2)
"""Eight bits of significand: each product is off by up to 0.4%, and a deep network adds them up. What counts is that
the answers stay: the bound on agreement, and on accuracy by the paired test, catches a network that bf16 breaks."""


class Runner(Protocol):
    """An opened artefact."""

    def run(self, images: "NDArray[Any]") -> "list[NDArray[np.float32]]":
        """The graph's outputs for its one input, of any batch size."""
        ...


@dataclass(frozen=True, kw_only=True)
class Graph:
    """What a format writes: a network with one input and one or two outputs."""

    module: "nn.Module"
    example: "Tensor"
    """The input for a batch of 2."""
    input_name: str
    output_names: tuple[str, ...]
    metadata: Mapping[str, str]
    """Classes, preprocessing and the like, for the format's own metadata, so that a lone file still tells."""

    def program(self) -> "ExportedProgram":
        """The network as torch.export sees it, for any batch size. Raises ModelError when it can't be captured."""
        import torch

        dynamic = ({0: torch.export.Dim("batch")},)
        try:
            with torch.no_grad():
                return torch.export.export(self.module, (self.example,), dynamic_shapes=dynamic)
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:  # what torch.export raises, by its cause
            raise ModelError(f"The network can't be captured by torch.export: {str(error).splitlines()[0]}") from error


@dataclass(frozen=True, kw_only=True)
class Format:
    """The contract."""

    title: str
    extra: str | None
    """The extras of this package that install what writing needs besides torch; None where torch is enough."""
    modules: tuple[str, ...]
    """What must be importable for writing."""
    tolerances: Mapping[str, Tolerance]
    """By precision; float32 comes first."""
    write: "Callable[[Graph, Path], dict[str, Any]]"
    """Write the graph's files into the folder; what is returned is kept as the artefact's details."""
    open: "Callable[[Path, str, int | None], Runner]"
    """Open the files in the folder, to compute in that precision, on so many threads of the CPU; None leaves their
    number to the runtime."""
    also_opens: tuple[str, ...] = ()
    """Precisions that it opens and that writing doesn't have: int8, which takes images to calibrate on."""


@dataclass(frozen=True)
class Outputs:
    """What an artefact answers."""

    logits: "NDArray[np.float32]"
    """(B, K), not calibrated."""
    probabilities: "NDArray[np.float32] | None"
    """(B, K), calibrated in the graph; None of an artefact that takes normalised images."""


@dataclass(frozen=True)
class Opened:
    """An artefact that is ready to answer."""

    runner: Runner
    preprocess: "Preprocess"
    takes_pixels: bool

    def __call__(self, pixels: "NDArray[np.uint8]") -> Outputs:
        """The answers for pixels (B, 3, image_size, image_size), uint8."""
        import numpy as np

        if self.takes_pixels:
            probabilities, logits = self.runner.run(np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)))
            return Outputs(logits, probabilities)
        [logits] = self.runner.run(self.preprocess.normalize_array(pixels))
        return Outputs(logits, None)


def find_format(name: str) -> Format:
    """The format of that name. Raises ModelError with the reason, or the nearest name, when there is none."""
    known = catalog.names(__name__)
    if str(name) in REFUSED:  # what is no text may not be hashable
        raise ModelError(f"Sightline can't export to {name!r}: {REFUSED[name]}. It can to {', '.join(known)}.")
    if name not in known:
        raise ModelError(unknown_name("format", name, known, listing="`sightline export --help`"))
    return cast(Format, catalog.entry(__name__, name))


def open_exported(folder: "ExportedFolder", *, threads: int | None = None) -> Opened:
    """An exported folder as it answers. Raises ModelError, MissingPackageError."""
    artefact = folder.artefact
    known = find_format(artefact.format)
    if artefact.precision not in (*known.tolerances, *known.also_opens):
        raise ModelError(
            f"{str(folder.path)!r} was exported in {artefact.precision!r}, which {artefact.format!r} doesn't have. "
            f"It has: {', '.join(known.tolerances)}."
        )
    runner = known.open(folder.path, artefact.precision, threads)
    return Opened(runner, folder.spec.preprocess, artefact.pixels)
