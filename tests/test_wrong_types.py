"""Python callers who pass None, or something of another kind, get one sentence, too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from making import make_folder

import sightline
from sightline.compression.prune import Prune
from sightline.errors import SightlineError
from sightline.model_folder import ModelFolder

CALLS: dict[str, Callable[[ModelFolder, Any], object]] = {
    "train's recipe": lambda _, wrong: sightline.train(wrong, "photos"),
    "train's data": lambda _, wrong: sightline.train("small_folder", wrong),
    "train's data with a place": lambda folder, wrong: sightline.train("small_folder", wrong, out=folder.path / "run"),
    "resume": lambda _, wrong: sightline.resume(wrong),
    "check": lambda _, wrong: sightline.check(wrong),
    "evaluate": lambda _, wrong: sightline.evaluate(wrong),
    "export": lambda _, wrong: sightline.export(wrong, "torch"),
    "export's format": sightline.export,
    "compress": lambda _, wrong: sightline.compress(wrong, [Prune()]),
    "compress's methods": sightline.compress,
    "one of compress's methods": lambda folder, wrong: sightline.compress(folder, [wrong]),
    "adopt": lambda _, wrong: sightline.adopt(wrong),
    "bench": lambda _, wrong: sightline.bench(wrong),
    "one of bench's models": lambda _, wrong: sightline.bench([wrong]),
    "create_model": lambda _, wrong: sightline.create_model(wrong),
    "find_recipe": lambda _, wrong: sightline.find_recipe(wrong),
    "write_report": lambda _, wrong: sightline.write_report(wrong),
    "ModelFolder.read": lambda _, wrong: sightline.ModelFolder.read(wrong),
    "Predictor": lambda _, wrong: sightline.Predictor(wrong),
    "Predictor.open": lambda _, wrong: sightline.Predictor.open(wrong),
    "predict": lambda folder, wrong: sightline.Predictor(folder).predict(wrong),
}


@pytest.mark.parametrize("wrong", [None, 5, object()], ids=["None", "5", "object"])
@pytest.mark.parametrize("name", CALLS)
def test_what_is_of_another_kind_is_one_sentence(name: str, wrong: object, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    with pytest.raises(SightlineError) as error:
        CALLS[name](folder, wrong)
    assert "\n" not in str(error.value)


SETTINGS: dict[str, Callable[[ModelFolder, Any], object]] = {
    "split": lambda folder, wrong: sightline.evaluate(folder, split=wrong),
    "tta": lambda folder, wrong: sightline.evaluate(folder, tta=wrong),
    "num_workers": lambda folder, wrong: sightline.evaluate(folder, num_workers=wrong),
    "batch_size": lambda folder, wrong: sightline.Predictor(folder).predict(["a.png"], batch_size=wrong),
    "top_k": lambda folder, wrong: sightline.Predictor(folder).predict(["a.png"], top_k=wrong),
    "threads": lambda folder, wrong: sightline.Predictor(folder, threads=wrong),
    "num_classes": lambda _, wrong: sightline.create_model("resnet20", num_classes=wrong),
    "image_size": lambda _, wrong: sightline.create_model("resnet20", image_size=wrong),
}


@pytest.mark.parametrize("wrong", ["2", 1.5, "flop"])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_of_another_kind_is_one_sentence_that_names_it(name: str, wrong: object, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match=name) as error:
        SETTINGS[name](make_folder(tmp_path / "model"), wrong)
    assert "\n" not in str(error.value)


def test_the_nearest_split_and_view_are_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    with pytest.raises(SightlineError, match="Unknown split 'vall'. Did you mean 'val'"):
        sightline.evaluate(folder, split="vall")  # pyright: ignore[reportArgumentType]
    with pytest.raises(SightlineError, match="Unknown tta 'flop'. Did you mean 'flip'"):
        sightline.evaluate(folder, tta="flop")  # pyright: ignore[reportArgumentType]


def test_a_name_that_can_t_even_be_looked_up_is_one_sentence(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    with pytest.raises(SightlineError, match="^A model's name is text, got an object of type list"):
        sightline.create_model(["resnet20"])  # pyright: ignore[reportArgumentType]
    with pytest.raises(SightlineError, match="^A format's name is text, got an object of type list"):
        sightline.export(folder, ["onnx"])  # pyright: ignore[reportArgumentType]


def test_one_of_what_a_list_is_taken_of_is_said_to_belong_into_a_list(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    with pytest.raises(SightlineError, match="compress.. takes a list of methods.*Put a single one in a list"):
        sightline.compress(folder, Prune())  # pyright: ignore[reportArgumentType]
    for path in (folder.path, str(folder.path)):
        with pytest.raises(SightlineError, match="bench.. takes a list of folders; put a single one in a list"):
            sightline.bench(path)  # pyright: ignore[reportArgumentType]
    with pytest.raises(SightlineError, match=r"as by ModelFolder.read\(path\), got an object of type str"):
        sightline.write_report(str(folder.path))  # pyright: ignore[reportArgumentType]
