"""OpenVINO: the precision is named, and the two files tell what they are."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import pytest
from filled import CLASSES, Exports

from sightline.errors import ModelError
from sightline.exported_folder import ExportedFolder
from sightline.formats import open_exported
from sightline.formats.openvino import OpenVinoRunner

pytestmark = pytest.mark.xdist_group("formats")


@pytest.fixture
def folder(exports: Exports) -> ExportedFolder:
    return exports("openvino", pixels=False)


def test_rt_info_names_the_classes_the_input_and_the_parent(folder: ExportedFolder) -> None:
    read = openvino.Core().read_model(str(folder.path / "model.xml"))
    told = {key: read.get_rt_info(["sightline", key]).value for key in ("classes", "input", "parent", "temperature")}
    assert json.loads(told["classes"]) == list(CLASSES)
    assert told["input"].startswith("images: float32 (batch, 3, 16, 16), RGB")
    assert told["parent"] == folder.artefact.parent
    assert float(told["temperature"]) == 1.7


def test_only_the_batch_is_free_and_weights_stay_float32(folder: ExportedFolder) -> None:
    read = openvino.Core().read_model(str(folder.path / "model.xml"))
    assert str(read.inputs[0].partial_shape) == "[?,3,16,16]"
    assert [sorted(port.names) for port in (*read.inputs, *read.outputs)] == [["images"], ["logits"]]
    assert (folder.path / "model.bin").stat().st_size > 4 * 260_000


def test_the_precision_of_computing_is_the_one_that_was_asked_for(folder: ExportedFolder) -> None:
    hints = {}
    for precision in ("float32", "bf16"):
        chosen = replace(folder, artefact=replace(folder.artefact, precision=precision))
        compiled = open_exported(chosen).runner._compiled  # type: ignore[attr-defined]
        hints[precision] = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    assert hints == {"float32": "f32", "bf16": "bf16"}


@pytest.mark.slow
def test_bf16_is_named_in_the_folder_and_in_its_name(exports: Exports) -> None:
    folder = exports("openvino", precision="bf16")
    assert folder.artefact.precision == "bf16"
    assert folder.path.name == "model-openvino-bf16"
    assert ExportedFolder.read(folder.path).artefact.parity["tolerance"]["max_difference"] == 0.5


def test_answers_do_not_change_when_the_batch_is_computed_again(folder: ExportedFolder) -> None:
    opened = open_exported(ExportedFolder.read(folder.path))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16), dtype=np.uint8)
    first = opened(pixels).logits
    opened(pixels[::-1].copy())
    assert np.array_equal(first, opened(pixels).logits)  # the runtime's own memory is not handed out


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
def test_a_file_cut_short_is_one_line_even_where_its_hash_was_not_looked_at(
    name: str, folder: ExportedFolder, tmp_path: Path
) -> None:
    for file in folder.artefact.files:
        content = (folder.path / file).read_bytes()
        (tmp_path / file).write_bytes(content[: len(content) // 2] if file == name else content)
    with pytest.raises(ModelError, match="can't be opened by OpenVINO: .+") as error:
        OpenVinoRunner(tmp_path / "model.xml", "float32")
    assert "\n" not in str(error.value)
