"""Several settings behind one option."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.cli.repeated import repeated


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("tune d --search a=1..2 b.c=x,y --trials 4", "tune d --search a=1..2 --search b.c=x,y --trials 4"),
        ("tune d --search=a=1..2 b=3,4", "tune d --search=a=1..2 --search b=3,4"),
        ("tune --set epochs=2 lr=1 photos", "tune --set epochs=2 --set lr=1 photos"),
        ("tune --set epochs=2 photos lr=1", "tune --set epochs=2 photos lr=1"),
        ("study d --vary act=relu,gelu --set a=1 b=2", "study d --vary act=relu,gelu --set a=1 --set b=2"),
        ("train d --set a=1 --set b=2", "train d --set a=1 --set b=2"),
        ("train d --set a=1 --out x=y", "train d --set a=1 --out x=y"),
        ("train d --set a=1 -- b=2", "train d --set a=1 -- b=2"),
        ("serve one=models/a two=models/b", "serve one=models/a two=models/b"),
        ("train d --set", "train d --set"),
        ("train d --set nonsense b=2", "train d --set nonsense --set b=2"),
    ],
)
def test_each_setting_gets_its_option(given: str, meant: str) -> None:
    assert repeated(given.split()) == meant.split()


def test_a_setting_longer_than_a_files_name_is_a_setting() -> None:
    long = "model.name=" + ",".join(["resnet18"] * 40)
    assert repeated(["tune", "d", "--search", "a=1..2", long])[-2:] == ["--search", long]


def test_a_folder_is_no_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x=1").mkdir()
    assert repeated(["train", "--set", "a=1", "x=1"]) == ["train", "--set", "a=1", "x=1"]


def test_the_command_takes_them(run_cli: Callable[..., tuple[int, str, str]]) -> None:
    code, _, said = run_cli("tune", "digits", "--search", "optim.lr=log:1e-4..1", "batch_sise=16,32")
    assert (code, "batch_size" in said) == (2, True), said
