"""The scaling search: mixes, networks of the cost that was asked for, and a whole search on tiny images."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sightline.errors import RecipeError, SightlineError
from sightline.recipe import DataConfig, ModelConfig, OptimConfig, Recipe
from sightline.recipe_text import from_yaml, override
from sightline.tuning.contest import Candidate
from sightline.tuning.costs import Cost, costs, told
from sightline.tuning.scaling import ALONE, BASE, MIXES, PAPER, Mix, Scaling, built, network_of, scale

RECIPE = Recipe(
    epochs=1,
    batch_size=8,
    model=ModelConfig(name="resnet20"),
    data=DataConfig(image_size=32, resize=36, num_workers=0),
    optim=OptimConfig(name="sgd", lr=1e-2),
)


def macs(recipes: Sequence[Recipe]) -> list[float]:
    return costs(recipes, "macs", num_classes=3)


@pytest.mark.parametrize("mix", MIXES, ids=lambda mix: mix.name)
def test_a_mix_spends_the_whole_budget_and_no_more(mix: Mix) -> None:
    depth, width, resolution = mix.factors(3.0)
    assert depth * width**2 * resolution**2 == pytest.approx(3.0)


def test_the_paper_s_rule_at_its_own_cost_has_its_own_coefficients() -> None:
    assert PAPER.factors(1.2 * 1.1**2 * 1.15**2) == pytest.approx((1.2, 1.1, 1.15))


@pytest.fixture(scope="module")
def networks() -> tuple[float, list[Candidate]]:
    """The base's cost, and every mix at about twice that."""
    [unit] = macs([RECIPE])
    return unit, built(RECIPE, MIXES, unit, 2.0, macs, tries=3)


def test_every_network_has_nearly_the_cost_that_was_asked_for(networks: tuple[float, list[Candidate]]) -> None:
    unit, found = networks
    assert {"depth alone", "width alone", "resolution alone", PAPER.name} <= {each.name for each in found}
    assert macs([override(RECIPE, each.settings) for each in found]) == [each.cost for each in found]
    assert [each.cost / unit for each in found] == pytest.approx([2.0] * len(found), rel=0.15)


def test_no_two_networks_are_the_same(networks: tuple[float, list[Candidate]]) -> None:
    built_ones = [network_of(override(RECIPE, each.settings)) for each in networks[1]]
    assert len(built_ones) == len(set(built_ones))


def test_a_larger_image_keeps_the_share_of_it_that_is_seen() -> None:
    [unit] = macs([RECIPE])
    alone = next(mix for mix in ALONE if mix.resolution)
    [larger] = built(RECIPE, [alone], unit, 4.0, macs, tries=4)
    data = override(RECIPE, larger.settings).data
    assert data.image_size == 64
    assert data.preprocess().resize == 72


def test_sizes_are_those_that_the_architecture_takes() -> None:
    recipe = replace(RECIPE, model=ModelConfig(name="swin_t"), data=replace(RECIPE.data, image_size=224, resize=256))
    alone = next(mix for mix in ALONE if mix.resolution)
    [larger] = built(
        recipe, [alone], 1.0, 2.0, lambda each: [(one.data.image_size / 224) ** 2 for one in each], tries=2
    )
    assert override(recipe, larger.settings).data.image_size == 320


def test_a_mix_that_roundings_keep_from_its_cost_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    vit = replace(RECIPE, model=ModelConfig(name="vit_ti_16"))  # three heads, or four
    [unit] = macs([vit])
    with caplog.at_level("INFO", logger="sightline"):
        assert built(vit, [mix for mix in ALONE if mix.width], unit, 1.35, macs, tries=3) == []
    assert "width alone: no network of 1.35 times the cost" in caplog.text


@pytest.mark.slow
def test_latency_is_measured_for_each_network() -> None:
    small, large = costs([RECIPE, override(RECIPE, ["model.width=4"])], "latency", num_classes=3)
    assert 0 < small < large < math.inf


@pytest.mark.parametrize(("value", "cost", "words"), [(41.6e6, "macs", "41.6 M MACs"), (0.00321, "latency", "3.21 ms")])
def test_costs_are_told_in_their_unit(value: float, cost: Cost, words: str) -> None:
    assert told(value, cost) == words


@pytest.mark.parametrize(("field", "value"), [("budget", 1.0), ("step", 100.0), ("budget", math.nan)])
def test_a_factor_that_is_no_scaling_is_refused(field: str, value: float) -> None:
    with pytest.raises(RecipeError, match=f"--{field} must be 1.2x to 64x"):
        Scaling(recipe=RECIPE, **{field: value})  # pyright: ignore[reportArgumentType]


def test_a_recipe_that_is_scaled_already_is_refused(photos: Path, tmp_path: Path) -> None:
    scaled = override(RECIPE, ["model.width=2"])
    with pytest.raises(RecipeError, match=r"model\.width and model\.depth are what is searched"):
        scale(Scaling(recipe=scaled), photos, out=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_family_without_a_scale_is_refused_before_anything_is_trained(photos: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, model=ModelConfig(name="alexnet"), data=replace(RECIPE.data, image_size=224, resize=256))
    with pytest.raises(SightlineError, match="alexnet can't be made wider or deeper"):
        scale(Scaling(recipe=recipe), photos, out=tmp_path / "s")


@pytest.mark.slow
def test_a_search_ends_in_a_recipe_and_goes_on_where_it_was(photos: Path, tmp_path: Path) -> None:
    plan = Scaling(recipe=RECIPE, confirm=2)
    result = scale(plan, photos, out=tmp_path / "s")
    again = scale(plan, photos, out=tmp_path / "s")
    assert again == result
    assert json.loads((tmp_path / "s" / "scale.json").read_text()) == json.loads(json.dumps(result))
    names = [row["candidate"]["name"] for row in result["confirmed"]["contestants"]]
    assert names[0] == result["best"]["name"]
    assert names[-1] == BASE
    assert {"depth alone", "width alone", PAPER.name} <= set(names)
    best = from_yaml((tmp_path / "s" / "best.yaml").read_text())
    assert best == override(plan.recipe, result["best"]["settings"])
    assert set(result["search"]["seeds"]).isdisjoint(result["confirmed"]["seeds"])
    with pytest.raises(SightlineError, match="holds a search with another budget"):
        scale(replace(plan, budget=3.0), photos, out=tmp_path / "s")
