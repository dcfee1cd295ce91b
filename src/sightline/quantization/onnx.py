"""int8 for ONNX Runtime: QDQ nodes around every operator that has an int8 kernel.

Activations are unsigned and weights signed, a scale for each channel: with signed activations ONNX Runtime 1.31 takes
no VNNI kernel on x86, and int8 was no faster than float32 there.
"""

from collections.abc import Iterator
from typing import Any

from sightline.deps import require
from sightline.formats.onnx import FILE
from sightline.quantization import Request, quietly


def quantize(request: Request) -> dict[str, Any]:
    """Write model.onnx in int8; what was done is returned. Raises MissingPackageError."""
    onnx = require("onnx", extra="train,onnx", purpose="Quantising for ONNX Runtime")
    tools = require("onnxruntime.quantization", extra="onnx", purpose="Quantising for ONNX Runtime")
    shapes = require("onnxruntime.quantization.shape_inference", extra="onnx", purpose="Quantising for ONNX Runtime")
    prepared = request.target / "prepared.onnx"
    with quietly():
        # Symbolic shapes fail on shifted windows; the optimiser, which folds batch norms, needs none.
        shapes.quant_pre_process(str(request.source / FILE), str(prepared), skip_symbolic_shape=True)
        own = onnx.load(str(request.source / FILE))
        tools.quantize_static(
            str(prepared),
            str(request.target / FILE),
            _Reader(own.graph.input[0].name, request),
            quant_format=tools.QuantFormat.QDQ,
            per_channel=True,
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
        )
    prepared.unlink()
    written = onnx.load(str(request.target / FILE))
    del written.metadata_props[:]
    written.metadata_props.extend(own.metadata_props)
    onnx.save(written, str(request.target / FILE))
    return {"quantiser": "ONNX Runtime, QDQ", "calibration_images": len(request.calibration)}


class _Reader:
    """Hands the calibration images out one by one, as ONNX Runtime's CalibrationDataReader does."""

    def __init__(self, name: str, request: Request) -> None:
        self._name = name
        self._images: Iterator[Any] = iter(request.calibration)

    def get_next(self) -> dict[str, Any] | None:
        """The next image by the input's name; None at the end."""
        image = next(self._images, None)
        return None if image is None else {self._name: image}
