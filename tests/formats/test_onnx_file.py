"""ONNX: what the file says of itself to those who have only it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from filled import CLASSES, Exports
from foreign_network import make_foreign

from sightline.errors import ModelError
from sightline.exported_folder import ExportedFolder
from sightline.formats import open_exported
from sightline.formats.onnx import OnnxRunner

pytestmark = pytest.mark.xdist_group("formats")


@pytest.fixture
def folder(exports: Exports) -> ExportedFolder:
    return exports("onnx", pixels=True)


def test_the_file_is_opset_20_with_one_input_of_free_batch_and_two_outputs(folder: ExportedFolder) -> None:
    model = onnx.load(str(folder.path / "model.onnx"))
    assert [(part.domain, part.version) for part in model.opset_import if part.domain == ""] == [("", 20)]
    shapes = {
        value.name: [dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"pixels": ["batch", 16, 16, 3], "probabilities": ["batch", 3], "logits": ["batch", 3]}
    onnx.checker.check_model(model, full_check=True)


def test_its_metadata_name_the_classes_the_input_the_temperature_and_the_parent(folder: ExportedFolder) -> None:
    session = onnxruntime.InferenceSession(str(folder.path / "model.onnx"), providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == list(CLASSES)
    assert told["input"].startswith("pixels: uint8 (batch, 16, 16, 3), RGB, short side resized to 18 pixels (bilinear")
    assert json.loads(told["mean"]) == list(folder.spec.preprocess.mean)
    assert float(told["temperature"]) == 1.7
    assert told["parent"] == folder.artefact.parent


def test_a_lone_file_gives_calibrated_probabilities_of_pixels(folder: ExportedFolder) -> None:
    session = onnxruntime.InferenceSession(str(folder.path / "model.onnx"), providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    probabilities, logits = session.run(None, {"pixels": pixels})
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert np.allclose(probabilities, folder.spec.probabilities_of(logits), atol=1e-6)


def test_all_weights_are_in_the_one_file(folder: ExportedFolder) -> None:
    assert list(folder.artefact.files) == ["model.onnx"]
    assert (folder.path / "model.onnx").stat().st_size > 4 * 260_000
    assert folder.artefact.details == {"opset": 20, "input": "pixels", "outputs": ["probabilities", "logits"]}


def test_a_file_that_the_runtime_can_t_open_is_one_line(tmp_path: Path) -> None:
    future = make_foreign(tmp_path / "future.onnx")
    model = onnx.load(str(future))
    model.opset_import[0].version = 99
    onnx.save(model, str(future))
    (tmp_path / "cut.onnx").write_bytes(future.read_bytes()[:50])
    for path in (future, tmp_path / "cut.onnx", tmp_path / "nowhere.onnx"):
        with pytest.raises(ModelError, match="can't be opened by ONNX Runtime: .+") as error:
            OnnxRunner(path)
        assert "\n" not in str(error.value)


def test_a_precision_that_the_format_lacks_is_refused(folder: ExportedFolder) -> None:
    strange = replace(folder, artefact=replace(folder.artefact, precision="int3"))
    with pytest.raises(ModelError, match="was exported in 'int3', which 'onnx' doesn't have"):
        open_exported(strange)
