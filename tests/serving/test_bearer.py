from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.client import Client
from sightline.errors import SightlineError
from sightline.model_folder import ModelFolder
from sightline.serving.bearer import find_token

Cli = Callable[..., tuple[int, str, str]]


def test_white_space_around_a_token_is_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("t0ken\n")
    monkeypatch.setenv("SIGHTLINE_TOKEN", "t0ken\n")
    assert find_token(tmp_path / "token") == find_token(None) == "t0ken"
    assert Client("localhost")._token == Client("localhost", token=" t0ken\r\n")._token == "t0ken"


@pytest.mark.parametrize("wrong", ["schlüssel", "two\nlines", "a\tb", "\ufefft0ken"])
def test_a_token_that_isn_t_printable_ascii_is_refused(
    wrong: str, served_model: ModelFolder, tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentence = "holds a token that isn't printable ASCII, which clients could not send."
    (tmp_path / "token").write_text(wrong, encoding="utf-8")
    with pytest.raises(SightlineError, match=sentence):
        find_token(tmp_path / "token")
    monkeypatch.setenv("SIGHTLINE_TOKEN", wrong)
    assert run_cli("serve", served_model.path) == (2, "", f"error: SIGHTLINE_TOKEN {sentence}\n")
    with pytest.raises(SightlineError, match="The token isn't printable ASCII"):
        Client("localhost")


def test_without_a_token_none_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIGHTLINE_TOKEN", raising=False)
    assert find_token(None) is None
    monkeypatch.setenv("SIGHTLINE_TOKEN", "")
    assert find_token(None) is None


def test_a_token_of_white_space_does_not_open_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_TOKEN", " \n")
    with pytest.raises(SightlineError, match="SIGHTLINE_TOKEN is empty"):
        find_token(None)
