"""ONNX, run by ONNX Runtime: one file that most runtimes and languages read.

Written by PyTorch's exporter from torch.export's program, in opset 20, with a dynamic batch. Weights are inside the
file, which its encoding bounds at 2 GiB. Its CPU kernels compute in float32; bfloat16 has none.

Metadata: `metadata_props`, a key for each part.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.deps import require
from sightline.errors import ModelError
from sightline.formats import FLOAT32, Format, Graph

FILE = "model.onnx"
OPSET = 20
"""Read by ONNX Runtime 1.17 and OpenVINO 2024.0 and newer."""
MAX_BYTES = 2**31 - 1
"""A protocol buffer can't be larger."""


class OnnxRunner:
    """A session of ONNX Runtime on the CPU. Raises ModelError for a file that this version of it can't open."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        runtime = require("onnxruntime", extra="onnx", purpose="Running an ONNX model")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or 0  # 0: as many as it likes
        self._path = path
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except runtime_errors() as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"{str(path)!r} can't be opened by ONNX Runtime: {reason}") from error
        self._input: str = self._session.get_inputs()[0].name

    def run(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        """The outputs in the graph's order. Raises ModelError for images that it can't be run on."""
        try:
            return self._session.run(None, {self._input: images})
        except runtime_errors() as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"{str(self._path)!r} can't be run by ONNX Runtime: {reason}") from error


def runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: a type for each of its codes, which have no parent of their own."""
    state = require("onnxruntime.capi.onnxruntime_pybind11_state", extra="onnx", purpose="Reading an ONNX file")
    return tuple(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))


def write(graph: Graph, folder: Path) -> dict[str, Any]:
    """Write model.onnx. Raises ModelError when the network can't be expressed, or is too large for one file."""
    import torch

    program = graph.program()
    try:
        written = torch.onnx.export(
            program,
            (graph.example,),
            input_names=[graph.input_name],
            output_names=list(graph.output_names),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).splitlines()[0]  # its own words are advice on reporting bugs
        raise ModelError(f"The network can't be written as ONNX: {reason}") from error
    assert written is not None  # with dynamo=True
    model = written.model_proto
    if model.ByteSize() > MAX_BYTES:
        raise ModelError(f"The network takes {model.ByteSize():,} bytes as ONNX; one file holds {MAX_BYTES:,}.")
    _name_batch(model)
    for key, value in graph.metadata.items():
        model.metadata_props.add(key=key, value=value)
    (folder / FILE).write_bytes(model.SerializeToString())
    return {"opset": OPSET, "input": graph.input_name, "outputs": list(graph.output_names)}


def open_onnx(folder: Path, precision: str, threads: int | None) -> OnnxRunner:
    """Open model.onnx; the precision is the graph's own: float32, or int8 of a quantised one."""
    assert precision in ("float32", "int8")
    return OnnxRunner(folder / FILE, threads)


def _name_batch(model: Any) -> None:
    """Call the dynamic dimension "batch", which torch.export numbers ("s77")."""
    made = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param == made:
                dimension.dim_param = "batch"


ENTRY = Format(
    title="ONNX, run by ONNX Runtime",
    extra="train,onnx",
    modules=("onnx", "onnxscript", "onnxruntime"),
    tolerances={"float32": FLOAT32},
    write=write,
    open=open_onnx,
    also_opens=("int8",),
)
