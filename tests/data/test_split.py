from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from pictures import made_up, memory_table

from sightline.data.facts import ImageFacts
from sightline.data.split import Splits, split
from sightline.data.table import ImageTable, Split
from sightline.errors import DataError


def divide(table: ImageTable, facts: list[ImageFacts], seed: int = 0, val: float = 0.15, test: float = 0.15) -> Splits:
    return split(table, facts, val_fraction=val, test_fraction=test, seed=seed)


def counts(table: ImageTable, places: np.ndarray) -> Counter[str]:
    return Counter(table.labels[place] for place in places.tolist())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sizes", [{"a": 100, "b": 40, "c": 20}, {"a": 3, "b": 3}, {"a": 7, "b": 1001}])
def test_every_image_is_in_one_split_and_each_class_has_its_share(sizes: dict[str, int], seed: int) -> None:
    table, facts = made_up(sizes)
    splits = divide(table, facts, seed)
    everything = np.concatenate(list(splits.named().values()))
    assert sorted(everything.tolist()) == list(range(len(table)))
    for label, number in sizes.items():
        test = max(1, int(number * 0.15 + 0.5))
        val = max(1, int((number - test) * 0.15 + 0.5))
        assert counts(table, splits.test)[label] == test
        assert counts(table, splits.val)[label] == val


def test_the_seed_chooses_and_the_same_seed_chooses_the_same() -> None:
    table, facts = made_up({"a": 100, "b": 100})
    first, again, other = divide(table, facts, 0), divide(table, facts, 0), divide(table, facts, 1)
    assert np.array_equal(first.test, again.test)
    assert not np.array_equal(first.test, other.test)


def test_the_choice_is_this_one_for_ever() -> None:
    table, facts = made_up({"a": 12, "b": 12})
    facts = [replace(fact, sha256=f"b{place // 2}") if place >= 12 else fact for place, fact in enumerate(facts)]
    splits = divide(table, facts, seed=3, val=0.2, test=0.2)
    assert (splits.test.tolist(), splits.val.tolist()) == ([0, 2, 12, 13], [6, 8, 20, 21])


def test_renamed_files_stay_in_their_split() -> None:
    table, facts = made_up({"a": 50, "b": 50})
    before = divide(table, facts)
    mirrored = replace(table, paths=tuple(f"other/{len(table) - place:05}" for place in range(len(table))))
    after = divide(mirrored, facts)
    assert np.array_equal(before.test, after.test)
    assert np.array_equal(before.val, after.val)


def test_added_images_move_few_others() -> None:
    small, facts = made_up({"a": 1000, "b": 1000})
    large, more = made_up({"a": 1010, "b": 1000})
    before = {small.paths[place] for place in divide(small, facts).test.tolist()}
    after = {large.paths[place] for place in divide(large, more).test.tolist()}
    assert len(before - after) <= 10


def test_extreme_fractions_leave_every_split_an_image() -> None:
    table, facts = made_up({"a": 3, "b": 10})
    for val, test in ((0.99, 0.99), (0.01, 0.01), (0.99, 0.01)):
        splits = divide(table, facts, val=val, test=test)
        assert all(set(counts(table, places)) == {"a", "b"} for places in splits.named().values())


@pytest.mark.parametrize("seed", range(10))
def test_copies_of_one_image_are_never_divided(seed: int) -> None:
    table, facts = made_up({"a": 60, "b": 60})
    facts = [replace(fact, sha256=f"{fact.path[0]}{number // 3}") for number, fact in enumerate(facts)]
    splits = divide(table, facts, seed)
    contents = [{facts[place].sha256 for place in places.tolist()} for places in splits.named().values()]
    assert sum(map(len, contents)) == len(set.union(*contents))
    assert len(splits.test) == 18


@pytest.mark.parametrize("copies", [2, 5])
def test_a_class_of_copies_alone_is_divided_where_each_split_can_have_some(copies: int) -> None:
    table, facts = made_up({"a": 20, "b": 3 * copies})
    facts = [
        replace(fact, sha256=f"b{(place - 20) // copies}") if place >= 20 else fact for place, fact in enumerate(facts)
    ]
    splits = divide(table, facts)
    assert [counts(table, places)["b"] for places in splits.named().values()] == [copies] * 3
    assert sorted(np.concatenate(list(splits.named().values())).tolist()) == list(range(len(table)))


def test_of_copies_alone_the_smallest_group_is_held_out_and_what_is_bound_to_train_counts_as_train() -> None:
    contents = ["b0"] * 4 + ["b1"] * 2 + ["both"]
    table, facts = made_up({"a": 20, "b": len(contents)})
    facts[0] = replace(facts[0], sha256="both")
    facts[20:] = [replace(fact, sha256=content) for fact, content in zip(facts[20:], contents, strict=True)]
    splits = divide(table, facts)
    assert splits.test.tolist()[-2:] == [24, 25]
    assert splits.val.tolist()[-4:] == [20, 21, 22, 23]
    assert 26 in splits.train


@pytest.mark.parametrize("seed", range(10))
def test_copies_under_several_labels_are_not_evaluated_on(seed: int) -> None:
    table, facts = made_up({"a": 10, "b": 10})
    facts[3] = replace(facts[3], sha256="both")
    facts[13] = replace(facts[13], sha256="both")
    assert {3, 13} <= set(divide(table, facts, seed, val=0.5, test=0.5).train.tolist())


def with_splits(sizes: dict[Split, int]) -> tuple[ImageTable, list[ImageFacts]]:
    """Two classes with so many images of each in each split."""
    each: list[Split] = [name for name, number in sizes.items() for _ in range(number)]
    return made_up({"a": len(each), "b": len(each)}, each * 2)


def test_a_split_the_user_made_is_kept() -> None:
    table, facts = with_splits({"train": 10, "val": 3, "test": 4})
    splits = divide(table, facts)
    assert splits.assigned(table) == table.splits
    assert splits.made == ()


def test_validation_is_made_from_train_and_never_from_test() -> None:
    table, facts = with_splits({"train": 20, "test": 10})
    splits = divide(table, facts)
    assert [table.splits[place] for place in splits.test.tolist()] == ["test"] * 20
    assert {table.splits[place] for place in splits.val.tolist()} == {"train"}
    assert len(splits.val) == 6
    assert splits.made == (
        "val: 6 images, 0.15 of the training images, held out by us, stratified by class, seed 0",
        "The data has no val split of its own",
    )


def test_test_is_made_from_train_beside_a_validation_split() -> None:
    table, facts = with_splits({"train": 20, "val": 10})
    splits = divide(table, facts)
    assert [table.splits[place] for place in splits.val.tolist()] == ["val"] * 20
    assert len(splits.test) == 6


def test_a_lone_train_folder_is_divided_and_said_so() -> None:
    table, facts = with_splits({"train": 20})
    splits = divide(table, facts)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (28, 6, 6)
    assert splits.made[-1] == "The data has no test and no val split of its own"


def test_what_was_made_is_said() -> None:
    table, facts = made_up({"a": 50, "b": 50})
    assert divide(table, facts, seed=7).made == (
        "test: 16 images, 0.15 of all images, held out by us, stratified by class, seed 7",
        "val: 12 images, 0.15 of the training images, held out by us, stratified by class, seed 7",
    )


def test_unreadable_images_are_in_no_split_and_counted() -> None:
    table, facts = made_up({"a": 10, "b": 10})
    facts[4] = replace(facts[4], error="damaged")
    splits = divide(table, facts)
    assert splits.assigned(table)[4] is None
    assert sum(map(len, splits.named().values())) == 19
    assert "left out: 1 unreadable image" in splits.made


def test_a_class_with_too_few_images_is_named_with_its_count() -> None:
    table, facts = made_up({"a": 10, "b": 2, "c": 1})
    with pytest.raises(DataError, match=r"2 classes with fewer than 3 images, .* test: 'b' \(2\), 'c' \(1\)"):
        divide(table, facts)


def test_copies_and_unreadable_images_do_not_make_up_for_too_few() -> None:
    table, facts = made_up({"a": 10, "b": 3})
    copied = [replace(fact, sha256="one") if fact.path.startswith("b") else fact for fact in facts]
    with pytest.raises(DataError, match="copies of one image don't count: 'b'"):
        divide(table, copied)
    broken = [replace(fact, error="damaged") if fact.path == "b/00000" else fact for fact in facts]
    with pytest.raises(DataError, match="would have no image in test"):
        divide(table, broken)


@pytest.mark.parametrize(
    ("sizes", "splits", "words"),
    [
        ({"a": 5}, None, "has only one class, 'a'"),
        ({"a": 2, "b": 2}, ["train", "train", "test", "train"], "'b' (1)"),
        ({"a": 2, "b": 2}, ["train", "train", "val", "test"], "1 class of val or test without training images: 'b'"),
        ({"a": 2, "b": 2}, ["test", "val", "val", "test"], "has no training images, only 'val', 'test'"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(sizes: dict[str, int], splits: list[Split] | None, words: str) -> None:
    with pytest.raises(DataError) as error:
        divide(*made_up(sizes, splits))
    assert words in str(error.value)


def test_splits_survive_their_json_in_a_table_that_has_grown() -> None:
    table, facts = made_up({"a": 20, "b": 20})
    splits = divide(table, facts)
    larger, _ = made_up({"a": 25, "b": 20})
    again = Splits.from_json(splits.to_json(table), larger)
    for name, places in splits.named().items():
        assert [larger.paths[place] for place in again.named()[name]] == [table.paths[place] for place in places]
    assert again.made == splits.made


@pytest.mark.parametrize("damage", [[], {}, {"test": None}, {"train": 5}, {"val": [7]}])
def test_stored_splits_that_are_damaged_are_refused(damage: object) -> None:
    table, facts = made_up({"a": 20, "b": 20})
    stored = divide(table, facts).to_json(table)
    with pytest.raises(DataError, match="The stored splits are damaged"):
        Splits.from_json(stored | damage if damage and isinstance(damage, dict) else damage, table)


def test_stored_images_that_are_gone_are_named() -> None:
    table, facts = made_up({"a": 20, "b": 20})
    stored = divide(table, facts).to_json(table)
    smaller = memory_table([(path, label, b"") for path, label in zip(table.paths, table.labels, strict=True)][2:])
    with pytest.raises(DataError, match="2 images of the stored split are no longer in 'memory': 'a/00000', 'a/00001'"):
        Splits.from_json(stored, smaller)
