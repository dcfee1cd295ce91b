from pathlib import Path

import pytest
from pictures import write

from sightline.data.scan import scan
from sightline.errors import DataError, UnreadableImageError


def manifest(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    file = folder / "list.csv"
    file.write_text(text, encoding=encoding)
    return file


def test_relative_paths_count_from_the_list_and_absolute_ones_stand(tmp_path: Path) -> None:
    write(tmp_path, ["lists/a/1.png", "b/2.png"])
    file = manifest(tmp_path / "lists", f"path,label\n../b/2.png,dog\na/1.png,cat\n{tmp_path / 'b/2.png'},dog\n")
    table = scan(file)
    assert dict(zip(table.paths, table.labels, strict=True)) == {
        "a/1.png": "cat",
        "../b/2.png": "dog",
        str(tmp_path / "b/2.png"): "dog",
    }
    assert all(table.source.read(path) for path in table.paths)
    assert table.source.location == str(file)
    assert table.splits == (None, None, None)


def test_splits_columns_in_any_order_a_byte_order_mark_and_spaces_are_understood(tmp_path: Path) -> None:
    file = manifest(tmp_path, 'split, label, path\nTrain, "big, cat", 1.png\nvalidation, dog, 2.png\n', "utf-8-sig")
    table = scan(file)
    assert table.labels == ("big, cat", "dog")
    assert table.splits == ("train", "val")


@pytest.mark.parametrize(
    "header", ["file,label", "path,label,spilt", "path;label", "path,label,label", "path,label,split,id", ""]
)
def test_a_wrong_header_says_which_columns_are_expected(tmp_path: Path, header: str) -> None:
    with pytest.raises(DataError, match="expected are path,label or path,label,split"):
        scan(manifest(tmp_path, f"{header}\na,b,c,d\n" if header else ""))


def test_all_faulty_rows_are_told_at_once(tmp_path: Path) -> None:
    rows = ("1.png,cat,train", ",dog,train", "2.png,,test", "3.png,cat,holdout", "1.png,cat,test", "4.png,a,test,x")
    text = "\n".join(("path,label,split", *rows))
    with pytest.raises(DataError) as error:
        scan(manifest(tmp_path, text))
    for words in (
        *("row 1: '1.png' is named 2 times", "row 2 has no path", "row 3 has no label"),
        *("row 4: split 'holdout' is none of train, val, test", "row 5: '1.png' is named 2 times", "and 1 more"),
    ):
        assert words in str(error.value)


def test_a_row_without_a_split_among_rows_with_one_is_faulty(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 2: split ''"):
        scan(manifest(tmp_path, "path,label,split\n1.png,cat,train\n2.png,cat\n"))


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="names no images"):
        scan(manifest(tmp_path, "path,label\n"))


def test_what_is_no_csv_in_utf8_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_bytes(b"path,label\ncaf\xe9.png,cat\n")
    with pytest.raises(DataError, match="no CSV file in UTF-8"):
        scan(file)


def test_an_image_that_is_not_there_is_found_when_it_is_read(tmp_path: Path) -> None:
    table = scan(manifest(tmp_path, "path,label\ngone.png,cat\n"))
    with pytest.raises(UnreadableImageError, match="does not exist"):
        table.source.read("gone.png")


def test_parquet_gives_the_table_of_the_same_csv(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = {"path": ["b.png", "a.png"], "label": ["3", "7"], "split": ["train", "valid"]}
    parquet.write_table(arrow.table({**rows, "label": [3, 7]}), tmp_path / "list.parquet")
    lines = ["path,label,split", *(",".join(row) for row in zip(*rows.values(), strict=True))]
    expected, table = scan(manifest(tmp_path, "\n".join(lines))), scan(tmp_path / "list.parquet")
    assert (table.paths, table.labels, table.splits) == (expected.paths, expected.labels, expected.splits)


def test_parquet_s_bytes_are_text_and_nulls_in_lists_are_no_labels(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "list.parquet"
    parquet.write_table(arrow.table({"path": [b"a.png", b"b.png"], "label": [b"caf\xc3\xa9", b" dog "]}), file)
    assert (scan(file).paths, scan(file).labels) == (("a.png", "b.png"), ("caf\u00e9", "dog"))
    labels = [["dog", None, "cat"], [None], ["cow"]]
    parquet.write_table(arrow.table({"path": ["a.png", "b.png", "c.png"], "label": labels}), file)
    assert scan(file, label_separator=";").labels == ("cat;dog", "", "cow")
    parquet.write_table(arrow.table({"path": ["a.png"], "label": [[b"dog", b"cat"]]}), file)
    assert scan(file, label_separator=";").labels == ("cat;dog",)


@pytest.mark.parametrize(
    ("label", "separator", "sentence"),
    [
        ([["cow"], ["dog; big", "cat"]], ";", "row 2: the label 'dog; big' holds the label separator ';'"),
        ([b"cow", b"\xff"], None, r"row 2: the label b'\\xff' is not in UTF-8"),
        ([None, {"name": "dog"}], None, "row 2: the label is of type dict, where text or a number is expected"),
        ([[["cow"]], [["dog"]]], ";", "row 1: the label is of type list, .*; row 2: the label is of type list"),
    ],
)
def test_parquet_s_values_that_are_no_labels_are_told_by_their_rows(
    tmp_path: Path, label: list[object], separator: str | None, sentence: str
) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"path": ["a.png", "b.png"], "label": label}), tmp_path / "list.parquet")
    with pytest.raises(DataError, match=sentence):
        scan(tmp_path / "list.parquet", label_separator=separator)


def test_a_broken_parquet_file_and_a_missing_value_are_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "list.parquet"
    file.write_bytes(b"no parquet")
    with pytest.raises(DataError, match="can't be read as Parquet"):
        scan(file)
    parquet.write_table(arrow.table({"path": ["a.png", None], "label": [None, "x"]}), file)
    with pytest.raises(DataError, match="row 1 has no label; row 2 has no path"):
        scan(file)
