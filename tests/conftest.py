"""What every test shares: a cache of its own, one thread, and small folders of images."""

import os
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the commands that tests start are as small as the tests

import pytest
import torch
from making import make_photos

from sightline.native.building import built_once


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small tensors gain nothing from more, and the machine is shared."""
    torch.set_num_threads(1)


@pytest.fixture
def without_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """A machine that can't make the loops of sightline.native, and has made none."""
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "no-loops"))
    monkeypatch.setenv("CC", "false")
    built_once.cache_clear()
    yield
    built_once.cache_clear()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three classes by colour, twelve 20x16 JPEGs each, all different."""
    return make_photos(tmp_path / "photos")


@pytest.fixture
def full_disk(tmp_path: Path) -> Generator[Path]:
    """A disk of 256 kB; only the superuser can make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("mounting a small disk needs the superuser")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process: (exit code, standard output, standard error)."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        from sightline.cli import main

        monkeypatch.setattr("sys.argv", ["sightline", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
