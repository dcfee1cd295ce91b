"""An ONNX file that another tool wrote: looked through, tried out, and written with a description of its own.

It is taken where it is what an export of ours is without pixels: one input of normalised images (B, 3, H, H), one
output (B, K), any batch size. Where the output is probabilities, their logarithm is appended: logits, up to a constant
that softmax doesn't see. Whether it is, is seen on images of several brightnesses: numbers from 0 to 1 that add up to
about 1. Such numbers that don't, as sigmoids give them, are refused: their logarithm would not be what they mean.
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

ROUNDED = 0.03
"""How far from 1 the probabilities of an image may add up to: float16 and eight bits round them."""


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
        _check_output(path, list(model.graph.output), num_classes, float_type=onnx.TensorProto.FLOAT)
        return cls(path, model, image_size, num_classes)

    def check(self, preprocess: Preprocess) -> None:
        """Run it on noise in batches of several sizes, and find out what it gives.

        Raises ModelError when it can't be run, an image's answer depends on its batch, or it gives sigmoids.
        """
        images = _noise(preprocess)
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
        if whole.min() >= 0 and whole.max() <= 1:
            self._check_sums(whole.sum(axis=1))
            self.gives_probabilities = True

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

    def check_written(self, path: Path, preprocess: Preprocess) -> None:
        """Open what was written and run it beside the file. Raises ModelError where it can't be, or answers otherwise.

        An older file's operators may not go with the logarithm that was appended.
        """
        images = _noise(preprocess)[: min(BATCH_SIZES)]
        [expected] = OnnxRunner(self.path).run(images)
        if self.gives_probabilities:
            expected = np.log(np.maximum(expected, np.float32(_SMALLEST)))
        try:
            [found] = OnnxRunner(path).run(images)
        except ModelError as error:
            reason = str(error).rpartition(" ONNX Runtime: ")[2]
            raise ModelError(f"What would be written of {str(self.path)!r} can't be run: {reason}") from error
        if found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-4, atol=1e-4):
            raise ModelError(f"What would be written of {str(self.path)!r} gives other answers than the file itself.")

    def _check_sums(self, sums: NDArray[np.float64]) -> None:
        if np.abs(sums - 1).max() > ROUNDED:
            raise ModelError(
                f"{str(self.path)!r} gives numbers from 0 to 1 that add up to {sums.min():.3g} to {sums.max():.3g} for "
                "an image, as sigmoid outputs do: export it without its last sigmoid (or softmax), for logits."
            )

    def _check_answers(self, answers: NDArray[np.float32], size: int) -> None:
        if answers.dtype != np.float32:
            raise ModelError(f"{str(self.path)!r} gives {answers.dtype}, where float32 is expected.")
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
        taken |= {value.name for value in (*graph.input, *graph.initializer)}
        smallest, bounded, logits = (_free(name, taken) for name in ("smallest", "bounded", "logits"))
        graph.initializer.append(onnx.numpy_helper.from_array(np.float32(_SMALLEST), smallest))
        graph.node.append(onnx.helper.make_node("Max", [given, smallest], [bounded]))
        graph.node.append(onnx.helper.make_node("Log", [bounded], [logits]))
        output.name = logits


def _noise(preprocess: Preprocess) -> NDArray[np.float32]:
    """Images of noise, the first one dark and the last one bright: hardly any logits lie in [0, 1] for all."""
    side = preprocess.image_size
    try:
        pixels = np.random.default_rng(0).integers(0, 256, (max(BATCH_SIZES), 3, side, side), dtype=np.uint8)
        pixels[0] //= 16
        pixels[-1] = 255 - pixels[-1] // 16
        return preprocess.normalize_array(pixels)
    except (MemoryError, ValueError) as error:
        raise ModelError(
            f"There is no memory for {max(BATCH_SIZES)} images of {side} pixels. Lower --image-size."
        ) from error


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


def _check_output(path: Path, outputs: list[Any], num_classes: int, *, float_type: int) -> None:
    if len(outputs) != 1:
        names = ", ".join(value.name for value in outputs)
        raise ModelError(
            f"{str(path)!r} gives {len(outputs)} outputs ({names}), where one is expected: a number for each class."
        )
    kind = outputs[0].type.tensor_type
    if kind.elem_type != float_type:
        raise ModelError(
            f"{str(path)!r} gives {_type_name(kind.elem_type)}, where a float32 number for each class is expected."
        )
    shape = _shape(kind)
    if num_classes < 2 or shape[1:] == (1,):
        raise ModelError(f"{str(path)!r} is of one class, where a number for each of two or more is expected.")
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
