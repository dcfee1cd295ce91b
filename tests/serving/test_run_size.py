"""The size of a run is the one at which an image costs the least."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from making import make_folder
from numpy.typing import NDArray

from sightline.serving.limits import Settings
from sightline.serving.metrics import Metrics
from sightline.serving.run_size import clock_of_runs, fastest_run
from sightline.serving.served import Served


class Machine:
    """Takes as long for a run as it is told, on a clock of its own."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        self.now, self.seconds, self.sizes = 0.0, seconds, list[int]()

    def run(self, pixels: NDArray[np.uint8]) -> None:
        self.sizes.append(len(pixels))
        self.now += self.seconds(len(pixels))

    def best(self, most: int, seconds: float = 1.0) -> int:
        size, took = fastest_run(self.run, 4, most, seconds=seconds, clock=lambda: self.now)
        assert took == pytest.approx(self.seconds(size))
        return size


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        (lambda size: 0.1 * size, 1),
        (lambda size: 0.1 * size + 0.4, 16),
        (lambda size: 0.1 * size * (0.8 if size in (4, 8) else 1.0), 4),
        (lambda size: 0.1 * size * (1 - 0.0005 * size), 1),
        (lambda size: 0.0005 * size, 16),
    ],
    ids=["no gain", "a cost for each run", "the cache holds four", "gains too small to wait for", "handing over"],
)
def test_the_size_is_the_one_at_which_an_image_costs_the_least(seconds: Callable[[int], float], best: int) -> None:
    assert Machine(seconds).best(16, seconds=100.0) == best


def test_no_run_is_larger_than_allowed() -> None:
    machine = Machine(lambda _: 0.001)
    assert machine.best(6) == 4
    assert max(machine.sizes) == 4
    assert Machine(lambda _: 0.001).best(1) == 1


def test_a_slow_model_is_not_tried_for_long() -> None:
    machine = Machine(lambda size: 0.2 * size)
    assert machine.best(64) == 1
    assert machine.now < 2.5


def test_a_size_that_takes_long_is_tried_fewer_times_before_it_is_left_out() -> None:
    machine = Machine(lambda size: 0.1 * size + 0.1)
    assert machine.best(64, seconds=5.0) == 4
    assert [machine.sizes.count(size) for size in (1, 2, 4, 8)] == [6, 6, 3, 0]


def test_a_served_folder_gives_an_image_the_same_bits_in_runs_of_any_size(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    predictor, _, size, _ = Served(Settings(models=(str(folder.path),), device="cpu"), Metrics())._open(folder.path)
    images = np.random.default_rng(0).integers(0, 256, (16, 3, 16, 16), dtype=np.uint8)
    together = predictor.probabilities(images)
    assert 1 <= size <= 16
    for count in (1, 2, 5):
        assert np.array_equal(predictor.probabilities(images[:count]), together[:count])


def test_others_on_the_same_core_do_not_lengthen_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.serving.run_size.cores", lambda: 1)
    clock = clock_of_runs("cpu")
    begun = clock()
    time.sleep(0.2)
    assert clock() - begun < 0.1
    monkeypatch.setattr("sightline.serving.run_size.cores", lambda: 2)
    assert clock_of_runs("cpu") is time.perf_counter


def test_what_another_device_computes_is_timed_on_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.serving.run_size.cores", lambda: 1)
    monkeypatch.setattr("sightline.serving.run_size.pick_device", torch.device)
    assert clock_of_runs("cpu") is time.process_time
    assert clock_of_runs("cuda") is time.perf_counter
