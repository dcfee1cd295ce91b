import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

RunCli = Callable[..., tuple[int, str, str]]

SMALL = (
    *("--recipe", "digits", "--set", "epochs=2", "--set", "optim.warmup_epochs=0"),
    *("--set", "data.max_train_images=100", "--set", "data.num_workers=0"),
)


def command(out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "sightline", "study", "digits", *SMALL, "--out", str(out), *more]


def run(out: Path, *more: str) -> str:
    done = subprocess.run(command(out, *more), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Nothing to vary."),
        (["--vary", "optim.lrr=0.1,0.2"], "Unknown setting 'optim.lrr'. Did you mean 'optim.lr'?"),
        (["--vary", "optim.lr=0.1,-1"], "The arm '-1' is no valid recipe: optim.lr must be greater than 0"),
        (["--vary", "optim.lr=0.1"], "of optim.lr it was given 1"),
        (["--vary", "model.name=resnet20,resnet21"], "The arm 'resnet21' can't be trained: Unknown model 'resnet21'."),
        (["--study", "depht"], "Did you mean 'depth'?"),
        (["--study", "depth", "--vary", "optim.lr=1,2"], "--study names a shipped study"),
        (["--vary", "optim.lr=0.1,0.2", "--repeats", "0"], "--repeats must be at least 1, got 0"),
        (["--vary", "optim.lr=0.1,0.2", "--side-by-side", "0"], "--side-by-side must be at least 1, got 0"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_trained(
    arguments: list[str], sentence: str, photos: Path, tmp_path: Path, run_cli: RunCli
) -> None:
    code, _, err = run_cli("study", photos, *arguments, "--out", tmp_path / "study")
    assert code == 2
    assert err.count("\n") == 1
    assert sentence in err
    assert not (tmp_path / "study").exists()


def test_the_shipped_studies_are_listed_with_their_questions(run_cli: RunCli) -> None:
    code, out, _ = run_cli("study", "--list")
    assert code == 0
    assert "depth" in out
    assert "Does a deeper network learn better" in out


@pytest.mark.slow
def test_a_study_gives_every_arm_its_figures_and_a_page(tmp_path: Path) -> None:
    out = run(tmp_path / "study", "--vary", "activation=relu,gelu", "--repeats", "2")
    assert "baseline" in out
    result = json.loads((tmp_path / "study" / "study.json").read_text())
    assert [arm["name"] for arm in result["arms"]] == ["relu", "gelu"]
    for arm in result["arms"]:
        assert [run["seed"] for run in arm["runs"]] == [0, 1]
        assert all(0 < run["memory"] < 4e9 and len(run["curve"]) == 2 for run in arm["runs"])
    page = (tmp_path / "study" / "study.html").read_text()
    assert page.count("<svg") >= 3
    assert "gelu" in page


@pytest.mark.slow
def test_a_run_that_diverges_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    arguments = ("--vary", "optim.lr=0.001,1000000", "--set", "model.norm=none", "--repeats", "1")
    done = subprocess.run(command(tmp_path / "study", *arguments), capture_output=True, text=True, check=False)
    out = done.stdout
    assert done.returncode == 1
    assert "failed: seed 0: The training loss became" in out
    result = json.loads((tmp_path / "study" / "study.json").read_text())
    assert [len(arm["runs"]) for arm in result["arms"]] == [1, 0]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_study_that_was_stopped_goes_on_to_the_same_figures(tmp_path: Path, how: signal.Signals) -> None:
    arguments = ("--vary", "activation=relu,gelu", "--repeats", "1", "--set", "epochs=12")
    run(tmp_path / "whole", *arguments)
    process = subprocess.Popen(command(tmp_path / "cut", *arguments), start_new_session=True, stderr=subprocess.DEVNULL)
    first = tmp_path / "cut" / "runs" / "relu" / "seed-0" / "checkpoints" / "last.pt"
    while not first.exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, how)
    process.wait()
    assert process.returncode == (130 if how is signal.SIGINT else -signal.SIGKILL)
    assert not (tmp_path / "cut" / "study.json").exists()
    assert "Stopped at once" not in (first.parents[2] / "seed-0.log").read_text()
    run(tmp_path / "cut", *arguments)
    whole, cut = (json.loads((tmp_path / name / "study.json").read_text()) for name in ("whole", "cut"))
    for expected, found in zip(whole["arms"], cut["arms"], strict=True):
        assert found["mean"] == expected["mean"]
        assert [row["val_loss"] for row in found["runs"][0]["curve"]] == [
            row["val_loss"] for row in expected["runs"][0]["curve"]
        ]


@pytest.mark.slow
def test_more_repeats_extend_a_study_and_another_recipe_is_refused(tmp_path: Path) -> None:
    arguments = ("--vary", "activation=relu,gelu")
    run(tmp_path / "study", *arguments, "--repeats", "1")
    written = (tmp_path / "study" / "runs" / "relu" / "seed-0" / "model.json").stat().st_mtime_ns
    run(tmp_path / "study", *arguments, "--repeats", "2", "--side-by-side", "2")
    assert (tmp_path / "study" / "runs" / "relu" / "seed-0" / "model.json").stat().st_mtime_ns == written
    result = json.loads((tmp_path / "study" / "study.json").read_text())
    assert [len(arm["runs"]) for arm in result["arms"]] == [2, 2]
    other = subprocess.run(
        command(tmp_path / "study", *arguments, "--set", "optim.lr=0.05"), capture_output=True, text=True, check=False
    )
    assert other.returncode == 2
    assert "holds a run with another recipe" in other.stderr
