"""Choosing among networks within a budget."""

from pathlib import Path

import pytest

from sightline.errors import ModelError, RecipeError
from sightline.recipe import DataConfig, ModelConfig, OptimConfig, Recipe
from sightline.recipe_text import from_yaml
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


@pytest.mark.slow
def test_networks_over_the_budget_are_left_out_and_the_best_is_a_recipe(photos: Path, tmp_path: Path) -> None:
    result = choose(choice("resnet20", "resnet32", "resnet56"), photos, out=tmp_path / "z")
    assert [row["candidate"]["name"] for row in result["search"]["contestants"]] == ["resnet20", "resnet32"]
    assert [each["name"] for each in result["left_out"]] == ["resnet56"]
    best, second = result["confirmed"]["contestants"]
    assert best["candidate"]["name"] == result["best"]["name"] != second["candidate"]["name"]
    assert second["difference"] is not None
    assert from_yaml((tmp_path / "z" / "best.yaml").read_text()).model.name == result["best"]["name"]
