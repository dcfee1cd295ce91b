"""engine=auto: with doubles in place of processes, whose speed and answers are stated."""

import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import make_folder

from sightline.engines import Settings, find_engine
from sightline.errors import SightlineError
from sightline.measuring import choice
from sightline.model_folder import ModelFolder

SPEEDS = {"torch": 0.010, "channels_last": 0.008, "compiled": 0.004, "onnx": 0.005, "openvino": 0.0045}


class Double:
    """Stands for a process; `off` is what its logits are off by."""

    started: list[str]
    off: dict[str, float]
    fails: dict[str, str]
    mute: set[str]

    def __init__(self, job: Any) -> None:
        self.name = job.engine
        Double.started.append(self.name)

    def __enter__(self) -> "Double":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait(self, _limit: float) -> float:
        if self.name in Double.fails:
            raise SightlineError(Double.fails[self.name])
        return 1.0

    def run(self, _seconds: float) -> list[float]:
        return [SPEEDS[self.name]] * 3

    def answer(self, pixels: Path, logits: Path) -> None:
        if self.name in Double.mute:
            raise SightlineError("no answer in 600 seconds.")
        count = len(np.load(pixels))
        np.save(logits, np.tile(np.float32([0, 2]), (count, 1)) + np.float32(Double.off.get(self.name, 0)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFolder:
    Double.started, Double.off, Double.fails, Double.mute = [], {}, {}, set()
    monkeypatch.setattr(choice, "Worker", Double)
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    return make_folder(tmp_path / "model")


CPU = Settings(device="cpu")


def test_the_fastest_is_taken_and_how_much_faster_it_is_is_said(
    folder: ModelFolder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "sightline"):
        assert choice.choose(folder, CPU, 8) == "compiled"
    assert "engine: compiled, 2.50 times as fast as torch on batches of 8 (torch 10 ms, " in caplog.messages[-1]


def test_it_is_remembered_for_this_model_batch_size_and_settings(folder: ModelFolder, tmp_path: Path) -> None:
    choice.choose(folder, CPU, 8)
    assert len(Double.started) == 5
    choice.choose(folder, CPU, 8)
    assert len(Double.started) == 5
    choice.choose(folder, CPU, 1)
    assert len(Double.started) == 10
    choice.choose(folder, Settings(device="cpu", threads=2), 8)
    assert len(Double.started) == 15
    choice.choose(make_folder(tmp_path / "other", classes=("a", "b")), CPU, 8)
    assert len(Double.started) == 20


def test_a_damaged_memory_is_measured_again(folder: ModelFolder, tmp_path: Path) -> None:
    choice.choose(folder, CPU, 8)
    [file] = (tmp_path / "cache" / "engines").iterdir()
    for text in ("", "[]", '{"seconds": {}, "left_out": {}}', '{"seconds": {"torch": "fast"}, "left_out": {}}'):
        file.write_text(text)
        assert choice.choose(folder, CPU, 8) == "compiled"


@pytest.mark.parametrize(("hours", "tries"), [(23, 5), (25, 10)])
def test_an_engine_that_failed_is_tried_again_after_a_day(
    folder: ModelFolder, tmp_path: Path, hours: int, tries: int
) -> None:
    Double.fails = {"openvino": "no memory."}
    choice.choose(folder, CPU, 8)
    [file] = (tmp_path / "cache" / "engines").iterdir()
    os.utime(file, (time.time() - 3600 * hours,) * 2)
    choice.choose(folder, CPU, 8)
    assert len(Double.started) == tries


def test_an_engine_that_answers_differently_is_remembered_as_one(folder: ModelFolder, tmp_path: Path) -> None:
    Double.off = {"compiled": 0.1}
    choice.choose(folder, CPU, 8)
    [file] = (tmp_path / "cache" / "engines").iterdir()
    os.utime(file, (0, 0))
    choice.choose(folder, CPU, 8)
    assert len(Double.started) == 5


def test_an_engine_that_answers_differently_or_fails_is_left_out_and_named(
    folder: ModelFolder, caplog: pytest.LogCaptureFixture
) -> None:
    Double.off = {"compiled": 0.1}
    Double.fails = {"openvino": "no memory."}
    with caplog.at_level(logging.INFO, "sightline"):
        assert choice.choose(folder, CPU, 8) == "onnx"
    assert "openvino (no memory); compiled (its logits are off by 0.1 of their spread)." in caplog.messages[-1]


def test_an_engine_that_does_not_answer_is_left_out_and_named(
    folder: ModelFolder, caplog: pytest.LogCaptureFixture
) -> None:
    Double.mute = {"compiled"}
    with caplog.at_level(logging.INFO, "sightline"):
        assert choice.choose(folder, CPU, 8) == "openvino"
    assert "Left out: compiled (no answer in 600 seconds)." in caplog.messages[-1]


def test_where_torch_itself_does_not_answer_that_is_the_error(folder: ModelFolder) -> None:
    Double.mute = {"torch"}
    with pytest.raises(SightlineError, match="no answer in 600 seconds"):
        choice.choose(folder, CPU, 8)


def test_below_float32_only_engines_that_have_the_precision_are_tried(
    folder: ModelFolder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "sightline"):
        choice.choose(folder, Settings(precision="bf16", device="cpu"), 8)
    assert sorted(Double.started) == ["channels_last", "compiled", "openvino", "torch"]
    assert "Left out: onnx ('onnx' has no precision 'bf16')" in caplog.messages[-1]


def test_an_engine_that_is_not_installed_is_left_out_and_named(
    folder: ModelFolder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        type(find_engine("onnx")), "missing", property(lambda self: "x" if "ONNX" in self.title else None)
    )
    with caplog.at_level(logging.INFO, "sightline"):
        choice.choose(folder, CPU, 8)
    assert "onnx" not in Double.started
    assert "onnx (x is not installed)" in caplog.messages[-1]


def test_where_torch_itself_fails_its_reason_is_the_error(folder: ModelFolder) -> None:
    Double.fails = {"torch": "the weights are gone"}
    with pytest.raises(SightlineError, match="the weights are gone"):
        choice.choose(folder, CPU, 8)


def test_a_precision_that_torch_has_not_is_refused(folder: ModelFolder) -> None:
    with pytest.raises(SightlineError, match="'torch' has no precision 'int3'"):
        choice.choose(folder, Settings(precision="int3", device="cpu"), 8)
