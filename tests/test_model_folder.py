import json
from pathlib import Path

import pytest
import torch
from making import make_folder

from sightline.errors import ModelError
from sightline.model_folder import Architecture, Calibration, ModelFolder, ModelSpec, Provenance
from sightline.preprocess import Preprocess


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    return make_folder(tmp_path / "model")


def test_what_is_read_is_what_was_written(folder: ModelFolder) -> None:
    again = ModelFolder.read(folder.path)
    assert again.spec == folder.spec
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(again.model()(images), folder.model()(images))


def test_a_plain_model_keeps_the_name_it_had_before_there_were_more_settings() -> None:
    spec = ModelSpec(
        architecture=Architecture(name="resnet20", num_classes=2, image_size=16),
        classes=("a", "b"),
        preprocess=Preprocess(image_size=16, resize=18),
        calibration=Calibration(),
        provenance=Provenance(command="", created="", data={}, versions={}),
    )
    # As written in the first version: another value would lock every folder that exists.
    assert spec.fingerprint == "10bb2d696f19bce3489e4e864f8c4b5608a8f82e4853fefe5703e945b4502a69"


def test_the_network_comes_back_in_evaluation_mode(folder: ModelFolder) -> None:
    assert not folder.model().training


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda spec: spec["preprocess"].update(resize=20), "was changed after it was written"),
        (lambda spec: spec.update(classes=["red", "green", "blue"]), "was changed after it was written"),
        (lambda spec: spec["calibration"].update(temperature=1.0), "was changed after it was written"),
        (lambda spec: spec["preprocess"].update(resize="20"), "is damaged"),
        (lambda spec: spec.pop("classes"), "is damaged"),
    ],
)
def test_a_change_by_hand_is_refused(folder: ModelFolder, change, sentence: str) -> None:
    file = folder.path / "model.json"
    content = json.loads(file.read_text())
    change(content["spec"])
    file.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=sentence) as error:
        ModelFolder.read(folder.path)
    assert "\n" not in str(error.value)


def test_figures_can_be_added_without_changing_the_fingerprint(folder: ModelFolder) -> None:
    measured = folder.with_figures({"test": {"accuracy": 0.9}})
    assert ModelFolder.read(folder.path).spec.figures == {"test": {"accuracy": 0.9}}
    assert measured.spec.fingerprint == folder.spec.fingerprint


@pytest.mark.parametrize("cut", [0, 100, -1])
def test_truncated_weights_are_one_sentence(folder: ModelFolder, cut: int) -> None:
    file = folder.path / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ModelError, match="is not the file that model.json describes"):
        folder.model()


def test_weights_of_another_network_are_refused(folder: ModelFolder, tmp_path: Path) -> None:
    other = make_folder(tmp_path / "other", classes=("cat", "dog"))
    (folder.path / "weights.safetensors").write_bytes((other.path / "weights.safetensors").read_bytes())
    with pytest.raises(ModelError, match="is not the file"):
        folder.model()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is damaged"),
        ("[]", "format None"),
        ('{"format": 99}', "holds a model of format 99; this version reads format 1"),
        ('{"format": 1}', "is damaged"),
    ],
)
def test_a_damaged_description_is_one_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(ModelError, match=sentence):
        ModelFolder.read(tmp_path)


def test_no_folder_a_file_an_empty_folder_and_an_unfinished_run_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for name, sentence in {"none": "There is no", "file": "no model folder", "run": "hasn't ended"}.items():
        with pytest.raises(ModelError, match=sentence):
            ModelFolder.read(tmp_path / name)


def test_no_file_in_a_model_folder_is_a_pickle(folder: ModelFolder) -> None:
    assert sorted(file.suffix for file in folder.path.iterdir()) == [".json", ".safetensors"]
