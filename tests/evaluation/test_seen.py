"""Images that a model was trained on are told of when it is measured on them."""

import json
import shutil
from pathlib import Path

import pytest
from making import make_photos

from sightline.errors import ModelError
from sightline.evaluation import evaluate
from sightline.evaluation.seen import num_seen
from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.training import train

SETTINGS = ["model.name=resnet20", "data.image_size=16", "data.resize=18", "data.num_workers=0", "epochs=1"]


def test_digests_are_counted_and_a_folder_that_doesn_t_say_has_none(tmp_path: Path) -> None:
    assert num_seen(tmp_path, ["a1"]) == 0
    (tmp_path / "splits.json").write_text(json.dumps({"train": ["red/1.png"], "digests": ["a1", "a2"]}))
    assert num_seen(tmp_path, ["a1", "b1", "a1"]) == 2


def test_a_damaged_list_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "splits.json").write_text("[")
    with pytest.raises(ModelError, match=r"splits\.json' can't be read"):
        num_seen(tmp_path, [])


def test_measuring_on_the_training_images_is_told_and_on_others_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = make_photos(tmp_path / "photos")
    model = train(override(Recipe(), SETTINGS), photos, out=tmp_path / "run")
    trained_on = json.loads((model.path / "splits.json").read_text())["train"]
    caplog.clear()
    evaluate(model, photos)
    assert f"{len(trained_on)} of the" in caplog.text
    assert "its figures flatter it" in caplog.text
    copies = tmp_path / "copies"
    for image in photos.rglob("*.*"):
        place = copies / image.parent.name / f"new-{image.name}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, place)
    caplog.clear()
    evaluate(model, copies)
    assert f"{len(trained_on)} of the" in caplog.text
    others = shutil.copytree(photos, tmp_path / "others")  # of the same names
    for place in others.rglob("*.*"):
        place.write_bytes(place.read_bytes() + b" ")  # behind the image's end
    caplog.clear()
    evaluate(model, others)
    assert "flatter" not in caplog.text
