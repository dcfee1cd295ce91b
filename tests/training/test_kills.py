"""Promise 2 at its hardest: one run with every kind of state, killed twenty times, ends with the same bits."""

import hashlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from making import make_photos

from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.training import resume, train

KILLS = 20
EPOCHS = 24
SETTINGS = [
    "model.name=resnet20",
    "model.dropout=0.2",
    "model.drop_path=0.2",
    "data.image_size=16",
    "data.resize=18",
    "data.num_workers=0",
    "augment=[{crop: {padding: 2}}, flip, mixup]",
    f"epochs={EPOCHS}",
    "batch_size=5",
    "optim.name=sgd",
    "optim.lr=0.05",
    "optim.schedule=one_cycle",
    "optim.accumulate=3",  # 5 batches an epoch: windows lie across epochs
    "optim.clip_norm=1",
    "train.ema_decay=0.9",
    "train.max_norm=3",
    "train.patience=1000",
    "train.min_gain=0.01",
    "train.watch_gradients=true",
    "train.checkpoint_minutes=0",  # after every update: many kills fall into the writing
]
LIMIT_SECONDS = 120
"""Within which a part of the run must come to the place where it is killed."""


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_bit(tmp_path: Path) -> None:
    data = make_photos(tmp_path / "photos")
    recipe = override(Recipe(), SETTINGS)
    whole, killed = train(recipe, data, out=tmp_path / "whole").path, tmp_path / "killed"

    server = multiprocessing.get_context("forkserver")  # imports once; each part of the run is a process all the same
    server.set_forkserver_preload(["sightline.training.job"])
    draws = random.Random(4)
    for kill in range(KILLS):
        epochs = (kill + draws.random()) * (EPOCHS - 4) / KILLS  # spread over all, each at a place of its own
        process = server.Process(target=go_on, args=(recipe, data, killed))
        process.start()
        until(process, lambda: epochs_done(killed) >= int(epochs))  # noqa: B023  # called at once
        time.sleep(draws.random() * 0.3)
        if kill % 3 == 2:  # some within the writing of a checkpoint: its unfinished file lies beside the last
            until(process, lambda: any((killed / "checkpoints").glob(".*.part")))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not (killed / "model.json").exists()
    resume(data, out=killed)

    for name in ("weights.safetensors", "gradients.csv"):
        assert digest(killed / name) == digest(whole / name), name
    assert timeless(killed) == timeless(whole)


def go_on(recipe: Recipe, data: Path, folder: Path) -> None:
    """Begin the run, or go on with it, in a process of its own that says nothing."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    torch.set_num_threads(1)
    if (folder / "recipe.yaml").exists():
        resume(data, out=folder)
    else:
        train(recipe, data, out=folder)


def until(process: BaseProcess, happened: Callable[[], bool]) -> None:
    """Wait for it, a fraction of a step at a time; the process must not end before."""
    latest = time.monotonic() + LIMIT_SECONDS
    while not happened():
        assert process.is_alive(), "the run ended before it could be killed"
        assert time.monotonic() < latest, "the run did not come so far in time"
        time.sleep(0.0005)


def epochs_done(folder: Path) -> int:
    """Rows of metrics.csv."""
    path = folder / "metrics.csv"
    return len(path.read_text().splitlines()) - 1 if path.exists() else -1


def timeless(folder: Path) -> list[list[str]]:
    """The columns of metrics.csv that don't tell time."""
    return [line.split(",")[:6] for line in (folder / "metrics.csv").read_text().splitlines()]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
