"""The command that a model's trail shows."""

import sys

import pytest

from sightline.command_line import command_line, without_password


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://user:s3cr@t@host/name", "postgresql://user:***@host/name"),
        ("postgresql://host/name?user=u&password=s3cret&x=1", "postgresql://host/name?user=u&password=***&x=1"),
        ("postgresql://host:5432/name", "postgresql://host:5432/name"),
        ("journal:/shared/search.log", "journal:/shared/search.log"),
    ],
)
def test_a_password_is_not_shown(address: str, shown: str) -> None:
    assert without_password(address) == shown


def test_the_command_is_ready_for_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/sightline", "tune", "my data", "--storage", "postgresql://u:pw@h/n"])
    assert command_line() == "sightline tune 'my data' --storage 'postgresql://u:***@h/n'"


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["/x/sightline/__main__.py", "train", "photos"], "sightline train photos"),
        (["/home/me/train all.py", "photos"], "python 'train all.py' photos"),
        ([""], "python"),
    ],
)
def test_a_program_that_called_is_not_taken_for_the_command(
    argv: list[str], shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert command_line() == shown
