"""A class of few images: what sampling and weights do for it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.errors import RecipeError
from sightline.evaluation import read_evaluation
from sightline.evaluation.metrics import Evaluation
from sightline.model_folder import ModelFolder
from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.training import resume, train
from sightline.training.task import ClassificationTask

COUNTS = {"train": {"common": 110, "rare": 10}, "val": {"common": 11, "rare": 3}, "test": {"common": 40, "rare": 40}}
RECIPE = override(
    Recipe(),
    [
        "model.name=resnet20",
        "data.image_size=8",
        "data.resize=8",
        "data.num_workers=0",
        "epochs=6",
        "batch_size=12",
        "optim.lr=0.003",
        "train.select=last",
    ],
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey images: the rare ones are brighter on average, and some look like common ones."""
    folder, draws = tmp_path_factory.mktemp("data") / "grey", np.random.default_rng(0)
    for split, classes in COUNTS.items():
        for name, count in classes.items():
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                brightness = draws.normal(100 if name == "common" else 150, 25)
                pixels = np.clip(draws.normal(brightness, 20, (8, 8)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number:03}.png")
    return folder


def recall_of_the_rare(data: Path, folder: Path, *settings: str) -> float:
    written = train(override(RECIPE, list(settings)), data, out=folder, measure=("test",))
    evaluation = read_evaluation(written, "test")
    assert isinstance(evaluation, Evaluation)
    recall = evaluation.classes[1].recall
    assert recall is not None
    return recall.value


@pytest.fixture(scope="module")
def plain(data: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    return recall_of_the_rare(data, tmp_path_factory.mktemp("plain") / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    [
        "data.sampling=balanced",
        "loss.class_weights=balanced",
        "loss.class_weights=effective",
        "loss.class_weights={rare: 10}",
    ],
)
def test_the_rare_class_is_recognised_more_often(setting: str, data: Path, plain: float, tmp_path: Path) -> None:
    assert recall_of_the_rare(data, tmp_path / "run", setting) >= plain + 0.1


def test_what_balancing_means_is_said(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="sightline")
    settings = ["epochs=1", "data.sampling=balanced", "loss.class_weights=balanced"]
    train(override(RECIPE, settings), data, out=tmp_path / "run", measure=())
    said = caplog.text
    assert "each class is 60 images of an epoch; the rarest, 'rare' with 10 images, comes 6.0 times." in said
    assert "Class weights: 0.545 ('common') to 6 ('rare')." in said


def test_the_weight_of_an_unknown_class_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"Unknown class 'rar'\. Did you mean 'rare'"):
        train(override(RECIPE, ["loss.class_weights={rar: 2}"]), data, out=tmp_path / "run")


def test_a_balanced_run_that_was_killed_ends_with_the_same_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = override(RECIPE, ["epochs=2", "data.sampling=balanced", "train.checkpoint_minutes=0"])
    recipe = override(recipe, ["loss.name=focal", "augment=[{crop: {padding: 1}}]"])
    whole = train(recipe, data, out=tmp_path / "whole", measure=())
    step, calls = ClassificationTask.training_step, iter(range(100))

    def killed(*arguments: object) -> object:
        if next(calls) == 13:
            raise KeyError
        return step(*arguments)  # pyright: ignore[reportArgumentType]

    with monkeypatch.context() as patch, pytest.raises(KeyError):
        patch.setattr(ClassificationTask, "training_step", killed)
        train(recipe, data, out=tmp_path / "run", measure=())
    resumed: ModelFolder = resume(data, out=tmp_path / "run", measure=())
    assert resumed.spec.weights_sha256 == whole.spec.weights_sha256
