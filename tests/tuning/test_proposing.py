"""What a search proposes, on a made-up figure that takes no training."""

import math
from dataclasses import replace

import optuna
import pytest

from sightline.recipe import ModelConfig, Recipe
from sightline.tuning.importance import importance_of
from sightline.tuning.proposing import SHORT, learns_from_all, pruner_of, sampler_of
from sightline.tuning.searches import Sampler, Search
from sightline.tuning.space import space_of

RECIPE = Recipe(model=ModelConfig(name="resnet20"), epochs=30)
SEARCH = Search(recipe=RECIPE, space=space_of(["optim.lr=log:1e-4..1 batch_size=32,64,128"], RECIPE))


def figure(trial: optuna.Trial) -> float:
    """Best at 0.01 and batches of 32; the third setting does nothing."""
    rate = trial.suggest_float("rate", 1e-4, 1, log=True)
    size = trial.suggest_categorical("size", [32, 64, 128])
    trial.suggest_float("nothing", 0, 1)
    return 0.9 - 0.1 * (math.log10(rate) + 2) ** 2 - 0.001 * size


def best_of(sampler: Sampler, *, trials: int, seed: int) -> float:
    search = replace(SEARCH, sampler=sampler, recipe=replace(RECIPE, seed=seed))
    study = optuna.create_study(direction="maximize")
    for number in range(trials):
        study.sampler = sampler_of(optuna, search, number)
        trial = study.ask()
        study.tell(trial, figure(trial))
    return study.best_value


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_gaussian_process_finds_in_few_trials_what_chance_does_not() -> None:
    found = [best_of("gp", trials=14, seed=seed) for seed in range(3)]
    by_chance = [best_of("random", trials=14, seed=seed) for seed in range(3)]
    assert min(found) > 0.865  # 0.868 is the best there is
    assert sum(found) > sum(by_chance)


@pytest.mark.parametrize("sampler", ["gp", "tpe", "random"])
def test_a_trial_proposed_again_is_the_same(sampler: Sampler) -> None:
    assert best_of(sampler, trials=7, seed=1) == best_of(sampler, trials=7, seed=1)


def test_no_trial_of_a_short_run_is_ended_early() -> None:
    short = replace(SEARCH, recipe=replace(RECIPE, epochs=SHORT - 1))
    assert isinstance(pruner_of(optuna, short), optuna.pruners.NopPruner)
    assert isinstance(pruner_of(optuna, SEARCH), optuna.pruners.SuccessiveHalvingPruner)
    assert isinstance(pruner_of(optuna, replace(SEARCH, prune=False)), optuna.pruners.NopPruner)
    assert isinstance(pruner_of(optuna, replace(SEARCH, against="macs")), optuna.pruners.NopPruner)


def test_a_gaussian_process_is_told_of_trials_without_an_end() -> None:
    assert learns_from_all(SEARCH)
    assert not learns_from_all(replace(SEARCH, sampler="tpe"))
    assert not learns_from_all(replace(SEARCH, against="macs"))


def test_what_decided_is_important_and_what_did_nothing_is_not() -> None:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(figure, n_trials=40)
    shares = importance_of(optuna, study.trials, 3)
    assert shares["rate"] > 0.8
    assert shares["nothing"] < 0.1
    assert sum(shares.values()) == pytest.approx(1)


def test_nothing_is_said_of_few_trials_or_one_setting() -> None:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(figure, n_trials=3)
    assert importance_of(optuna, study.trials, 3) == {}
    study.optimize(figure, n_trials=10)
    assert importance_of(optuna, study.trials, 1) == {}
