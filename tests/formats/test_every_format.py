"""The contract: an export gives its model's answers, tells all about itself, and refuses what was changed."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filled import FORMATS, NAMES, PIXELS, Exports, make_filled, marks

from sightline.errors import ModelError, RecipeError, SightlineError
from sightline.exported_folder import ExportedFolder
from sightline.exporting import export
from sightline.exporting.parity import read_parity
from sightline.formats import Format, find_format
from sightline.model_folder import ModelFolder
from sightline.prediction import Predictor
from sightline.preprocess import Preprocess

pytestmark = pytest.mark.xdist_group("formats")  # each export is made once

WITHOUT_TORCH = [name for name in NAMES if name not in ("torch", "executorch")]


def both_inputs(name: str) -> list[object]:
    usual = PIXELS.get(name, False)
    slow = [] if name == "torch" else [pytest.mark.slow]  # the cheapest stays in the default run
    return [pytest.param(name, usual, marks=marks(name)), pytest.param(name, not usual, marks=[*marks(name), *slow])]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_states_its_tolerances_float32_first(name: str) -> None:
    form = find_format(name)
    assert isinstance(form, Format)
    assert next(iter(form.tolerances)) == "float32"
    assert form.tolerances["float32"].max_difference <= 1e-3


@pytest.mark.parametrize(("name", "pixels"), [case for name in NAMES for case in both_inputs(name)])
def test_an_export_answers_as_its_model_does_in_batches_of_any_size(
    name: str, pixels: bool, exports: Exports, filled: ModelFolder, few_photos: Path
) -> None:
    files = sorted(few_photos.rglob("*.jpg"))[:9]
    expected = Predictor.open(filled.path).predict(files)
    assert len({answer.guesses[0].probability for answer in expected}) > 5  # else all would agree whatever it did
    predictor = Predictor.open(exports(name, pixels=pixels).path)
    for batch_size in (1, 4, 7):
        for ours, theirs in zip(predictor.predict(files, batch_size=batch_size), expected, strict=True):
            assert [guess.label for guess in ours.guesses] == [guess.label for guess in theirs.guesses]
            values = [guess.probability for guess in ours.guesses]
            assert values == pytest.approx([guess.probability for guess in theirs.guesses], abs=1e-6)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("tta", ["flip", "five_crop"])
def test_views_are_averaged_alike(name: str, tta: str, exports: Exports, filled: ModelFolder, few_photos: Path) -> None:
    files = sorted(few_photos.rglob("*.jpg"))[:3]
    plain = Predictor.open(filled.path).predict(files)
    expected = Predictor.open(filled.path, tta=tta).predict(files)  # type: ignore[arg-type]
    found = Predictor.open(exports(name).path, tta=tta).predict(files)  # type: ignore[arg-type]
    assert expected != plain
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.guesses[0].probability == pytest.approx(theirs.guesses[0].probability, abs=1e-6)


@pytest.mark.parametrize("name", FORMATS)
def test_the_folder_tells_what_was_exported_from_what_and_how_close_it_is(
    name: str, exports: Exports, filled: ModelFolder
) -> None:
    folder = exports(name)
    again = ExportedFolder.read(folder.path)
    assert again.spec == filled.spec
    assert again.artefact.parent == filled.spec.fingerprint
    assert sorted(path.name for path in folder.path.iterdir()) == sorted(["model.json", *again.artefact.files])
    parity = read_parity(again)
    assert (parity.num_images, parity.failures) == (15, ())
    assert set(parity.by_batch_size) >= {"1", "4", "7"}
    assert parity.scale > 0.1
    assert "15 images, all there are" in parity.lines[0]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("damage", ["truncated", "corrupted", "missing"])
def test_a_damaged_file_is_one_sentence(name: str, damage: str, exports: Exports, tmp_path: Path) -> None:
    folder = exports(name)
    for file in folder.artefact.files:
        copy = Path(shutil.copytree(folder.path, tmp_path / file))
        content = (copy / file).read_bytes()
        middle = len(content) // 2
        if damage == "missing":
            (copy / file).unlink()
        elif damage == "truncated":
            (copy / file).write_bytes(content[:middle])
        else:
            (copy / file).write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        with pytest.raises(ModelError, match="can't be read" if damage == "missing" else "its sha256 differs") as error:
            Predictor.open(copy)
        assert "\n" not in str(error.value)


CHANGES = {
    "preprocessing": lambda content: content["spec"]["preprocess"].update(mean=[0.5, 0.5, 0.5]),
    "classes": lambda content: content["spec"].update(classes=["red", "green", "blue"]),
    "temperature": lambda content: content["spec"]["calibration"].update(temperature=1.0),
    "precision": lambda content: content["artefact"].update(precision="bf16"),
    "pixels": lambda content: content["artefact"].update(pixels=False),
    "parity": lambda content: content["artefact"]["parity"].update(max_difference=0.0),
    "hash": lambda content: content["artefact"]["files"].update({next(iter(content["artefact"]["files"])): "0"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_description_changed_by_hand_is_refused(change: str, exports: Exports, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(exports("onnx").path, tmp_path / "copy"))
    content = json.loads((copy / "model.json").read_text())
    CHANGES[change](content)
    (copy / "model.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="was changed after it was written") as error:
        Predictor.open(copy)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_predicting_needs_no_torch(name: str, exports: Exports, few_photos: Path) -> None:
    photo = few_photos / "red" / "000.jpg"
    code = (
        "import sys, sightline\n"
        f"[answer] = sightline.Predictor.open({str(exports(name).path)!r}).predict([{str(photo)!r}])\n"
        "print(len(answer.guesses), *[name for name in ('torch', 'lightning', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["3"]


def test_another_device_than_the_cpu_is_refused(exports: Exports) -> None:
    with pytest.raises(SightlineError, match="runs on the CPU, not on the device 'cuda'"):
        Predictor.open(exports("torch").path, device="cuda")


def test_views_that_the_images_do_not_allow_are_refused(tmp_path: Path, few_photos: Path) -> None:
    with pytest.raises(RecipeError, match="Use --tta flip"):
        Predictor(_without_margin(make_filled(tmp_path / "model")), tta="five_crop")


def _without_margin(folder: ModelFolder) -> ModelFolder:
    return ModelFolder(folder.path, replace(folder.spec, preprocess=Preprocess(image_size=16, resize=16)))


def test_an_exported_folder_is_no_model_folder_and_says_so(exports: Exports) -> None:
    with pytest.raises(ModelError, match="holds an exported model, which only predicts"):
        ModelFolder.read(exports("torch").path)


def test_a_model_folder_is_no_exported_one(filled: ModelFolder) -> None:
    with pytest.raises(ModelError, match="not an exported one"):
        ExportedFolder.read(filled.path)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("pixels", [False, True])
def test_several_labels_an_image_are_answered_alike(name: str, pixels: bool, tmp_path: Path, few_photos: Path) -> None:
    model = make_filled(tmp_path / "model", multi_label=True)
    listed = tmp_path / "labels.csv"
    files = sorted(few_photos.rglob("*.jpg"))
    rows = [f"{file},{file.parent.name};{'red' if number % 2 else 'blue'}" for number, file in enumerate(files)]
    listed.write_text("path,label\n" + "\n".join(rows) + "\n")
    model = _with_separator(model)
    folder = export(model, name, pixels=pixels, data=listed)
    expected, found = Predictor.open(model.path).predict(files), Predictor.open(folder.path).predict(files)
    assert any(answer.guesses for answer in expected)
    assert [[guess.label for guess in answer.guesses] for answer in found] == [
        [guess.label for guess in answer.guesses] for answer in expected
    ]


def _with_separator(folder: ModelFolder) -> ModelFolder:
    provenance = replace(folder.spec.provenance, data={**folder.spec.provenance.data, "label_separator": ";"})
    return ModelFolder(folder.path, replace(folder.spec, provenance=provenance))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("network", "image_size"), [("vit_ti_16", 32), ("swin_t", 64), ("efficientnet_b0", 32)])
def test_attention_windows_and_depthwise_convolutions_are_exported(
    name: str, network: str, image_size: int, tmp_path: Path, few_photos: Path
) -> None:
    model = make_filled(tmp_path / "model", network, image_size=image_size)
    parity = read_parity(export(model, name, pixels=True, data=few_photos))
    assert parity.failures == ()
    assert parity.scale > 0.01


def test_an_array_is_normalised_to_the_bits_of_a_tensor() -> None:
    import torch

    preprocess = Preprocess(image_size=5, resize=5)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 5), dtype=np.uint8)
    expected = preprocess.normalize(torch.from_numpy(pixels))
    found = preprocess.normalize_array(pixels)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert torch.equal(torch.from_numpy(found), expected)
