from collections.abc import Callable
from pathlib import Path

import pytest
from pictures import write_zip

from sightline.data.outside import check_outside
from sightline.errors import DataError


@pytest.mark.parametrize("inside", ["run", "red/run", "."])
def test_a_folder_among_the_images_is_refused(photos: Path, inside: str) -> None:
    with pytest.raises(DataError, match="lies inside the images' own folder"):
        check_outside(photos / inside, photos)


def test_a_folder_beside_the_images_or_an_archive_s_is_fine(photos: Path, tmp_path: Path) -> None:
    check_outside(tmp_path / "photos-run", photos)
    (tmp_path / "photos.zip").write_bytes(b"")
    check_outside(tmp_path / "run", tmp_path / "photos.zip")


@pytest.mark.parametrize("verb", [["train"], ["study", "--vary", "optim.lr=0.1,0.2"]])
def test_the_command_says_so_in_one_line(
    photos: Path, verb: list[str], run_cli: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = run_cli(verb[0], photos, *verb[1:], "--out", photos / "run")
    assert (code, err.count("\n")) == (2, 1)
    assert "Choose another place." in err
    assert not (photos / "run").exists()


@pytest.mark.parametrize(
    ("verb", "option", "name"),
    [("augment", "--out", "0.png"), ("augment", "--out", "new.png"), ("check", "--json", "0.png")],
)
def test_no_file_is_written_among_the_images_or_over_one(
    photos: Path, verb: str, option: str, name: str, run_cli: Callable[..., tuple[int, str, str]]
) -> None:
    before = {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    code, _, err = run_cli(verb, photos, option, photos / "red" / name)
    assert (code, err.count("\n")) == (2, 1)
    assert "lies inside the images' own folder" in err
    assert {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["photos.zip", "./photos.zip", "link.zip"])
def test_the_data_s_own_file_is_not_written_over(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Callable[..., tuple[int, str, str]]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_zip(tmp_path / "photos.zip", ["cat/1.png", "dog/2.png"])
    (tmp_path / "link.zip").symlink_to(file)
    before = file.read_bytes()
    for command in (["check", "photos.zip"], ["bench", "model", "--data", "photos.zip"]):
        code, _, err = run_cli(*command, "--json", name)
        assert (code, err) == (
            2,
            f"error: {name.removeprefix('./')!r} is the data itself, which would be overwritten. "
            "Choose another name.\n",
        )
    assert file.read_bytes() == before


def test_a_name_that_no_file_can_have_is_not_the_data(tmp_path: Path) -> None:
    file = write_zip(tmp_path / "photos.zip", ["cat/1.png"])
    check_outside(tmp_path / ("x" * 300), file)
    check_outside(tmp_path / "a\0b", file)
