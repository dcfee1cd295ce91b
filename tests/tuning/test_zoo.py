"""Choosing among networks within a budget."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import ModelError, RecipeError, SightlineError
from sightline.recipe import DataConfig, ModelConfig, OptimConfig, Recipe
from sightline.recipe_text import from_yaml
from sightline.reports.scaling import render_scaling, sentences
from sightline.studies import Arm
from sightline.tuning import contest, zoo
from sightline.tuning.contest import Candidate, Contest, Contestant
from sightline.tuning.results import ArmFigures, RunFigures
from sightline.tuning.zoo import Choice, choose

RECIPE = Recipe(
    epochs=1,
    batch_size=8,
    model=ModelConfig(name="resnet20"),
    data=DataConfig(image_size=16, resize=16, num_workers=0),
    optim=OptimConfig(name="sgd", lr=1e-2),
)


def choice(*names: str, budget: float = 20e6) -> Choice:
    return Choice(recipe=RECIPE, names=names, budget=budget, cost="macs", confirm=2)


def test_a_network_named_twice_is_refused() -> None:
    with pytest.raises(RecipeError, match="names resnet20 twice"):
        choice("resnet20", "resnet32", "resnet20")


def test_one_network_is_no_choice() -> None:
    with pytest.raises(RecipeError, match="two networks at least"):
        choice("resnet20")


def test_an_unknown_network_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ModelError, match="Did you mean 'resnet32'"):
        choice("resnet2O", "resnet32")


def test_a_budget_that_nothing_meets_says_what_would(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"Fewer than two .+ cheapest are resnet20 \(10\.1 M MACs\) and resnet32"):
        choose(choice("resnet32", "resnet20", "resnet56", budget=1e6), photos, out=tmp_path / "z")


def run(seed: int, val: float) -> RunFigures:
    return RunFigures(seed=seed, val=val, train=1.0, seconds=1.0, images_per_second=1.0, memory=1, curve=[])


class Trainings:
    """Stands for the contests: remembers who took part, and trains none of those that `fail`."""

    def __init__(self, *fail: str) -> None:
        self.fail = fail
        self.held: list[list[Candidate]] = []

    def hold(self, candidates: Sequence[Candidate], recipe: Recipe, *_: Any, repeats: int, **__: Any) -> Contest:
        self.held.append(list(candidates))
        seeds = range(recipe.seed, recipe.seed + repeats)
        found = [
            ArmFigures(
                arm=Arm(labels=(each.name,), settings=each.settings),
                runs=[] if each.name in self.fail else [run(seed, 0.5) for seed in seeds],
                failures=["seed 0: no memory"] if each.name in self.fail else [],
                difference=None,
            )
            for each in candidates
        ]
        contestants = [Contestant(candidate=each, found=arm) for each, arm in zip(candidates, found, strict=True)]
        return Contest(figure="accuracy", seeds=tuple(seeds), contestants=contestants)


def test_where_one_network_alone_could_be_trained_there_is_a_report_and_no_confirmation(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trainings = Trainings("resnet32")
    monkeypatch.setattr(contest, "hold", trainings.hold)
    with caplog.at_level("INFO", logger="sightline"):
        result = choose(choice("resnet20", "resnet32"), photos, out=tmp_path / "z")
    assert len(trainings.held) == 1
    assert result["confirmed"] is None
    assert "No network but resnet20 could be trained" in caplog.text
    first, *_ = sentences(result)
    assert first == "Of those within 20.0 M MACs none but resnet20 could be trained: nothing was chosen."
    assert "no memory" in render_scaling(result)
    assert (tmp_path / "z" / "scale.json").exists()


def test_times_are_kept_so_that_the_same_call_goes_on_with_the_same_networks(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = Trainings()
    clock: Iterator[float] = iter([0.003, 0.004, 0.006, 0.1])
    monkeypatch.setattr(contest, "hold", trainings.hold)
    monkeypatch.setattr(zoo, "costs", lambda recipes, *_, **__: [next(clock) for _ in recipes])
    plan = replace(choice("resnet20", "resnet32", "resnet44"), budget=0.005, cost="latency", confirm=0)
    choose(plan, photos, out=tmp_path / "z")
    choose(plan, photos, out=tmp_path / "z")
    choose(replace(plan, names=("resnet56", *plan.names)), photos, out=tmp_path / "z")
    first, *others = trainings.held
    assert [each.cost for each in first] == [0.003, 0.004]
    assert others == [first, first]
    assert next(clock, None) is None


@pytest.mark.parametrize("change", [{"engine": "onnx"}, {"cost": "macs"}])
def test_costs_that_were_counted_otherwise_are_refused(
    change: dict[str, Any], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contest, "hold", Trainings().hold)
    monkeypatch.setattr(zoo, "costs", lambda recipes, *_, **__: [0.001 for _ in recipes])
    plan = replace(choice("resnet20", "resnet32"), cost="latency", confirm=0)
    choose(plan, photos, out=tmp_path / "z")
    with pytest.raises(SightlineError, match="holds a search with another (engine|cost)"):
        choose(replace(plan, **change), photos, out=tmp_path / "z")


@pytest.mark.slow
def test_networks_over_the_budget_are_left_out_and_the_best_is_a_recipe(photos: Path, tmp_path: Path) -> None:
    result = choose(choice("resnet20", "resnet32", "resnet56"), photos, out=tmp_path / "z")
    assert [row["candidate"]["name"] for row in result["search"]["contestants"]] == ["resnet20", "resnet32"]
    assert [each["name"] for each in result["left_out"]] == ["resnet56"]
    best, second = result["confirmed"]["contestants"]
    assert best["candidate"]["name"] == result["best"]["name"] != second["candidate"]["name"]
    assert second["difference"] is not None
    assert from_yaml((tmp_path / "z" / "best.yaml").read_text()).model.name == result["best"]["name"]
