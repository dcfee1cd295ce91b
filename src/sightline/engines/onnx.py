"""ONNX Runtime."""

from sightline.engines import Engine, Network, Settings, open_converted
from sightline.model_folder import ModelFolder


def open_onnx(folder: ModelFolder, settings: Settings) -> Network:
    """A conversion of the network."""
    return open_converted(folder, "onnx", settings)


ENTRY = Engine(
    title="ONNX Runtime",
    extra="onnx",
    modules=("onnxruntime",),
    precisions=("float32",),
    open=open_onnx,
    converts_to="onnx",
)
