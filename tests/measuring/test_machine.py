"""What is said of this machine: enough to tell it from another under the same name."""

import json
from pathlib import Path

import pytest

from sightline.measuring import machine

XEON = "processor\t: 0\nmodel name\t: Some Xeon\nflags\t\t: fpu smep avx2 {}\nprocessor\t: 1\nmodel name\t: Other\n"


def says(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read_text = Path.read_text

    def read(self: Path, encoding: str | None = None) -> str:
        return text if self == Path("/proc/cpuinfo") else read_text(self, encoding)

    monkeypatch.setattr(Path, "read_text", read)


def test_it_names_the_first_processor_and_its_vector_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    says(XEON.format("amx_tile avx512_bf16"), monkeypatch)
    assert machine.processor() == "Some Xeon"
    assert machine.instructions() == "amx_tile avx2 avx512_bf16"
    assert json.loads(json.dumps(machine.machine()))["instructions"] == machine.instructions()


def test_an_arm_processor_says_it_under_another_word(monkeypatch: pytest.MonkeyPatch) -> None:
    says("processor\t: 0\nFeatures\t: fp asimd crc32 sve bf16\n", monkeypatch)
    assert machine.instructions() == "asimd bf16 sve"
    assert machine.processor()


def test_where_linux_says_nothing_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: Path, **_: object) -> str:
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", missing)
    assert machine.instructions() == ""
    assert machine.processor()
