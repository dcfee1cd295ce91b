"""OpenVINO; it reads ONNX files too."""

from sightline.engines import Engine, Network, Settings, open_converted
from sightline.exported_folder import ExportedFolder
from sightline.formats import Runner
from sightline.formats.onnx import FILE as ONNX_FILE
from sightline.formats.openvino import OpenVinoRunner
from sightline.model_folder import ModelFolder


def open_openvino(folder: ModelFolder, settings: Settings) -> Network:
    """A conversion of the network."""
    return open_converted(folder, "openvino", settings)


def open_onnx_file(folder: ExportedFolder, settings: Settings) -> Runner:
    """The file of an exported ONNX model."""
    return OpenVinoRunner(folder.path / ONNX_FILE, settings.precision, settings.threads)


ENTRY = Engine(
    title="OpenVINO",
    extra="openvino",
    modules=("openvino",),
    precisions=("float32", "bf16"),
    open=open_openvino,
    converts_to="openvino",
    reads={"onnx": open_onnx_file},
)
