"""Images with several labels: the list, the table, the split, the audit."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pictures import memory_table, write

from sightline.data.audit import audit
from sightline.data.facts import ImageFacts
from sightline.data.prepare import check
from sightline.data.scan import scan
from sightline.data.split import Splits, split
from sightline.data.stratify import hold_out
from sightline.data.table import ImageTable
from sightline.data.trainable import obstacles
from sightline.errors import DataError


def listing(folder: Path, cells: list[str]) -> Path:
    names = [f"{number:03}.png" for number in range(len(cells))]
    write(folder, names)
    lines = [f'{name},"{cell}"' for name, cell in zip(names, cells, strict=True)]
    (folder / "list.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    return folder / "list.csv"


def test_a_cell_holds_several_names_or_none(tmp_path: Path) -> None:
    table = scan(listing(tmp_path, ["dog; cat", "", "cat;;cat", "bee"]), label_separator=";")
    assert table.names == (("cat", "dog"), (), ("cat",), ("bee",))
    assert table.classes == ("bee", "cat", "dog")
    assert table.targets.tolist() == [[0, 1, 1], [0, 0, 0], [0, 1, 0], [1, 0, 0]]
    assert table.counts == {"cat": 2, "dog": 1, "bee": 1}


def test_a_space_may_part_names(tmp_path: Path) -> None:
    assert scan(listing(tmp_path, ["cat  dog", "bee"]), label_separator=" ").names == (("cat", "dog"), ("bee",))


def test_without_a_separator_a_cell_is_one_name_and_an_empty_one_a_fault(tmp_path: Path) -> None:
    assert scan(listing(tmp_path / "one", ["cat;dog", "bee"])).classes == ("bee", "cat;dog")
    with pytest.raises(DataError, match="row 2 has no label"):
        scan(listing(tmp_path / "two", ["cat", ""]))


def test_lists_in_parquet_are_several_labels(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = arrow.table({"path": ["a.png", "b.png"], "label": [["dog", "cat"], []]})
    parquet.write_table(rows, tmp_path / "list.parquet")
    assert scan(tmp_path / "list.parquet", label_separator=";").names == (("cat", "dog"), ())
    with pytest.raises(DataError, match="has lists of labels. Name a label separator"):
        scan(tmp_path / "list.parquet")


def test_a_separator_has_a_character(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\na.png,cat\n")
    with pytest.raises(DataError, match="A label separator must have a character"):
        scan(tmp_path / "list.csv", label_separator="")


def test_a_folder_has_one_label_an_image_and_says_so(tmp_path: Path) -> None:
    write(tmp_path, ["cat/1.png", "dog/1.png"])
    with pytest.raises(
        DataError, match=r"has one label an image.* \(`check`: --label-separator\) out where you gave it"
    ):
        scan(tmp_path, label_separator=";")


def test_labels_that_look_joined_are_pointed_out(tmp_path: Path) -> None:
    [sentence] = obstacles(scan(listing(tmp_path, ["cat;dog", "bee", "bee", "bee"])))
    assert "If 'cat;dog' means several labels, pass --set 'data.label_separator=\";\"'." in sentence


def test_a_folder_s_name_that_looks_joined_is_not_pointed_out(tmp_path: Path) -> None:
    write(tmp_path, ["cat;dog/1.png", *(f"bee/{number}.png" for number in range(3))])
    [sentence] = obstacles(scan(tmp_path))
    assert sentence.endswith("'cat;dog' (1). Add images or remove the class.")


def test_a_class_of_too_few_images_is_named(tmp_path: Path) -> None:
    [sentence] = obstacles(scan(listing(tmp_path, ["cat;dog", "cat", "cat", ""]), label_separator=";"))
    assert "1 class with fewer than 3 images, one each for train, val, test: 'dog' (1)" in sentence


def test_a_list_without_any_label_is_nothing_to_learn_from(tmp_path: Path) -> None:
    [sentence] = obstacles(scan(listing(tmp_path, ["", ""]), label_separator=";"))
    assert "gives no image a label" in sentence


def several(count: int = 400, seed: int = 0) -> tuple[ImageTable, list[ImageFacts]]:
    """Images with none to three of five classes, of which "e" is rare and comes with "a" only."""
    draws = np.random.default_rng(seed)
    rows: list[tuple[str, str, bytes]] = []
    for number in range(count):
        names = {name for name, share in zip("abcd", (0.5, 0.3, 0.1, 0.05), strict=True) if draws.random() < share}
        rows.append(
            (f"{number:04}", ";".join(sorted(names | ({"a", "e"} if number % (count // 5) == 0 else set()))), b"")
        )
    single = memory_table(rows)
    table = ImageTable(
        source=single.source, paths=single.paths, labels=single.labels, splits=single.splits, separator=";"
    )
    return table, [
        ImageFacts(path, num_bytes=1, sha256=f"content of {path}", width=9, height=9) for path in table.paths
    ]


def divide(table: ImageTable, facts: list[ImageFacts], seed: int = 0) -> Splits:
    return split(table, facts, val_fraction=0.2, test_fraction=0.2, seed=seed)


def test_every_class_keeps_its_share_in_every_split() -> None:
    table, facts = several()
    splits = divide(table, facts)
    totals = table.targets.sum(0)
    for name, share in (("test", 0.2), ("val", 0.16), ("train", 0.64)):
        places = splits.named()[name]  # pyright: ignore[reportArgumentType]
        assert np.abs(table.targets[places].sum(0) - share * totals).max() <= 2, name
        without = sum(not table.names[place] for place in places.tolist())
        assert abs(without - share * table.labels.count("")) <= 2
    assert sorted(np.concatenate(list(splits.named().values())).tolist()) == list(range(len(table)))


@pytest.mark.parametrize("seed", range(5))
def test_the_rarest_class_is_in_every_split(seed: int) -> None:
    table, facts = several(seed=seed)
    for places in divide(table, facts, seed).named().values():
        assert table.targets[places].sum(0).min() >= 1


def test_the_split_depends_on_the_seed_and_on_contents_not_on_names() -> None:
    table, facts = several()
    first, again, other = divide(table, facts), divide(table, facts), divide(table, facts, seed=1)
    assert np.array_equal(first.test, again.test)
    assert not np.array_equal(first.test, other.test)


def test_copies_of_one_image_stay_together() -> None:
    table, facts = several(100)
    same = [place for place, label in enumerate(table.labels) if label == "a"][:6]
    for place in same:
        facts[place] = ImageFacts(table.paths[place], num_bytes=1, sha256="one content", width=9, height=9)
    assigned = divide(table, facts).assigned(table)
    assert len({assigned[place] for place in same}) == 1


def test_as_many_of_a_class_stay_as_are_to_be_spared() -> None:
    groups = np.array([[1, 1], [1, 1], [1, 0]])
    held = hold_out(groups, groups.sum(0), fraction=0.9, spared=1)
    assert (groups[~held].sum(0) >= 1).all()
    assert held.any()


def test_a_class_that_is_in_train_alone_is_said() -> None:
    """Both images of "z" have the same content, so they stay together."""
    rows = [(f"{number}", "a", b"") for number in range(6)] + [("7", "a;z", b""), ("8", "a;z", b""), ("9", "a;z", b"")]
    single = memory_table(rows)
    table = ImageTable(
        source=single.source, paths=single.paths, labels=single.labels, splits=single.splits, separator=";"
    )
    facts = [ImageFacts(path, sha256="same" if "z" in label else path) for path, label, _ in rows]
    assert "test: no image of 1 class: 'z'" in divide(table, facts).made


def test_the_audit_counts_an_image_for_each_of_its_labels(tmp_path: Path) -> None:
    findings = check(listing(tmp_path, ["cat;dog", "cat", ""]), label_separator=";")
    assert findings.counts == {"cat": 2, "dog": 1}
    assert findings.num_images == 3
    assert findings.without_label == 1
    assert findings.to_json()["num_images"] == 3


def test_the_audit_counts_splits_by_label() -> None:
    table, facts = several(100)
    counts = audit(table, facts, divide(table, facts).assigned(table)).split_counts
    sums = Counter[str]()
    for part in counts.values():
        sums.update(part)
    assert sums == table.counts


def test_fewer_images_of_several_labels_keep_every_class(tmp_path: Path) -> None:
    from sightline.data.fewer import fewer_to_train

    table, facts = several()
    splits = fewer_to_train(divide(table, facts), table.labels, 60, 0)
    assert table.targets[splits.train].sum(0).min() >= 1
