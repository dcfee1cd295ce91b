"""Several labels an image, from the list to the report."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.errors import DataError, RecipeError
from sightline.evaluation import evaluate, read_evaluation
from sightline.evaluation.multilabel import MultiLabelEvaluation
from sightline.model_folder import ModelFolder
from sightline.prediction import Predictor
from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.reports import write_report
from sightline.training import train

Cli = Callable[..., tuple[int, str, str]]

SETTINGS = [
    "model.name=resnet20",
    "data.image_size=16",
    "data.resize=16",
    "data.num_workers=0",
    "data.label_separator=;",
    "epochs=10",
    "batch_size=8",
    "optim.lr=0.003",
]
RECIPE = override(Recipe(), SETTINGS)


def make_list(folder: Path, count: int = 90) -> Path:
    """Images of which each colour channel is bright or not, which is what their labels say."""
    draws = np.random.default_rng(0)
    folder.mkdir(parents=True)
    lines = ["path,label"]
    for number in range(count):
        bright = draws.random(3) < 0.4
        pixels = draws.integers(0, 90, (16, 16, 3)) + 150 * bright
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:03}.png")
        names = [name for name, is_bright in zip(("red", "green", "blue"), bright, strict=True) if is_bright]
        lines.append(f"{number:03}.png,{';'.join(names)}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder / "list.csv"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_list(tmp_path_factory.mktemp("data") / "colours")


@pytest.fixture(scope="module")
def folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return train(RECIPE, data, out=tmp_path_factory.mktemp("run") / "model")


def test_bright_channels_are_learnt_and_the_figures_have_intervals(folder: ModelFolder) -> None:
    figures = folder.spec.figures["test"]
    assert figures["mean_average_precision"]["value"] > 0.8
    for name in ("mean_average_precision", "micro_f1", "macro_f1", "exact_match", "hamming_loss"):
        assert figures[name]["low"] <= figures[name]["value"] <= figures[name]["high"]


def test_the_folder_states_its_task_and_its_thresholds(folder: ModelFolder, data: Path) -> None:
    spec = ModelFolder.read(folder.path).spec
    assert spec.task == "multi_label"
    assert spec.classes == ("blue", "green", "red")
    assert spec.thresholds is not None
    assert len(spec.thresholds.values) == 3
    assert spec.thresholds.fitted_on.startswith("the validation split, ")
    assert spec.provenance.data["label_separator"] == ";"


def test_thresholds_belong_to_the_fingerprint(folder: ModelFolder) -> None:
    file = folder.path / "model.json"
    content = json.loads(file.read_text())
    assert content["fingerprint"] == folder.spec.fingerprint
    changed = dict(content["spec"]["thresholds"], values=[0.1, 0.1, 0.1])
    from dataclasses import replace

    from sightline.model_folder import Thresholds

    other = replace(folder.spec, thresholds=Thresholds(values=(0.1, 0.1, 0.1), fitted_on=changed["fitted_on"]))
    assert other.fingerprint != folder.spec.fingerprint


def test_evaluating_again_gives_the_figures_of_the_training(folder: ModelFolder, data: Path) -> None:
    stored = read_evaluation(folder, "test")
    assert isinstance(stored, MultiLabelEvaluation)
    assert evaluate(folder.path, device="cpu", num_workers=0) == stored
    whole = evaluate(folder.path, data, device="cpu", num_workers=0)
    assert whole.num_images == 90


def test_evaluating_on_a_folder_of_class_folders_is_refused(folder: ModelFolder, photos: Path) -> None:
    with pytest.raises(DataError, match=r"has one label an image"):
        evaluate(folder.path, photos, device="cpu", num_workers=0)


def test_metrics_hold_mean_average_precision_and_no_training_accuracy(folder: ModelFolder) -> None:
    with (folder.path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["train_accuracy"] for row in rows} == {""}
    stored = read_evaluation(folder, "val")
    assert isinstance(stored, MultiLabelEvaluation)
    best = min(rows, key=lambda row: float(row["val_loss"]))
    assert float(best["val_accuracy"]) == pytest.approx(stored.mean_average_precision.value)
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])


def test_predictions_are_the_labels_above_their_thresholds(folder: ModelFolder, data: Path) -> None:
    files = sorted(data.parent.glob("*.png"))[:20]
    predictor = Predictor(folder, device="cpu")
    assert folder.spec.thresholds is not None
    for answer, ranked in zip(predictor.predict(files), predictor.predict(files, top_k=3), strict=True):
        least = dict(zip(folder.spec.classes, folder.spec.thresholds.values, strict=True))
        expected = [guess for guess in ranked.guesses if guess.probability >= least[guess.label]]
        assert list(answer.guesses) == expected
        assert len(ranked.guesses) == 3


def test_the_stored_answers_are_those_of_predict(folder: ModelFolder, data: Path) -> None:
    with (folder.path / "evaluation" / "test_predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    answers = Predictor(folder, device="cpu").predict([data.parent / row["path"] for row in rows])
    for row, answer in zip(rows, answers, strict=True):
        assert row["predicted"] == ";".join(sorted(guess.label for guess in answer.guesses))


def test_the_command_prints_labels_words_and_json(folder: ModelFolder, data: Path, run_cli: Cli) -> None:
    code, out, _ = run_cli("evaluate", folder.path)
    assert code == 0
    assert "mean average precision" in out
    assert "Hamming loss" in out
    first = data.parent / "000.png"
    code, out, _ = run_cli("predict", folder.path, first, "--format", "json")
    assert code == 0
    [answer] = json.loads(out)
    expected = Predictor(folder, device="cpu").predict([first])[0]
    assert [part["label"] for part in answer["predictions"]] == [guess.label for guess in expected.guesses]
    code, out, _ = run_cli("predict", folder.path, data.parent, "--format", "csv")
    assert {row["path"] for row in csv.DictReader(out.splitlines())} == {
        str(path) for path in data.parent.glob("*.png")
    }


def test_an_image_without_a_label_has_a_line_of_its_own(folder: ModelFolder, tmp_path: Path, run_cli: Cli) -> None:
    from dataclasses import replace

    from sightline.model_folder import Thresholds

    never = replace(folder.spec, thresholds=Thresholds(values=(1.0, 1.0, 1.0), fitted_on="nothing"))
    other = ModelFolder.write(tmp_path / "model", never, folder.model().state_dict())
    Image.new("RGB", (16, 16)).save(tmp_path / "dark.png")
    _, out, _ = run_cli("predict", other.path, tmp_path / "dark.png")
    assert out == f"{tmp_path / 'dark.png'}  no label\n"
    _, out, _ = run_cli("predict", other.path, tmp_path / "dark.png", "--format", "csv")
    assert out.splitlines()[1] == f"{tmp_path / 'dark.png'},,,,"


def test_the_page_shows_each_class_s_average_precision_and_threshold(folder: ModelFolder) -> None:
    page = write_report(folder).read_text()
    assert folder.spec.thresholds is not None
    assert "Mean average precision on the test split" in page
    assert "Validation mean average precision" in page
    assert "Thresholds were fitted on the validation split" in page
    for name, threshold in zip(folder.spec.classes, folder.spec.thresholds.values, strict=True):
        assert f"<bdi>{name}</bdi>" in page
        assert f"{threshold:.3g}" in page
    assert "Confusion" not in page


def test_a_loss_for_one_label_is_refused_by_name() -> None:
    with pytest.raises(RecipeError, match=r"loss\.name 'cross_entropy' takes one label an image"):
        override(RECIPE, ["loss.name=cross_entropy"])


@pytest.mark.parametrize(
    "settings",
    [["loss.name=focal"], ["loss.class_weights=balanced", "loss.label_smoothing=0.1"], ["augment=[mixup, cutmix]"]],
)
def test_other_losses_train_too(settings: list[str], data: Path, tmp_path: Path) -> None:
    written = train(override(RECIPE, [*settings, "epochs=1"]), data, out=tmp_path / "run")
    assert written.spec.multi_label


def test_a_resumed_run_ends_with_the_same_weights(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sightline.training import resume
    from sightline.training.task import ClassificationTask

    recipe = override(RECIPE, ["epochs=2", "loss.class_weights=balanced"])
    whole = train(recipe, data, out=tmp_path / "whole")
    step, calls = ClassificationTask.training_step, iter(range(100))

    def killed(*arguments: object) -> object:
        if next(calls) == 11:
            raise KeyError
        return step(*arguments)  # pyright: ignore[reportArgumentType]

    with monkeypatch.context() as patch, pytest.raises(KeyError):
        patch.setattr(ClassificationTask, "training_step", killed)
        train(recipe, data, out=tmp_path / "run")
    resumed = resume(data, out=tmp_path / "run")
    assert resumed.spec.weights_sha256 == whole.spec.weights_sha256
    assert resumed.spec.figures == whole.spec.figures
