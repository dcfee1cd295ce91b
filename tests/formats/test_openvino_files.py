"""OpenVINO: the precision is named, and the two files tell what they are."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino.opset13 as opset
import pytest
from filled import CLASSES, Exports

from sightline.errors import DataError, ModelError
from sightline.exported_folder import ExportedFolder
from sightline.exporting import export
from sightline.formats import open_exported
from sightline.formats.openvino import LIGHT_BYTES, OpenVinoRunner

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
    has_bf16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert hints == {"float32": "f32", "bf16": "bf16" if has_bf16 else "f32"}  # OpenVINO's choice on a CPU without


@pytest.mark.slow
def test_bf16_is_named_in_the_folder_and_in_its_name(exports: Exports) -> None:
    folder = exports("openvino", precision="bf16")
    assert folder.artefact.precision == "bf16"
    assert folder.path.name == "model-openvino-bf16"
    assert ExportedFolder.read(folder.path).artefact.parity["tolerance"]["max_difference"] == 0.5


@pytest.mark.parametrize("emulated", [True, False])
def test_a_comparison_that_may_not_be_of_bf16_says_so(
    emulated: bool, exports: Exports, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr("sightline.exporting.emulates_bf16", lambda _: emulated)
    model = exports("openvino").path.parent / "model"
    with caplog.at_level("INFO", logger="sightline"), pytest.raises(DataError):
        export(model, "openvino", precision="bf16", data=tmp_path / "none", out=tmp_path / "out")
    assert any("the comparison then says nothing of bfloat16" in message for message in caplog.messages) == emulated


def test_answers_do_not_change_when_the_batch_is_computed_again(folder: ExportedFolder) -> None:
    opened = open_exported(ExportedFolder.read(folder.path))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16), dtype=np.uint8)
    first = opened(pixels).logits
    opened(pixels[::-1].copy())
    assert np.array_equal(first, opened(pixels).logits)  # the runtime's own memory is not handed out


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_one_image_two_and_four_are_compiled_for_once_more_and_have_the_bits_that_they_have_among_others(
    precision: str, folder: ExportedFolder
) -> None:
    runner = OpenVinoRunner(folder.path / "model.xml", precision, threads=1)
    images = np.random.default_rng(0).standard_normal((7, 3, 16, 16), dtype=np.float32)
    (among,) = runner.run(images)
    assert shapes(runner) == []
    for few in (1, 2, 3, 4, 1):
        alone = [runner.run(images[start : start + few])[0] for start in range(0, 7, few)]
        assert np.array_equal(np.concatenate(alone), among)
    assert shapes(runner) == ["[1,3,16,16]", "[2,3,16,16]", "[4,3,16,16]"]


@pytest.mark.parametrize(
    ("features", "attends", "batch", "precision", "again"),
    [
        (8, False, -1, "int8", True),
        (8, True, -1, "float32", True),
        (8, True, -1, "int8", False),
        (8, True, -1, "bf16", False),
        (8, False, 1, "float32", False),
        (LIGHT_BYTES // 4 // 3, False, -1, "float32", False),
    ],
)
def test_compiled_once_are_heavy_networks_attention_below_float32_and_a_batch_that_is_known_anyway(
    features: int, attends: bool, batch: int, precision: str, again: bool, tmp_path: Path
) -> None:
    images = opset.parameter([batch, 3, 2, 2], np.float32)
    pooled = opset.reduce_mean(images, opset.constant([2, 3]), keep_dims=False)
    drawn = np.random.default_rng(0).standard_normal((3, features + 1), dtype=np.float32)
    logits = opset.matmul(pooled, opset.constant(drawn), transpose_a=False, transpose_b=False)
    model: Any = openvino.Model([opset.softmax(logits, 1) if attends else logits], [images])  # pyright: ignore[reportGeneralTypeIssues]
    openvino.save_model(model, str(tmp_path / "model.xml"), compress_to_fp16=False)
    runner = OpenVinoRunner(tmp_path / "model.xml", precision)
    assert runner.run(np.ones((1, 3, 2, 2), np.float32))[0].shape == (1, features + 1)
    assert shapes(runner) == (["[1,3,2,2]"] if again else [])


def test_images_are_read_as_they_lie_and_stay_what_they_were(folder: ExportedFolder) -> None:
    runner = OpenVinoRunner(folder.path / "model.xml", "float32")
    images = np.random.default_rng(0).standard_normal((5, 16, 16, 3), dtype=np.float32).transpose(0, 3, 1, 2)
    images.flags.writeable = False
    before = images.copy()
    assert np.array_equal(runner.run(images)[0], runner.run(before)[0])
    assert np.array_equal(images, before)


def shapes(runner: OpenVinoRunner) -> list[str]:
    """Of what was compiled once more."""
    return [str(request.input_tensors[0].shape) for request in runner._requests_of_few.values()]  # pyright: ignore[reportPrivateUsage]


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


def test_a_file_that_is_written_over_changes_no_answer_of_the_one_that_was_opened(
    folder: ExportedFolder, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(folder.path, tmp_path / "model"))
    runner = OpenVinoRunner(copied / "model.xml", "float32")
    image = np.random.default_rng(0).random((1, 3, 16, 16), dtype=np.float32)
    [before] = runner.run(image)
    (copied / "model.bin").write_bytes(b"")  # in place: the memory it was mapped to would be gone
    [after] = runner.run(image)
    assert np.array_equal(before, after)
