import json
import math
import pkgutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from making import make_folder

from sightline.augmentations import Batch
from sightline.data.prepare import prepare
from sightline.errors import RecipeError, SightlineError
from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.training import find_batch
from sightline.training.find_batch import find_batch_size, largest_that_fits, smallest_near_best
from sightline.training.find_rate import RateRange, find_learning_rate, steepest
from sightline.training.task import ClassificationTask

RECIPE = override(
    Recipe(),
    ["model.name=resnet20", "data.image_size=16", "data.resize=18", "data.num_workers=0", "batch_size=8"],
)


def test_the_suggestion_is_where_the_loss_falls_fastest_per_decade() -> None:
    """A fall centred on 1e-3, then a rise from 1 on."""
    rates = np.logspace(-6, 1, 71)
    losses = 2 - np.tanh(2 * (np.log10(rates) + 3)) + np.where(rates > 1, rates, 0)
    assert steepest(rates.tolist(), losses.tolist()) == pytest.approx(1e-3)


@pytest.mark.parametrize("losses", [[1.0] * 40, [1 + 0.1 * n for n in range(40)]])
def test_there_is_no_suggestion_where_the_loss_never_falls(losses: list[float]) -> None:
    assert steepest(np.logspace(-6, 1, 40).tolist(), losses) is None


def test_the_range_test_sees_training_images_alone_and_repeats(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    original: Callable[..., torch.Tensor] = ClassificationTask.training_step

    def recording(self: ClassificationTask, batch: Batch, batch_idx: int) -> torch.Tensor:
        seen.update(batch.samples.tolist())
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ClassificationTask, "training_step", recording)
    first = find_learning_rate(RECIPE, photos, updates=20)
    assert seen == set(prepare(photos, RECIPE.data, RECIPE.seed).splits.train.tolist())
    assert find_learning_rate(RECIPE, photos, updates=20) == first
    assert first.rates[0] == 1e-6
    steps = [b / a for a, b in zip(first.rates, first.rates[1:], strict=False)]
    assert steps == pytest.approx([1e7 ** (1 / 19)] * len(steps))
    assert all(math.isfinite(loss) for loss in first.losses)
    assert first.smoothed[0] == pytest.approx(first.losses[0])


@pytest.mark.parametrize(
    ("setting", "calls"),
    [
        ("train.fake_quantize=true", "torch.fake_quantize_per_channel_affine"),
        ("distill.teacher={}", "sightline.training.teacher.Teacher.mixed"),
        ("train.checkpoint_activations=true", "sightline.checkpointing.checkpoint"),
    ],
)
@pytest.mark.parametrize("find", [partial(find_learning_rate, updates=20), find_batch_size])
def test_what_a_step_would_do_is_done_when_it_is_tried(
    find: Callable[[Recipe, Path], object],
    setting: str,
    calls: str,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is measured, and fits, is what would train."""
    recipe = override(RECIPE, [setting.format(make_folder(tmp_path / "teacher").path)])
    done = 0
    original: Callable[..., object] = pkgutil.resolve_name(calls)

    def counting(*args: Any, **kwargs: Any) -> object:
        nonlocal done
        done += 1
        return original(*args, **kwargs)

    monkeypatch.setattr(calls, counting)
    find(recipe, photos)
    assert done > 0


@pytest.mark.parametrize("setting", ["train.max_norm=0.2", "train.fake_quantize=true", "distill.teacher={}"])
def test_the_range_test_trains_as_the_recipe_does(setting: str, photos: Path, tmp_path: Path) -> None:
    teacher = make_folder(tmp_path / "teacher").path
    plain = find_learning_rate(RECIPE, photos, lowest=1e-3, updates=20)
    changed = find_learning_rate(override(RECIPE, [setting.format(teacher)]), photos, lowest=1e-3, updates=20)
    assert changed.losses[-1] != plain.losses[-1]


def test_the_range_test_stops_where_the_loss_diverges(photos: Path) -> None:
    recipe = override(RECIPE, ["optim.name=sgd", "model.norm=none"])
    found = find_learning_rate(recipe, photos, lowest=1e-3, highest=1e6, updates=30)
    assert found.diverged
    assert len(found.rates) == len(found.losses) < 30


def test_a_first_loss_that_is_no_number_is_one_sentence(photos: Path) -> None:
    recipe = override(RECIPE, ["data.std=[1e-39,1e-39,1e-39]"])
    with pytest.raises(
        SightlineError, match=r"The training loss became nan in epoch 1\. Mend data\.mean and data\.std"
    ):
        find_learning_rate(recipe, photos, updates=20)


def test_the_plot_and_the_figures_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    found = RateRange(
        rates=[0.1, 0.2, 0.3], losses=[3.0, 2.0, 2.5], smoothed=[3.0, 2.5, 2.5], diverged=False, suggestion=0.2
    )
    found.write(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["learning-rate.json", "learning-rate.png"]
    assert json.loads((tmp_path / "out" / "learning-rate.json").read_text())["suggestion"] == 0.2
    assert (tmp_path / "out" / "learning-rate.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SightlineError, match="Could not write"):
        found.write(tmp_path / "file")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"lowest": 1.0, "highest": 0.1}, "The lowest rate"),
        ({"highest": math.inf}, r"less than the highest \(inf\), which must be finite"),
        ({"lowest": math.nan}, "The lowest rate"),
        ({"lowest": 1e-300, "highest": 1e300}, "The lowest rate"),
        ({"updates": 5}, "at least 20 updates"),
    ],
)
def test_a_range_that_makes_no_test_is_refused(settings: dict[str, float], sentence: str, photos: Path) -> None:
    with pytest.raises(RecipeError, match=sentence):
        find_learning_rate(RECIPE, photos, **settings)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("find", [find_learning_rate, find_batch_size])
def test_for_a_probe_there_is_nothing_to_find(find: Callable[[Recipe, Path], Any], photos: Path) -> None:
    probe = override(RECIPE, ["finetune.probe=true", "model.pretrained=weights.safetensors"])
    with pytest.raises(RecipeError, match="fits the head without training steps.*Set finetune.probe=false"):
        find(probe, photos)


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 16, 31, 33, 100, 999, 1000, 5000])
def test_the_largest_batch_is_found_by_doubling_and_halving(limit: int) -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= limit

    if limit < 2:
        with pytest.raises(SightlineError, match="Not even the smallest batch"):
            largest_that_fits(fits, most=1000)
        return
    found = largest_that_fits(fits, most=1000)
    assert found <= limit
    assert found >= min(limit, 1000) * 15 / 16 - 1
    assert len(tried) <= 15


def test_the_smallest_batch_near_the_best_throughput_is_suggested() -> None:
    assert smallest_near_best({2: 40, 4: 80, 8: 96, 16: 100, 32: 99}) == 8


def test_on_a_cpu_throughput_is_measured_up_to_the_training_images(photos: Path) -> None:
    found = find_batch_size(override(RECIPE, ["train.device=cpu"]), photos)
    assert list(found.images_per_second) == [2, 4, 8, 16, 24]
    assert found.suggestion in found.images_per_second
    assert "within 5% of the best throughput on this cpu" in found.reason


def test_no_batch_is_tried_that_exceeds_the_target(photos: Path) -> None:
    found = find_batch_size(override(RECIPE, ["train.device=cpu", "optim.target_batch=8"]), photos)
    assert max(found.images_per_second) == 8


@pytest.mark.parametrize(("limit", "tried"), [(8, [2, 4, 8]), (0, [])])
def test_a_batch_that_a_cpu_has_no_memory_for_is_left_out(
    limit: int, tried: list[int], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(self: object, batch_size: int) -> float:
        if batch_size > limit:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return 0.1

    monkeypatch.setattr(find_batch._Steps, "_step", step)
    recipe = override(RECIPE, ["train.device=cpu"])
    if tried:
        assert list(find_batch_size(recipe, photos).images_per_second) == tried
        return
    with pytest.raises(SightlineError, match="Not even a batch of 2 fits"):
        find_batch_size(recipe, photos)


def test_batches_hold_each_image_as_often_as_the_recipe_says(photos: Path) -> None:
    recipe = override(RECIPE, ["train.device=cpu", "augment=[flip]", "batch_size=6", "data.repeats=3"])
    found = find_batch_size(recipe, photos)
    assert list(found.images_per_second) == [6, 12, 24]
    override(recipe, [f"batch_size={found.suggestion}"])
