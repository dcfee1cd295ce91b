"""int8 for OpenVINO, by NNCF; with a bound on the loss it puts the layers that cost most back to float32.

Weights alone can be made smaller too, to int8 with a scale for each channel or to fp16: the arithmetic stays float32.
Layers that NNCF's rules leave in float32, such as squeeze-and-excitation's, get such weights, unless a bound was kept.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.deps import require
from sightline.formats.openvino import FILE
from sightline.quantization import Bound, Request, quietly


def quantize(request: Request, bound: Bound | None = None) -> dict[str, Any]:
    """Write model.xml and model.bin in int8; what was done is returned. Raises MissingPackageError."""
    openvino = require("openvino", extra="openvino", purpose="Quantising for OpenVINO")
    with quietly():
        nncf = require("nncf", extra="compress", purpose="Quantising for OpenVINO")
    model = openvino.Core().read_model(str(request.source / FILE))
    settings: dict[str, Any] = {
        "preset": nncf.QuantizationPreset.MIXED,
        "subset_size": len(request.calibration),
        "model_type": nncf.ModelType.TRANSFORMER if request.transformer else None,
    }
    dataset = nncf.Dataset(request.calibration)
    with quietly():
        if bound is None:
            written = nncf.quantize(model, dataset, **settings)
            if _float_layers(written):
                written = nncf.compress_weights(written, mode=nncf.CompressWeightsMode.INT8_SYM)
        else:
            written = nncf.quantize_with_accuracy_control(
                model,
                dataset,
                nncf.Dataset(bound.images),
                partial(_judged, bound),
                max_drop=bound.max_drop,
                drop_type=nncf.DropType.ABSOLUTE,
                **settings,
            )
    openvino.save_model(written, str(request.target / FILE), compress_to_fp16=False)
    return {
        "quantiser": "NNCF",
        "calibration_images": len(request.calibration),
        "float_layers": _float_layers(written),
    }


def shrink_weights(request: Request, precision: str) -> dict[str, Any]:
    """Write model.xml and model.bin with weights in "int8_weights" or "fp16"; what was done is returned."""
    openvino = require("openvino", extra="openvino", purpose="Making weights smaller for OpenVINO")
    model = openvino.Core().read_model(str(request.source / FILE))
    if precision == "fp16":
        openvino.save_model(model, str(request.target / FILE), compress_to_fp16=True)
        return {"quantiser": "OpenVINO, fp16 weights"}
    with quietly():
        nncf = require("nncf", extra="compress", purpose="Making weights smaller for OpenVINO")
        written = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
    openvino.save_model(written, str(request.target / FILE), compress_to_fp16=False)
    return {"quantiser": "NNCF, int8 weights"}


def _judged(bound: Bound, compiled: Any, images: Iterable[Any]) -> tuple[float, list[list[NDArray[Any]]]]:
    """The accuracy of a compiled model, and of each image the logits, by which NNCF ranks the layers."""
    logits = [np.array(compiled([image])[compiled.outputs[0]]) for image in images]
    return bound.accuracy(np.concatenate(logits)), [[row] for row in logits]


def _float_layers(model: Any) -> list[str]:
    """Layers with weights that compute in float32: no FakeQuantize makes their input."""
    layers = [node for node in model.get_ordered_ops() if node.get_type_name() in _WEIGHTED]
    return [
        node.get_friendly_name() for node in layers if node.input_value(0).get_node().get_type_name() != "FakeQuantize"
    ]


_WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")
