import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sightline.data.packed import Packed, packed
from sightline.errors import SightlineError
from sightline.files import cache_folder


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))


def picture(index: int) -> NDArray[np.uint8]:
    return np.full((4, 4, 3), index, dtype=np.uint8)


def never(index: int) -> NDArray[np.uint8]:
    raise AssertionError(f"row {index} was made twice")


def numbers(*indices: int) -> NDArray[np.int64]:
    return np.array(indices, dtype=np.int64)


def open_store(fingerprint: str = "data", count: int = 10) -> AbstractContextManager[Packed | None]:
    return packed(fingerprint, "4 bilinear", count, 4)


def test_rows_come_in_the_order_asked_for_and_are_made_once() -> None:
    with open_store() as store:
        assert store is not None
        assert store.rows(numbers(7, 2), picture)[:, 0, 0, 0].tolist() == [7, 2]
        assert store.rows(numbers(2, 7, 2), never)[:, 0, 0, 0].tolist() == [2, 7, 2]


def test_another_process_finds_what_was_saved() -> None:
    with open_store() as store:
        assert store is not None
        store.rows(numbers(1, 3), picture)
    with open_store() as store:
        assert store is not None
        assert store.rows(numbers(3, 1), never)[:, 0, 0, 0].tolist() == [3, 1]


def test_other_data_and_another_geometry_have_their_own_rows() -> None:
    with open_store() as store:
        assert store is not None
        store.rows(numbers(1), picture)
    made: list[int] = []
    for fingerprint, geometry in (("other", "4 bilinear"), ("data", "4 bicubic")):
        with packed(fingerprint, geometry, 10, 4) as store:
            assert store is not None
            store.rows(numbers(1), lambda index: made.append(index) or picture(index))
    assert made == [1, 1]


def test_a_killed_process_loses_rows_and_never_leaves_a_wrong_one() -> None:
    script = """
import os, signal, sys
import numpy as np
from sightline.data.packed import packed
with packed("data", "4 bilinear", 10, 4) as store:
    store.rows(np.array([1]), lambda index: np.full((4, 4, 3), index, dtype=np.uint8))
    store.save()
    store.rows(np.array([2]), lambda index: np.full((4, 4, 3), 99, dtype=np.uint8))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], env=dict(os.environ), check=False)
    assert done.returncode == -signal.SIGKILL
    with open_store() as store:
        assert store is not None
        assert store.rows(numbers(1), never)[0, 0, 0, 0] == 1
        assert store.rows(numbers(2), picture)[0, 0, 0, 0] == 2


def test_a_long_run_saves_what_it_has_filled_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.data.packed.SAVE_SECONDS", 0.0)
    with open_store() as filling:
        assert filling is not None
        filling.rows(numbers(1, 3), picture)
        with open_store() as other:  # what a process that starts after a kill would see
            assert other is not None
            other.rows(numbers(3, 1), never)


def test_rows_filled_after_a_save_are_saved_too() -> None:
    with open_store() as store:
        assert store is not None
        store.rows(numbers(1), picture)
        store.save()
        store.rows(numbers(2), picture)
    with open_store() as store:
        assert store is not None
        assert store.rows(numbers(1, 2), never)[:, 0, 0, 0].tolist() == [1, 2]


def test_two_users_of_one_table_keep_each_other_s_rows() -> None:
    with open_store() as first, open_store() as second:
        assert first is not None
        assert second is not None
        first.rows(numbers(1), picture)
        second.rows(numbers(2), picture)
    with open_store() as store:
        assert store is not None
        assert store.rows(numbers(1, 2), never)[:, 0, 0, 0].tolist() == [1, 2]


def test_threads_that_fill_the_same_rows_agree() -> None:
    wanted = np.arange(200, dtype=np.int64)
    with open_store(count=200) as store:
        assert store is not None
        found: list[NDArray[np.uint8]] = []
        threads = [threading.Thread(target=lambda: found.append(store.rows(wanted, picture))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all((rows[:, 0, 0, 0] == wanted).all() for rows in found)
    assert len(found) == 8


def test_a_damaged_list_of_rows_is_no_error() -> None:
    with open_store() as store:
        assert store is not None
        store.rows(numbers(1), picture)
    for path in cache_folder().glob("packed/*/filled.npy"):
        path.write_bytes(path.read_bytes()[:-5])
    with open_store() as store:
        assert store is not None
        assert store.rows(numbers(1), picture)[0, 0, 0, 0] == 1


def cut_short(pixels: Path) -> None:
    os.truncate(pixels, 10)


@pytest.mark.parametrize("lose", [Path.unlink, cut_short])
def test_rows_of_a_file_that_was_lost_are_made_again(lose: Callable[[Path], None]) -> None:
    with open_store() as store:
        assert store is not None
        store.rows(numbers(1, 3), picture)
    lose(store.folder / "pixels")
    with open_store() as store:
        assert store is not None
        assert store.rows(numbers(3), picture)[0, 0, 0, 0] == 3
    with open_store() as store:
        assert store is not None
        assert store.rows(numbers(3, 1), picture)[:, 0, 0, 0].tolist() == [3, 1]


@pytest.mark.parametrize("lose", [Path.unlink, cut_short])
def test_a_process_whose_file_was_lost_says_nothing_of_the_one_that_came_after(lose: Callable[[Path], None]) -> None:
    with open_store() as first:
        assert first is not None
        first.rows(numbers(1), picture)
        lose(first.folder / "pixels")
        with open_store() as second:
            assert second is not None
            second.rows(numbers(2), picture)
    with open_store() as store:
        assert store is not None
        assert store.rows(numbers(2), never)[0, 0, 0, 0] == 2
        assert store.rows(numbers(1), picture)[0, 0, 0, 0] == 1


def test_the_table_not_used_for_longest_makes_room_unless_it_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    folders: dict[str, Path] = {}
    for age, fingerprint in enumerate(("oldest", "older", "newest")):
        with packed(fingerprint, "", 1000, 8) as store:
            assert store is not None
            store.rows(np.arange(1000), lambda _: np.ones((8, 8, 3), dtype=np.uint8))
            folders[fingerprint] = store.folder
        os.utime(store.folder, (age, age))
    monkeypatch.setenv("SIGHTLINE_CACHE_GB", "0.0007")  # three tables of 192 kB fit, four don't
    with packed("oldest", "", 1000, 8) as busy:
        assert busy is not None
        os.utime(busy.folder, (0, 0))
        with packed("another", "", 1000, 8) as store:
            assert store is not None
    assert [name for name, folder in folders.items() if folder.exists()] == ["oldest", "newest"]


def test_a_table_larger_than_the_cache_may_be_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_CACHE_GB", "0.0000001")
    with open_store() as store:
        assert store is None


def test_a_bound_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_CACHE_GB", "much")
    with (
        pytest.raises(SightlineError, match="SIGHTLINE_CACHE_GB should be a number of gigabytes, got 'much'"),
        open_store(),
    ):
        pass


def test_a_cache_that_can_t_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "file"))
    with open_store() as store:
        assert store is None
