from collections import Counter

import numpy as np
import pytest

from sightline.data.fewer import few_of_each_split, fewer_to_train, rarest_labels
from sightline.data.memory import MemorySource
from sightline.data.split import Splits
from sightline.data.table import ImageTable
from sightline.errors import RecipeError

LABELS = ["cat"] * 80 + ["dog"] * 16 + ["emu"] * 4 + ["cat"] * 10
SPLITS = Splits(np.arange(100), np.arange(100, 105), np.arange(105, 110), ())


def counts(splits: Splits) -> Counter[str]:
    return Counter(LABELS[place] for place in splits.train.tolist())


def test_every_class_keeps_its_share() -> None:
    assert counts(fewer_to_train(SPLITS, LABELS, 25, seed=0)) == {"cat": 20, "dog": 4, "emu": 1}


def test_every_class_keeps_an_image_however_few_are_taken() -> None:
    assert counts(fewer_to_train(SPLITS, LABELS, 3, seed=0)) == {"cat": 1, "dog": 1, "emu": 1}


def test_the_images_held_out_stay_and_the_choice_is_told() -> None:
    fewer = fewer_to_train(SPLITS, LABELS, 25, seed=0)
    assert fewer.val is SPLITS.val
    assert fewer.test is SPLITS.test
    assert fewer.made == ("train: 25 images of 100 taken, evenly over the classes, seed 0",)


def test_another_seed_takes_others_and_the_same_seed_the_same() -> None:
    first, same, other = (fewer_to_train(SPLITS, LABELS, 25, seed=seed).train.tolist() for seed in (0, 0, 1))
    assert first == same != other


def test_a_limit_that_is_not_reached_changes_nothing() -> None:
    assert fewer_to_train(SPLITS, LABELS, 100, seed=0) is SPLITS


def test_a_limit_below_the_number_of_classes_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"data.max_train_images \(2\) must be at least the number of classes \(3\)"):
        fewer_to_train(SPLITS, LABELS, 2, seed=0)


def test_an_image_with_several_labels_counts_as_the_rarest_of_them() -> None:
    labels = ("cat", "cat;dog", "dog", "dog", "dog;emu", "")
    table = ImageTable(MemorySource("x", {}), tuple("abcdef"), labels, (None,) * 6, separator=";")
    assert rarest_labels(table) == ("cat", "cat", "dog", "dog", "emu", "")


def test_few_of_each_split_are_of_several_classes() -> None:
    labels = ["cat", "dog"] * 150
    halves = Splits(np.arange(200), np.arange(200, 250), np.arange(250, 300), ())
    few = few_of_each_split(halves, labels, 9, seed=0)
    for places in few.named().values():
        assert 0 < len(places) <= 9
        assert {labels[place] for place in places.tolist()} == {"cat", "dog"}
    assert few.made == (
        "train: 9 images of 200 taken, evenly over the classes, seed 0",
        "Of val and of test no more than 9 images taken",
    )


@pytest.mark.parametrize("limit", [10, 2])
def test_few_of_each_split_keep_an_image_of_each_class_to_train_on(limit: int) -> None:
    assert set(counts(few_of_each_split(SPLITS, LABELS, limit, seed=0))) == {"cat", "dog", "emu"}
