"""OpenVINO's intermediate representation: the fastest of these on Intel's and AMD's CPUs.

Converted from torch.export's program, with a dynamic batch and float32 weights. OpenVINO computes in bfloat16 of its
own accord where the CPU has it, which moved logits by 0.01 to 1 in networks filled with random weights; so the
precision is always named when the model is opened: float32 unless bf16 was asked for.

A graph whose sizes are all known before it is compiled runs faster, a light one by 5 to 20%: for one image, two and
four, where that shows, such a network is compiled once more.

Metadata: `rt_info`, a key for each part below "sightline".
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.deps import require
from sightline.errors import ModelError, SightlineError
from sightline.formats import BF16, FLOAT32, Format, Graph

FILE = "model.xml"
"""Beside it lies model.bin, the weights."""
WEIGHTS_ALONE = ("int8_weights", "fp16")
"""Precisions in which weights are stored, and made float32 where they are used."""
HINTS = {"float32": "f32", "bf16": "bf16", "int8": "f32"} | dict.fromkeys(WEIGHTS_ALONE, "f32")
"""What is left in float of a graph that was quantised computes in float32."""


FEW = (1, 2, 4)
"""Images in a batch, for each of which a light network is compiled once more."""
LIGHT_BYTES = 32 * 2**20
"""Of weights, which each compilation holds once more; heavier networks would gain a few hundredths at most."""
ATTENTION = frozenset({"Softmax", "ScaledDotProductAttention"})
"""Where they stand in a quantised graph, known sizes give other kernels and bits (0.01 of a logit). bf16: untried."""


class OpenVinoRunner:
    """A model compiled for the CPU. Raises ModelError for a file that this version of OpenVINO can't open."""

    def __init__(self, path: Path, precision: str, threads: int | None = None) -> None:
        openvino = require("openvino", extra="openvino", purpose="Running an OpenVINO model")
        core = self._core = openvino.Core()
        core.set_property({"ENABLE_MMAP": False})  # a file that is written over would change the answers, or end us
        hints: dict[str, Any] = {"INFERENCE_PRECISION_HINT": HINTS[precision]}
        hints |= {} if threads is None else {"INFERENCE_NUM_THREADS": threads}
        try:
            self._model = core.read_model(str(path))
            self._compiled = core.compile_model(self._model, "CPU", hints)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]  # the first ones name lines of its own source
            raise ModelError(f"{str(path)!r} can't be opened by OpenVINO: {reason}") from error
        self._hints = hints
        self._tensor: Any = openvino.Tensor
        self._request = self._compiled.create_infer_request()
        self._few = FEW if _gains_by_known_sizes(self._model, precision) else ()
        self._requests_of_few: dict[int, Any] = {}

    def run(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        """The outputs in the graph's order."""
        request = self._of_few(len(images)) if len(images) in self._few else self._request
        images = np.require(images, requirements=["C", "W"])  # kept by this name: the tensor is its memory, no copy
        request.set_input_tensor(self._tensor(images, shared_memory=True))
        request.infer()  # calling the compiled model takes 20 microseconds more
        return [np.array(output.data, dtype=np.float32) for output in request.output_tensors]

    def _of_few(self, batch: int) -> Any:
        """A request of so many images, which gives the same bits; compiled at the first run that has so many."""
        if batch not in self._requests_of_few:
            model = self._model.clone()
            model.reshape([batch, *list(model.inputs[0].partial_shape)[1:]])
            self._requests_of_few[batch] = self._core.compile_model(model, "CPU", self._hints).create_infer_request()
        return self._requests_of_few[batch]


def _gains_by_known_sizes(model: Any, precision: str) -> bool:
    """Whether it is a light network that takes any number of images, and gives the same bits where that is known."""
    operations = model.get_ops()
    weights = sum(part.get_byte_size() for part in operations if part.get_type_name() == "Constant")
    is_same = precision == "float32" or all(part.get_type_name() not in ATTENTION for part in operations)
    return model.inputs[0].partial_shape[0].is_dynamic and weights <= LIGHT_BYTES and is_same


def write(graph: Graph, folder: Path) -> dict[str, Any]:
    """Write model.xml and model.bin. Raises ModelError when the network can't be expressed."""
    openvino = require("openvino", extra="openvino", purpose="Exporting to OpenVINO")
    program = graph.program()
    try:
        model = openvino.convert_model(program)
    except RuntimeError as error:
        raise ModelError(f"The network can't be converted to OpenVINO: {str(error).splitlines()[0]}") from error
    model.inputs[0].get_tensor().set_names({graph.input_name})
    for output, name in zip(model.outputs, graph.output_names, strict=True):
        output.get_tensor().set_names({name})
    model.reshape([-1, *graph.example.shape[1:]])  # only the batch is free
    for key, value in graph.metadata.items():
        model.set_rt_info(value, ["sightline", key])
    try:
        openvino.save_model(model, str(folder / FILE), compress_to_fp16=False)
    except RuntimeError as error:  # a full disk, say
        raise SightlineError(f"Could not write {FILE}: {str(error).splitlines()[-1]}") from error
    return {"input": graph.input_name, "outputs": list(graph.output_names)}


ENTRY = Format(
    title="OpenVINO intermediate representation",
    extra="openvino",
    modules=("openvino",),
    tolerances={"float32": FLOAT32, "bf16": BF16},
    write=write,
    open=lambda folder, precision, threads: OpenVinoRunner(folder / FILE, precision, threads),
    also_opens=("int8", *WEIGHTS_ALONE),
)
