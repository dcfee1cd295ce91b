"""Which images of the named data a bench measures accuracy on."""

import json
from hashlib import sha256
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from making import make_folder, make_photos

from sightline.benchmarking.labelled import Labelled
from sightline.errors import DataError
from sightline.measuring.process import Worker


class Guesser:
    """A worker that takes every image for the first class."""

    def answer(self, pixels: Path, logits: Path) -> None:
        np.save(logits, np.tile(np.float32([1, 0, 0]), (len(np.load(pixels)), 1)))


def test_images_that_the_model_was_trained_on_are_counted(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", count=4)
    model, other = make_folder(tmp_path / "model"), make_folder(tmp_path / "other")
    trained_on = [(photos / name).read_bytes() for name in ("blue/000.jpg", "red/003.jpg")] + [b"gone"]
    digests = [sha256(content).hexdigest()[:16] for content in trained_on]
    (model.path / "splits.json").write_text(json.dumps({"digests": digests}))
    labelled = Labelled(str(photos), 1000, tmp_path)
    worker = cast(Worker, Guesser())
    found = labelled.measure(model, worker)
    assert (found.num_seen, found.said) == (2, f"12 images of {str(photos)!r}")
    assert found.value == pytest.approx(1 / 3)
    assert labelled.measure(other, worker).num_seen == 0


def test_data_with_splits_is_measured_on_its_test_split_and_refused_without_one(tmp_path: Path) -> None:
    model, data = make_folder(tmp_path / "model"), tmp_path / "data"
    for split, count in (("train", 3), ("val", 2)):
        make_photos(data / split, count=count)
    with pytest.raises(DataError, match="has no test split of its own"):
        Labelled(str(data), 1000, tmp_path).pixels(model)
    make_photos(data / "test", count=1)
    found = Labelled(str(data), 1000, tmp_path).measure(model, cast(Worker, Guesser()))
    assert found.said == f"3 images of the test split of {str(data)!r}"
