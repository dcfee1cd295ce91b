"""What a program reads from the standard output is UTF-8, whatever the terminal speaks."""

import io
import json
import sys

import pytest

from sightline.cli.saying import write_for_programs


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_stays_json(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding, errors="backslashreplace"))
    write_for_programs()
    names = ["\xfcn\xefcode", "\u732b", "\udcff"]  # the last is a byte of a name that is no text
    sys.stdout.write(json.dumps(names, ensure_ascii=False))
    sys.stdout.flush()
    assert json.loads(written.getvalue().decode()) == names
