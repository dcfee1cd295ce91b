import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sightline.errors import SightlineError
from sightline.files import (
    ABANDONED,
    cache_folder,
    claimed,
    expanded,
    is_claimed,
    keep_latest,
    reserve,
    whole_file,
    whole_folder,
    write_json,
    write_text,
)


def test_a_tilde_is_a_home_folder_or_part_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expanded("~/a") == Path("/home/me/a")
    assert expanded(Path("~no-such-user/a")) == Path("~no-such-user/a")
    assert expanded("~weights.pth") == Path("~weights.pth")


def test_a_block_that_fails_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    write_text(path, "old")
    with pytest.raises(RuntimeError), whole_file(path) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["figures.json"]


def test_a_folder_takes_the_place_of_the_older_one_with_all_that_is_in_it(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with whole_folder(tmp_path / "export") as aside:
            (aside / f"{content}.txt").write_text(content)
    assert os.listdir(tmp_path) == ["export"]
    assert os.listdir(tmp_path / "export") == ["new.txt"]


def test_a_folder_whose_filling_fails_leaves_the_older_one_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "old.txt").write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "export") as aside:
        (aside / "half.txt").write_text("half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["export"]
    assert os.listdir(tmp_path / "export") == ["old.txt"]


def test_of_a_link_the_folder_that_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk/export")
    for content in ("old", "new"):
        with whole_folder(tmp_path / "link") as aside:
            (aside / f"{content}.txt").write_text(content)
    assert sorted(os.listdir(tmp_path)) == ["disk", "link"]
    assert (tmp_path / "link").is_symlink()
    assert os.listdir(tmp_path / "disk") == ["export"]
    assert os.listdir(tmp_path / "disk" / "export") == ["new.txt"]


def test_what_is_being_replaced_is_no_leftover_however_old_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "export").mkdir()
    os.utime(tmp_path / "export", (0, 0))
    rename = Path.rename
    kept: list[bool] = []

    def beside_another_process(path: Path, target: Path) -> None:
        rename(path, target)
        write_text(tmp_path / "a.txt", "it tidies up")
        kept.append(target.exists())

    with whole_folder(tmp_path / "export"):
        monkeypatch.setattr(Path, "rename", beside_another_process)
    assert kept == [True, True]


def test_a_folder_on_a_full_disk_is_one_sentence(full_disk: Path) -> None:
    with pytest.raises(SightlineError, match="No space left on device"), whole_folder(full_disk / "export") as aside:
        (aside / "large").write_bytes(bytes(2**20))
    assert os.listdir(full_disk) == []


def test_a_file_has_the_permissions_a_plain_one_would_have(tmp_path: Path) -> None:
    write_text(tmp_path / "ours", "x")
    (tmp_path / "plain").write_text("x")
    with whole_file(tmp_path / "private") as aside:
        aside.write_text("x")
        aside.chmod(0o600)  # as safetensors leaves what it writes
    for name in ("ours", "private"):
        assert (tmp_path / name).stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_that_this_process_has_claimed_is_known_to_it(tmp_path: Path) -> None:
    with claimed(tmp_path / "run"):
        assert is_claimed(tmp_path / "run")
        with pytest.raises(SightlineError, match="is writing to .* already"), claimed(tmp_path / "run"):
            pass
        asking = (
            "import sys, pathlib; from sightline.files import is_claimed; print(is_claimed(pathlib.Path(sys.argv[1])))"
        )
        found = subprocess.run(
            [sys.executable, "-c", asking, tmp_path / "run"], capture_output=True, text=True, check=True
        )
        assert found.stdout == "True\n"
    assert not is_claimed(tmp_path / "run")


def test_a_claimed_folder_that_stays_empty_goes_again_and_another_stays(tmp_path: Path) -> None:
    with claimed(tmp_path / "runs" / "photos"):
        assert (tmp_path / "runs" / "photos").is_dir()
    assert not any(tmp_path.iterdir())
    (tmp_path / "mine").mkdir()
    with claimed(tmp_path / "mine"):
        pass
    with claimed(tmp_path / "run"):
        (tmp_path / "run" / "recipe.yaml").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "run"]


def test_the_longest_name_the_system_takes_can_be_written(tmp_path: Path) -> None:
    write_text(tmp_path / ("x" * 255), "x")
    assert os.listdir(tmp_path) == ["x" * 255]


def test_a_name_too_long_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match=r"^Could not write '.*': File name too long\.$"):
        write_text(tmp_path / ("x" * 256), "x")


def test_a_file_in_the_place_of_a_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(SightlineError, match="Could not write"):
        write_text(tmp_path / "a" / "b", "x")


def test_what_is_no_number_is_refused_in_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_sentence_and_the_older_file_stays(full_disk: Path) -> None:
    write_text(full_disk / "weights", "old")
    with pytest.raises(SightlineError, match=r"Could not write '.*weights': No space left on device\."):
        write_text(full_disk / "weights", "x" * 1_000_000)
    assert (full_disk / "weights").read_text() == "old"
    assert os.listdir(full_disk) == ["weights"]


def test_a_checkpoint_on_a_full_disk_is_one_sentence_and_the_older_one_stays(full_disk: Path) -> None:
    import torch

    from sightline.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

    def checkpoint(numbers: int) -> Checkpoint:
        return Checkpoint(
            recipe="",
            data_fingerprint="",
            progress={},
            journal={},
            model={"a": torch.ones(numbers)},
            optimizer={},
            scaler={},
        )

    path = full_disk / "last.pt"
    save_checkpoint(path, checkpoint(10))
    with pytest.raises(SightlineError, match=r"No space left on device\."):
        save_checkpoint(path, checkpoint(1_000_000))
    assert load_checkpoint(path).model["a"].tolist() == [1.0] * 10
    assert os.listdir(full_disk) == ["last.pt"]


def test_a_folder_that_another_process_works_in_is_known(tmp_path: Path) -> None:
    assert not is_claimed(tmp_path)
    hold = """
import sys
from pathlib import Path
from sightline.files import claimed
with claimed(Path(sys.argv[1])):
    print(flush=True)
    input()
"""
    command = [sys.executable, "-c", hold, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert is_claimed(tmp_path)
        other.communicate(b"\n")
    assert not is_claimed(tmp_path)


def test_room_for_a_file_of_holes_is_asked_for_before_it_is_filled(full_disk: Path) -> None:
    with pytest.raises(SightlineError, match="No space left"), whole_file(full_disk / "a.npy") as aside:
        rows = np.lib.format.open_memmap(aside, mode="w+", dtype=np.uint8, shape=(1_000_000,))
        reserve(aside)
        rows[:] = 1
    assert os.listdir(full_disk) == []


def test_what_a_kill_left_half_written_is_deleted_a_day_later(tmp_path: Path) -> None:
    for name, age in ((f".{'a' * 16}.part", 2 * ABANDONED), (f".{'b' * 16}.part", 60), (".mine.part", 2 * ABANDONED)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    write_text(tmp_path / "a.txt", "a")
    assert sorted(os.listdir(tmp_path)) == [f".{'b' * 16}.part", ".mine.part", "a.txt"]


def test_what_a_kill_left_set_aside_is_deleted_a_day_later(tmp_path: Path) -> None:
    older, link, young = (tmp_path / f".{letter * 16}.old" for letter in "abc")
    (tmp_path / "mine").mkdir()
    link.symlink_to("mine")
    for folder in (older, young):
        folder.mkdir()
        (folder / "model.json").touch()
    for path in (older, link):
        os.utime(path, (time.time() - 2 * ABANDONED,) * 2, follow_symlinks=False)
    write_text(tmp_path / "a.txt", "a")
    assert sorted(os.listdir(tmp_path)) == [young.name, "a.txt", "mine"]


def test_the_cache_is_where_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIGHTLINE_CACHE")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/sightline")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("/home/me/.cache/sightline")


def test_a_cache_keeps_what_was_touched_last(tmp_path: Path) -> None:
    for number, name in enumerate(("oldest", "older", "newer", "newest")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "inside").touch()
        os.utime(folder, (number, number))
    os.utime(tmp_path / "oldest", (9, 9))
    keep_latest(tmp_path.iterdir(), 2)
    assert {entry.name for entry in tmp_path.iterdir()} == {"oldest", "newest"}


def test_a_name_that_is_no_text_is_written_and_read_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "names.json", [name])
    assert json.loads((tmp_path / "names.json").read_text(encoding="utf-8")) == [name]
