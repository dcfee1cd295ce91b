import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from making import make_folder

from sightline.errors import ModelError, SightlineError
from sightline.model_folder import Architecture, Calibration, ModelFolder, ModelSpec, Provenance, Thresholds
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
        ('{"format": 1}', "is damaged: it has no 'spec'"),
        ("[" * 200_000 + "]" * 200_000, "is damaged: maximum recursion depth exceeded"),
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


def test_a_folder_that_can_t_be_written_to_is_one_sentence(
    folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(SightlineError, match=r"Could not write '.*model\.json': Permission denied\."):
        ModelFolder.write(folder.path, folder.spec, {})


def test_no_file_in_a_model_folder_is_a_pickle(folder: ModelFolder) -> None:
    assert sorted(file.suffix for file in folder.path.iterdir()) == [".json", ".safetensors"]


@pytest.mark.parametrize(
    ("part", "changes", "sentence"),
    [
        (None, {"classes": ["a", "b"]}, "There are 2 class names for 3 logits"),
        (None, {"classes": ["a", "b", "c", "d"]}, "There are 4 class names for 3 logits"),
        (None, {"classes": []}, "A model needs at least 1 class, and there is none"),
        (None, {"classes": ["a", "b", "a"]}, "2 classes have the name 'a'"),
        (None, {"classes": ["a", "", "c"]}, "The name of class 2 is empty"),
        ("architecture", {"num_classes": 10**12}, "There are 3 class names for 1000000000000 logits"),
        ("calibration", {"temperature": 0.0}, "The temperature must be a number greater than 0, got 0.0"),
        ("calibration", {"temperature": -1.0}, "The temperature must be a number greater than 0, got -1.0"),
        ("calibration", {"temperature": float("nan")}, "The temperature must be a number greater than 0, got nan"),
        ("preprocess", {"std": [float("nan")] * 3}, "Every std must be a number greater than 0, got (nan, nan, nan)"),
        ("preprocess", {"std": [1.0, 1.0, float("inf")]}, "Every std must be a number greater than 0, got"),
        ("preprocess", {"mean": [float("nan"), 0.0, 0.0]}, "Every mean must be a number, got (nan, 0.0, 0.0)"),
        ("architecture", {"image_size": "16"}, "spec.architecture.image_size: Input should be a valid integer"),
    ],
)
def test_what_no_model_can_have_is_named(
    folder: ModelFolder,
    run_cli: Callable[..., tuple[int, str, str]],
    part: str | None,
    changes: dict[str, object],
    sentence: str,
) -> None:
    file = folder.path / "model.json"
    content = json.loads(file.read_text())
    (content["spec"][part] if part else content["spec"]).update(changes)
    file.write_text(json.dumps(content))
    code, _, err = run_cli("predict", folder.path, "photo.jpg")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"error: {str(file)!r} is damaged: {sentence}")
    assert not err.endswith("..\n")


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_a_threshold_is_a_probability(value: float) -> None:
    with pytest.raises(ModelError, match="Every threshold must be from 0 to 1, got 0.5, "):
        Thresholds(values=(0.5, value), fitted_on="nothing")


def test_a_network_that_can_t_be_built_is_one_sentence() -> None:
    why = "A network 'resnet20' with these settings can't be built: its weights are larger than any memory here."
    with pytest.raises(ModelError, match=f"^{why}$"):
        Architecture(name="resnet20", num_classes=10**12, image_size=16).build()


def test_probabilities_next_to_nothing_keep_their_digits(folder: ModelFolder) -> None:
    thresholds = Thresholds(values=(0.5,) * 3, fitted_on="nothing")
    spec = replace(folder.spec, task="multi_label", thresholds=thresholds, calibration=Calibration())
    logits = np.array([[-700.0, -40.0, -1.0], [0.0, 1.0, 1e4]], dtype=np.float32)
    expected = torch.from_numpy(logits).double().sigmoid()
    assert spec.probabilities_of(logits) == pytest.approx(expected.numpy(), rel=1e-12, abs=0)


def test_tensors_have_the_probabilities_of_arrays(folder: ModelFolder) -> None:
    thresholds = Thresholds(values=(0.5,) * 3, fitted_on="nothing")
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    for spec in (folder.spec, replace(folder.spec, task="multi_label", thresholds=thresholds)):
        assert spec.probabilities(logits).numpy() == pytest.approx(spec.probabilities_of(logits.numpy()), rel=1e-5)


def test_enormous_logits_have_probabilities_too(folder: ModelFolder) -> None:
    logits = np.array([[1e5, 0.0, -1e5]], dtype=np.float32)
    assert folder.spec.probabilities_of(logits).tolist() == [[1.0, 0.0, 0.0]]
