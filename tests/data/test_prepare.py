import json
from pathlib import Path

import pytest
from making import make_photos

from sightline.data.prepare import prepare, readable_table
from sightline.errors import DataError
from sightline.recipe import DataConfig


def with_splits(folder: Path) -> Path:
    for name in ("train", "val", "test"):
        make_photos(folder / name, count=4)
    return folder


def test_clean_photos_come_out_split_audited_and_fingerprinted(photos: Path) -> None:
    prepared = prepare(photos, DataConfig(), 0)
    assert len(prepared.table) == len(prepared.facts) == len(prepared.readable) == 36
    assert prepared.readable.all()
    assert prepared.audit.split_counts["test"] == {"blue": 2, "green": 2, "red": 2}
    assert prepared.fingerprint == prepared.audit.fingerprint
    assert len(prepared.splits.made) == 2


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_truncated_jpeg_in_any_split_stops_and_says_where(tmp_path: Path, split: str) -> None:
    folder = with_splits(tmp_path / "photos")
    file = folder / split / "red" / "001.jpg"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError) as error:
        prepare(folder, DataConfig(), 0, audit_path=tmp_path / "run" / "audit.json")
    where = "" if split == "train" else f"; 1 is in the {split} split"
    assert str(error.value) == (
        f"1 of 36 images could not be read (listed in {tmp_path / 'run' / 'audit.json'}){where}. "
        "Remove or replace it, or pass --set data.on_unreadable=leave_out."
    )
    (listed,) = json.loads((tmp_path / "run" / "audit.json").read_text())["unreadable"]
    assert listed["path"] == f"{split}/red/001.jpg"
    assert "truncated" in listed["reason"]


def test_without_an_audit_file_the_error_itself_lists_the_first(photos: Path) -> None:
    (photos / "red" / "000.jpg").write_bytes(b"")
    (photos / "red" / "001.jpg").write_text("this is a text")
    with pytest.raises(DataError) as error:
        prepare(photos, DataConfig(), 0)
    assert str(error.value).startswith(
        "2 of 36 images could not be read ('red/000.jpg': the file is empty; "
        "'red/001.jpg': not an image in a known format)."
    )


def test_left_out_images_are_in_no_split_and_the_files_stay_as_they_were(photos: Path) -> None:
    file = photos / "red" / "000.jpg"
    file.write_bytes(b"half a")
    prepared = prepare(photos, DataConfig(on_unreadable="leave_out"), 0)
    place = prepared.table.paths.index("red/000.jpg")
    assert not prepared.readable[place]
    assert prepared.splits.assigned(prepared.table)[place] is None
    assert sum(map(len, prepared.splits.named().values())) == 35
    assert "left out: 1 unreadable image" in prepared.splits.made
    assert file.read_bytes() == b"half a"


def test_what_cannot_be_trained_on_is_told_before_any_image_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("sightline.data.prepare.inspect", read)
    with pytest.raises(DataError, match="only one class, 'red'"):
        prepare(make_photos(tmp_path / "one", classes=("red",)), DataConfig(), 0)
    with pytest.raises(DataError, match=r"2 classes with fewer than 3 images, one each for train, val, test: .*\(1\)"):
        prepare(make_photos(tmp_path / "few", classes=("red", "blue"), count=1), DataConfig(), 0)


def test_images_that_are_only_evaluated_on_must_all_be_readable(photos: Path) -> None:
    assert len(readable_table(photos)) == 36
    (photos / "red" / "000.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"Remove or replace it\.$"):
        readable_table(photos)
