from typing import Any

import pytest

from sightline.reports.facts import LONGEST, tables, text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "none"),
        ([], "none"),
        ({}, "none"),
        (True, "yes"),
        (12345, "12,345"),
        (0.123456, "0.1235"),
        ("a_b", "a_b"),
        (["a", 1], "a, 1"),
        ({"train_set": 2}, "train set 2"),
    ],
)
def test_a_value_is_one_line(value: Any, expected: str) -> None:
    assert text(value) == expected


def test_single_values_stand_together_before_the_parts() -> None:
    facts, versions = tables({"command": "train", "versions": {"torch": "2.15"}, "parent": None})
    assert facts.rows == (("command", "train"), ("parent", "none"))
    assert (versions.caption, versions.rows) == ("Versions", (("torch", "2.15"),))


def test_parts_within_parts_keep_the_names_above_them() -> None:
    names = [table.caption for table in tables({"data": {"location": "x", "images": {"train": 1}}})]
    assert names == ["Data", "Data: images"]


def test_a_list_of_findings_is_a_table_of_their_fields() -> None:
    (table,) = tables({"unreadable": [{"path": "a.jpg", "reason": "empty"}, {"path": "b.jpg"}]})
    assert table.columns == ("path", "reason")
    assert table.rows == (("a.jpg", "empty"), ("b.jpg", ""))


def test_a_long_list_is_cut_and_says_so() -> None:
    (table,) = tables({"ignored": [f"{number}.txt" for number in range(LONGEST + 1)]})
    assert (len(table.rows), table.is_cut) == (LONGEST, True)
