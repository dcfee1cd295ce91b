"""Bad input gets one clear sentence and exit code 2, and nothing that later passes for a model."""

import os
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from making import make_photos

from sightline.errors import ModelError
from sightline.model_folder import ModelFolder

Cli = Callable[..., tuple[int, str, str]]
SMALL = [
    "--set",
    "epochs=1",
    "--set",
    "optim.warmup_epochs=0",
    "--set",
    "model.name=resnet20",
    "--set",
    "data.image_size=16",
]
SMALL += ["--set", "data.resize=18", "--set", "data.num_workers=0"]


def only_class(data: Path) -> None:
    for name in ("blue", "green"):
        for file in (data / name).iterdir():
            file.unlink()
        (data / name).rmdir()


def one_image(data: Path) -> None:
    for file in sorted((data / "red").iterdir())[1:]:
        file.unlink()


def empty(data: Path) -> None:
    subprocess.run(["rm", "-r", data], check=True)
    data.mkdir()


def without_classes(data: Path) -> None:
    for name in ("blue", "green"):
        subprocess.run(["rm", "-r", data / name], check=True)
    for file in (data / "red").iterdir():
        file.rename(data / file.name)
    (data / "red").rmdir()


def cyclic_link(data: Path) -> None:
    (data / "red" / "again").symlink_to(data)


def truncated(data: Path) -> None:
    file = data / "red" / "003.jpg"
    file.write_bytes(file.read_bytes()[:200])


def zero_bytes(data: Path) -> None:
    (data / "red" / "003.jpg").write_bytes(b"")


def text(data: Path) -> None:
    (data / "red" / "003.jpg").write_text("no image at all")


def bomb(data: Path) -> None:
    """A PNG of 40,000 by 40,000 pixels in a few kilobytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(40_001 * 100), 9)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (data / "red" / "003.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (empty, "no images"),
        (only_class, "one class"),
        (one_image, "'red'"),
        (without_classes, "class"),
        (cyclic_link, "leads back to a folder above it"),
        (truncated, "1 of 36 images could not be read"),
        (zero_bytes, "1 of 36 images could not be read"),
        (text, "1 of 36 images could not be read"),
        (bomb, "1 of 37 images could not be read"),
    ],
)
def test_data_that_cannot_be_trained_on(
    spoil: Callable[[Path], None], sentence: str, photos: Path, tmp_path: Path, run_cli: Cli
) -> None:
    spoil(photos)
    assert_refused(run_cli("train", photos, "--out", tmp_path / "run", *SMALL), sentence, tmp_path / "run")


def assert_refused(result: tuple[int, str, str], sentence: str, folder: Path) -> None:
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert sentence in err
    with pytest.raises(ModelError):
        ModelFolder.read(folder)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_truncated_image_in_each_split(split: str, tmp_path: Path, run_cli: Cli) -> None:
    for name in ("train", "val", "test"):
        make_photos(tmp_path / "photos" / name, count=3)
    truncated_file = tmp_path / "photos" / split / "red" / "001.jpg"
    truncated_file.write_bytes(truncated_file.read_bytes()[:300])
    result = run_cli("train", tmp_path / "photos", "--out", tmp_path / "run", *SMALL)
    place = "" if split == "train" else f"; 1 is in the {split} split"
    listing = f"(listed in {tmp_path / 'run' / 'audit.json'}){place}. Remove or replace it, or pass --set"
    assert_refused(
        result, f"1 of 27 images could not be read {listing} data.on_unreadable=leave_out.", tmp_path / "run"
    )
    assert f"{split}/red/001.jpg" in (tmp_path / "run" / "audit.json").read_text()


def test_unreadable_images_are_left_out_and_said_where_that_is_asked_for(
    photos: Path, tmp_path: Path, run_cli: Cli
) -> None:
    truncated(photos)
    settings = [*SMALL, "--set", "data.on_unreadable=leave_out"]
    code, _, err = run_cli("train", photos, "--out", tmp_path / "run", *settings)
    assert code == 0, err
    assert "left out: 1 unreadable image" in err
    assert "red/003.jpg" in (tmp_path / "run" / "audit.json").read_text()
    assert "red/003.jpg" not in (tmp_path / "run" / "splits.json").read_text()


def test_an_archive_that_leads_outside(tmp_path: Path, run_cli: Cli) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("red/../../evil.jpg", b"")
        archive.writestr("red/1.jpg", b"")
    result = run_cli("train", tmp_path / "photos.zip", "--out", tmp_path / "run", *SMALL)
    assert_refused(result, "names that lead out of it", tmp_path / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_folder_without_permission(photos: Path, tmp_path: Path, run_cli: Cli) -> None:
    (photos / "red").chmod(0)
    result = run_cli("train", photos, "--out", tmp_path / "run", *SMALL)
    (photos / "red").chmod(0o755)
    assert_refused(result, "permission denied", tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--set", "optim.lrr=1"], "Did you mean 'optim.lr'?"),
        (["--set", "epochs=many"], "epochs should be an integer, got 'many'."),
        (["--set", "epochs=1", "--set", "optim.warmup_epochs=5"], "must be less than epochs (1)"),
        (["--set", "model.name=resnet19"], "Unknown model 'resnet19'. Did you mean"),
        (["--set", "train.device=cuda"], "The device 'cuda' is not available here. Available: cpu."),
        (["--set", "train.fast=off", "--set", "train.precision=fp16"], "'fp16' needs a GPU"),
        (["--set", "model.activation=rleu"], "Unknown activation 'rleu'. Did you mean 'relu'?"),
        (["--set", "model.drop_path=1.5"], "model.drop_path must be at least 0 and below 1, got 1.5."),
        (
            ["--set", "model.width=1e5"],
            "Width and depth take factors greater than 0 and at most 100, got 100000 and 1.",
        ),
        (["--recipe", "small_foldr"], "Unknown recipe 'small_foldr'. Did you mean 'small_folder'?"),
        (["--recipe", "x" * 300 + ".yaml"], "File name too long"),
        (["--out", "x" * 300], "File name too long"),
        (["--resume"], "There is no unfinished run of this data"),
    ],
)
def test_settings_that_cannot_be(
    arguments: list[str], sentence: str, photos: Path, tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(run_cli("train", photos, *arguments), sentence, tmp_path / "runs" / "photos")


def test_a_folder_that_holds_something_is_never_written_over(photos: Path, tmp_path: Path, run_cli: Cli) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    result = run_cli("train", photos, "--out", tmp_path / "mine", *SMALL)
    assert_refused(result, "exists already. Choose another --out", tmp_path / "mine")
    assert os.listdir(tmp_path / "mine") == ["thesis.tex"]


def test_an_output_place_that_cannot_be_written_is_found_before_training(
    photos: Path, tmp_path: Path, run_cli: Cli
) -> None:
    (tmp_path / "file").write_text("")
    result = run_cli("train", photos, "--out", tmp_path / "file" / "run", *SMALL)
    assert_refused(result, "Could not write", tmp_path / "file" / "run")
    assert "epoch" not in result[2]


def test_names_beyond_ascii_and_as_long_as_the_system_takes_work(tmp_path: Path, run_cli: Cli) -> None:
    names = ("猫🐈", "собака", "ß" * 127)
    photos = make_photos(tmp_path / "Fotos für später", classes=names, count=6)
    code, out, err = run_cli("train", photos, "--out", tmp_path / "läuft", *SMALL)
    assert code == 0, err
    assert ModelFolder.read(tmp_path / "läuft").spec.classes == tuple(sorted(names))
    assert "läuft" in out


def test_evaluating_on_a_class_the_model_does_not_know_names_it(photos: Path, tmp_path: Path, run_cli: Cli) -> None:
    code, _, err = run_cli("train", photos, "--out", tmp_path / "run", *SMALL)
    assert code == 0, err
    other = make_photos(tmp_path / "other", classes=("blue", "gren"), count=2)
    code, _, err = run_cli("evaluate", tmp_path / "run", other)
    assert code == 2
    assert "Unknown class 'gren'. Did you mean 'green'?" in err
    (other / "gren").rename(other / "green")
    code, out, _ = run_cli("evaluate", tmp_path / "run", other, "--json")
    assert code == 0
    assert '"num_images": 4' in out


def test_a_full_disk_stops_a_run_with_one_sentence_and_it_can_go_on_later(
    full_disk: Path, photos: Path, tmp_path: Path, run_cli: Cli
) -> None:
    result = run_cli("train", photos, "--out", full_disk / "run", *SMALL)
    assert result[0] == 2
    assert "No space left on device." in result[2]
    assert "Traceback" not in result[2]
    with pytest.raises(ModelError, match=r"hasn't ended|no model folder"):
        ModelFolder.read(full_disk / "run")
    subprocess.run(["mount", "-o", "remount,size=64m", str(full_disk)], check=True)
    code, _, err = run_cli("train", photos, "--out", full_disk / "run", "--resume")
    assert code == 0, err
    whole = run_cli("train", photos, "--out", tmp_path / "whole", *SMALL)
    assert whole[0] == 0
    resumed, uninterrupted = ModelFolder.read(full_disk / "run"), ModelFolder.read(tmp_path / "whole")
    assert resumed.spec.weights_sha256 == uninterrupted.spec.weights_sha256
