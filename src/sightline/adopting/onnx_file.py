"""An ONNX file that another tool wrote: looked through, tried out, and written with a description of its own.

It is taken where it is what an export of ours is without pixels: one input of normalised images (B, 3, H, H), one
output (B, K), any batch size. Where the output is probabilities, their logarithm is appended: logits, up to a constant
that softmax doesn't see.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.deps import require
from sightline.errors import ModelError
from sightline.exporting.comparing import BATCH_SIZES
from sightline.exporting.parity import spread
from sightline.formats import FLOAT32
from sightline.formats.onnx import MAX_BYTES, OnnxRunner
from sightline.preprocess import Preprocess

_SMALLEST = 1e-37
"""A probability of 0 has this one's logarithm."""


@dataclass
class FoundOnnx:
    """A file with one input of images and one output of classes."""

    path: Path
    model: Any
    """onnx.ModelProto, with the weights that lay beside it."""
    image_size: int | None
    """Pixels; None where any will do."""
    num_classes: int
    gives_probabilities: bool = False
    """Whether softmax is in the graph; found by trying."""

    @classmethod
    def read(cls, path: Path, *, num_classes: int) -> "FoundOnnx":
        """Read the file. Raises ModelError when it is none, or not of an image classifier with so many classes."""
        onnx = require("onnx", extra="train", purpose="Adopting an ONNX file")
        require("onnxruntime", extra="onnx", purpose="Adopting an ONNX file")
        from google.protobuf.message import DecodeError

        try:
            model = onnx.load(str(path))
            onnx.checker.check_model(model)
        except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
            reason = (str(error).splitlines() or ["it is cut short"])[0]
            raise ModelError(f"{str(path)!r} can't be read as ONNX: {reason}") from error
        weights = {tensor.name for tensor in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in weights]
        image_size = _image_size(path, inputs, float_type=onnx.TensorProto.FLOAT)
        _check_output(path, list(model.graph.output), num_classes)
        return cls(path, model, image_size, num_classes)

    def check(self, preprocess: Preprocess) -> None:
        """Run it on noise in batches of several sizes, and find out what it gives.

        Raises ModelError when it can't be run, or an image's answer depends on its batch.
        """
        side = preprocess.image_size
        try:
            pixels = np.random.default_rng(0).integers(0, 256, (max(BATCH_SIZES), 3, side, side), dtype=np.uint8)
            images = preprocess.normalize_array(pixels)
        except MemoryError as error:
            raise ModelError(
                f"There is no memory for {max(BATCH_SIZES)} images of {side} pixels. Lower --image-size."
            ) from error
        try:
            runner = OnnxRunner(self.path)
            rows = {size: runner.run(images[:size])[0] for size in BATCH_SIZES}
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelError(f"{str(self.path)!r} can't be run: {str(error).splitlines()[0]}") from error
        for size, answers in rows.items():
            self._check_answers(answers, size)
        whole = rows[max(BATCH_SIZES)].astype(np.float64)
        furthest = max(float(np.abs(answers - whole[: len(answers)]).max()) for answers in rows.values())
        if furthest > FLOAT32.max_difference * max(spread(whole), 1e-6):
            raise ModelError(
                f"{str(self.path)!r} answers an image differently in batches of {', '.join(map(str, BATCH_SIZES))}: "
                f"by up to {furthest:.2g}. Export it in evaluation mode, with a dynamic batch."
            )
        sums = whole.sum(axis=1)
        self.gives_probabilities = bool(whole.shape[1] > 1 and whole.min() >= 0 and np.allclose(sums, 1, atol=1e-4))

    def write(self, path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
        """Write the file with the metadata, all weights inside; gives its details. Raises ModelError."""
        if self.gives_probabilities:
            self._append_logarithm()
        del self.model.metadata_props[:]
        for key, value in metadata.items():
            self.model.metadata_props.add(key=key, value=value)
        if self.model.ByteSize() > MAX_BYTES:
            raise ModelError(
                f"The network takes {self.model.ByteSize():,} bytes as ONNX; one file holds {MAX_BYTES:,}."
            )
        path.write_bytes(self.model.SerializeToString())
        opset = next((part.version for part in self.model.opset_import if part.domain == ""), 0)
        names = [value.name for value in self.model.graph.output]
        return {"opset": opset, "outputs": names, "logarithm_appended": self.gives_probabilities}

    def _check_answers(self, answers: NDArray[np.float32], size: int) -> None:
        if answers.shape != (size, self.num_classes):
            raise ModelError(
                f"{str(self.path)!r} gives {_words(answers.shape)} for {size} images, but {self.num_classes} classes "
                "are named."
            )
        if not np.isfinite(answers).all():
            raise ModelError(f"{str(self.path)!r} gives values that are no finite numbers.")

    def _append_logarithm(self) -> None:
        onnx = require("onnx", extra="train", purpose="Adopting an ONNX file")
        graph = self.model.graph
        [output] = graph.output
        given = output.name
        taken = {name for node in graph.node for name in (*node.input, *node.output)}
        smallest, bounded, logits = (_free(name, taken) for name in ("smallest", "bounded", "logits"))
        graph.initializer.append(onnx.numpy_helper.from_array(np.float32(_SMALLEST), smallest))
        graph.node.append(onnx.helper.make_node("Max", [given, smallest], [bounded]))
        graph.node.append(onnx.helper.make_node("Log", [bounded], [logits]))
        output.name = logits


def _image_size(path: Path, inputs: list[Any], *, float_type: int) -> int | None:
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise ModelError(f"{str(path)!r} takes {len(inputs)} inputs ({names}), where one is expected: the images.")
    kind = inputs[0].type.tensor_type
    shape = _shape(kind)
    if len(shape) != 4 or kind.elem_type != float_type or shape[1] not in (3, None):
        raise ModelError(
            f"{str(path)!r} takes {_words(shape)} as {_type_name(kind.elem_type)}, where float32 images of "
            "(batch, 3, height, width) are expected."
        )
    if shape[0] is not None:
        raise ModelError(
            f"{str(path)!r} takes batches of {shape[0]} alone. Export it with a dynamic batch (torch.onnx.export's "
            "dynamic_shapes)."
        )
    if shape[2] != shape[3]:
        raise ModelError(f"{str(path)!r} takes images of {shape[2]}x{shape[3]} pixels, where squares are expected.")
    return shape[2]


def _check_output(path: Path, outputs: list[Any], num_classes: int) -> None:
    if len(outputs) != 1:
        names = ", ".join(value.name for value in outputs)
        raise ModelError(
            f"{str(path)!r} gives {len(outputs)} outputs ({names}), where one is expected: a number for each class."
        )
    shape = _shape(outputs[0].type.tensor_type)
    if len(shape) not in (0, 2):  # 0: the file doesn't say, and trying tells
        raise ModelError(f"{str(path)!r} gives {_words(shape)}, where (batch, classes) is expected.")
    if len(shape) == 2 and shape[1] not in (None, num_classes):
        raise ModelError(f"{str(path)!r} gives {shape[1]} classes, but {num_classes} are named.")


def _shape(kind: Any) -> tuple[int | None, ...]:
    """None where any number will do."""
    return tuple(side.dim_value if side.HasField("dim_value") else None for side in kind.shape.dim)


def _words(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('any' if side is None else str(side) for side in shape)})"


def _type_name(number: int) -> str:
    onnx = require("onnx", extra="train", purpose="Adopting an ONNX file")
    return onnx.TensorProto.DataType.Name(number).lower()


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
