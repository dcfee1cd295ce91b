"""The contract of every schedule, and the same figures as torch's own where it has one."""

import itertools
import math
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch.optim import lr_scheduler

from sightline.errors import RecipeError
from sightline.recipe import OptimConfig, Recipe
from sightline.recipe.optim import Schedule
from sightline.recipe_text import override
from sightline.training.schedules import learning_rate, momentum

NAMES = get_args(Schedule)
NEEDED: dict[str, dict[str, Any]] = {"step": {"step_epochs": 3}, "multistep": {"milestones": (3.0, 7.0)}}
LOSSES = [1.0, 0.8, 0.9, 0.85, 0.8, 0.7, 0.9, 0.9, 0.9, 0.9, 0.6]
every_schedule = pytest.mark.parametrize("name", NAMES)


def config(schedule: Any, **settings: Any) -> OptimConfig:
    return OptimConfig(**{"schedule": schedule, "lr": 0.4} | NEEDED.get(schedule, {}) | settings)


def rates(optim: OptimConfig, updates: int = 100, per_epoch: float = 10) -> list[float]:
    """Ten epochs of ten updates; after each comes a look at the validation split."""
    return [
        learning_rate(optim, update, updates, per_epoch, LOSSES[: int(update / per_epoch)]) for update in range(updates)
    ]


@every_schedule
@pytest.mark.parametrize("warmup", [0.0, 2.0])
def test_rates_are_finite_and_never_negative_and_peak_at_lr(name: str, warmup: float) -> None:
    values = rates(config(name, warmup_epochs=warmup))
    assert all(math.isfinite(value) and value >= 0 for value in values)
    assert max(values) == pytest.approx(0.4, rel=1e-2 if name == "one_cycle" else 1e-9)


@every_schedule
def test_the_warm_up_climbs_in_equal_steps_to_where_the_schedule_begins(name: str) -> None:
    values = rates(config(name, warmup_epochs=2))
    steps = [b - a for a, b in itertools.pairwise([0.0, *values[:21]])]
    beginning = 0.4 / 25 if name == "one_cycle" else 0.4
    assert steps == pytest.approx([beginning / 21] * 21)


@every_schedule
@pytest.mark.parametrize("updates", [1, 2, 3])
def test_a_run_of_a_few_updates_has_rates_too(name: str, updates: int) -> None:
    values = rates(config(name), updates=updates, per_epoch=updates)
    assert len(values) == updates
    assert all(math.isfinite(value) and 0 <= value <= 0.4 for value in values)


@every_schedule
def test_accumulation_that_does_not_divide_the_epoch_leaves_finite_rates(name: str) -> None:
    values = rates(config(name, warmup_epochs=1), updates=34, per_epoch=10 / 3)
    assert all(math.isfinite(value) and 0 < value <= 0.4 for value in values)


TORCH: dict[str, tuple[dict[str, Any], Callable[[torch.optim.Optimizer], Any]]] = {
    "constant": ({"schedule": "constant"}, lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
    "step": (
        {"schedule": "step", "step_epochs": 3, "factor": 0.5},
        lambda o: lr_scheduler.StepLR(o, step_size=30, gamma=0.5),
    ),
    "multistep": (
        {"schedule": "multistep", "milestones": (2.5, 7.0)},
        lambda o: lr_scheduler.MultiStepLR(o, milestones=[25, 70], gamma=0.1),
    ),
    "exponential": (
        {"schedule": "exponential", "end_factor": 0.02},
        lambda o: lr_scheduler.ExponentialLR(o, gamma=0.02**0.01),
    ),
    "polynomial": (
        {"schedule": "polynomial", "power": 2.0},
        lambda o: lr_scheduler.PolynomialLR(o, total_iters=100, power=2.0),
    ),
    "linear to an end": (
        {"schedule": "polynomial", "end_factor": 0.25},
        lambda o: lr_scheduler.LinearLR(o, start_factor=1.0, end_factor=0.25, total_iters=100),
    ),
    "cosine": ({"schedule": "cosine"}, lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=100)),
    "cosine to an end": (
        {"schedule": "cosine", "end_factor": 0.1},
        lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=100, eta_min=0.04),
    ),
    "restarts": (
        {"schedule": "cosine", "cycles": 4},
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=25),
    ),
    "one_cycle": (
        {"schedule": "one_cycle"},
        lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.4, total_steps=100, cycle_momentum=False),
    ),
    "one_cycle that rises for longer": (
        {"schedule": "one_cycle", "rise": 0.45, "end_factor": 1 / 25 / 10},
        lambda o: lr_scheduler.OneCycleLR(
            o, max_lr=0.4, total_steps=100, pct_start=0.45, final_div_factor=10, cycle_momentum=False
        ),
    ),
}


@pytest.mark.parametrize("case", TORCH)
def test_rates_are_those_of_torch_s_scheduler(case: str) -> None:
    settings, scheduler = TORCH[case]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    reference = scheduler(optimizer)
    expected: list[float] = []
    for _ in range(100):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert rates(OptimConfig(lr=0.4, **settings)) == pytest.approx(expected, abs=1e-12)


def test_cycles_that_grow_are_torch_s() -> None:
    """Of 10, 20 and 40 updates."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    reference = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=10, T_mult=2)
    expected: list[float] = []
    for _ in range(70):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert rates(config("cosine", cycles=3, cycle_growth=2), updates=70) == pytest.approx(expected)


def test_each_cosine_cycle_begins_at_the_peak_where_cycles_divide_nothing() -> None:
    values = rates(config("cosine", cycles=7), updates=100)
    assert values.count(0.4) == 7


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_plateau_steps_where_torch_s_does(patience: int) -> None:
    """Torch counts the looks it tolerates, this the one at which it acts."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    reference = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=patience - 1, threshold=0, min_lr=0.02)
    expected: list[float] = []
    for loss in LOSSES:
        expected.append(optimizer.param_groups[0]["lr"])
        reference.step(loss)
    optim = config("plateau", factor=0.3, patience=patience, end_factor=0.05)
    found = [learning_rate(optim, 10 * epoch, 110, 10, LOSSES[:epoch]) for epoch in range(11)]
    assert found == pytest.approx(expected)
    assert len(set(found)) > 1


def test_one_cycle_moves_momentum_as_torch_does() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4, momentum=0.95)
    reference = lr_scheduler.OneCycleLR(optimizer, max_lr=0.4, total_steps=100)  # from 0.95 to 0.85 and back
    expected: list[float] = []
    for _ in range(100):
        expected.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        reference.step()
    optim = config("one_cycle", name="sgd", momentum=0.95, low_momentum=0.85)
    found = [momentum(optim, optim.highest_momentum, update, 100, 10) for update in range(100)]
    assert found == pytest.approx(expected)


def test_the_inverse_square_root_is_the_transformer_s() -> None:
    """Equation 3 of Attention Is All You Need, with steps from 1 and the peak scaled to lr."""
    warmup = 20
    peak = 0.4 * math.sqrt(warmup + 1)
    expected = [peak * min((step + 1) ** -0.5, (step + 1) * (warmup + 1) ** -1.5) for step in range(100)]
    assert rates(config("inverse_sqrt", warmup_epochs=2)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["optim.power=2"], "optim.power is for optim.schedule 'polynomial'; optim.schedule is 'cosine'"),
        (
            ["optim.schedule=constant", "optim.end_factor=0.1"],
            "optim.end_factor is for optim.schedule 'exponential' or",
        ),
        (["optim.schedule=plateau", "optim.cycles=2"], "optim.cycles is for optim.schedule 'cosine'"),
        (["optim.milestones=[3]"], "optim.milestones is for optim.schedule 'multistep'"),
        (["optim.step_epochs=3"], "optim.step_epochs is for optim.schedule 'step'"),
        (["optim.factor=0.3"], "optim.factor is for optim.schedule 'step' or 'multistep' or 'plateau'"),
        (["optim.patience=3"], "optim.patience is for optim.schedule 'plateau'"),
        (["optim.rise=0.3"], "optim.rise is for optim.schedule 'one_cycle'"),
        (["optim.low_momentum=0.8"], "optim.low_momentum is for optim.schedule 'one_cycle'"),
        (["optim.cycle_growth=2"], "optim.cycle_growth needs optim.cycles greater than 1"),
        (["optim.schedule=step"], "optim.schedule 'step' needs optim.step_epochs"),
        (["optim.schedule=multistep"], "optim.schedule 'multistep' needs optim.milestones"),
        (["optim.schedule=multistep", "optim.milestones=[5,3]"], "optim.milestones must rise, got [5.0, 3.0]"),
        (["optim.schedule=multistep", "optim.milestones=[30]"], "Each of optim.milestones must be more than"),
        (["optim.schedule=step", "optim.step_epochs=20"], "optim.step_epochs (20.0) must be more than"),
        (["optim.schedule=exponential", "optim.end_factor=0"], "optim.end_factor must be at least 1e-12"),
        (["optim.schedule=one_cycle", "optim.low_momentum=0.95"], "optim.low_momentum (0.95) must be less than"),
        (["optim.schedule=one_cycle", "optim.name=adagrad", "optim.low_momentum=0.5"], "optim.low_momentum (0.5) must"),
        (
            ["optim.name=schedulefree_adamw", "optim.schedule=cosine"],
            "optim.name 'schedulefree_adamw' averages weights",
        ),
    ],
)
def test_a_setting_the_schedule_would_ignore_is_refused_by_name(settings: list[str], sentence: str) -> None:
    with pytest.raises(RecipeError) as error:
        override(Recipe(), settings)
    assert str(error.value).startswith(sentence)


def test_null_is_cosine_but_for_schedule_free() -> None:
    assert OptimConfig().course == "cosine"
    assert OptimConfig(name="schedulefree_adamw").course == "constant"
