import pytest
import torch

from sightline import catalog
from sightline.errors import RecipeError
from sightline.recipe import Recipe
from sightline.studies import Factor, Level, Study, find_study
from sightline.training.job import check_job

NAMES = catalog.names("sightline.studies")


def factor(*values: str, name: str = "optim.lr") -> Factor:
    return Factor(name=name, levels=tuple(Level(label=value, settings=(f"{name}={value}",)) for value in values))


@pytest.mark.parametrize("name", NAMES)
def test_every_arm_is_a_recipe_that_can_be_trained(name: str) -> None:
    study = find_study(name)
    for arm in study.arms:
        with torch.device("meta"):
            check_job(study.recipe_of(arm, seed=0))


@pytest.mark.parametrize("name", NAMES)
def test_arms_differ_and_are_repeated_at_least_three_times(name: str) -> None:
    study = find_study(name)
    recipes = [study.recipe_of(arm, seed=0) for arm in study.arms]
    assert len(set(map(repr, recipes))) == len(recipes)
    assert study.repeats >= 3
    assert study.question.endswith("?")


def test_two_factors_are_crossed_and_the_first_of_each_is_the_baseline() -> None:
    study = Study(question="?", recipe=Recipe(), factors=(factor("0.1", "0.2"), factor("4", "8", name="batch_size")))
    assert [arm.name for arm in study.arms] == ["0.1 · 4", "0.1 · 8", "0.2 · 4", "0.2 · 8"]


def test_each_arm_has_the_same_seeds() -> None:
    study = Study(question="?", recipe=Recipe(seed=5), factors=(factor("0.1", "0.2"),), repeats=2)
    assert study.seeds == (5, 6)
    assert [study.recipe_of(arm, 6).seed for arm in study.arms] == [6, 6]


def test_an_arm_that_is_no_valid_recipe_is_named() -> None:
    study = Study(question="?", recipe=Recipe(), factors=(factor("0.1", "-1"),))
    with pytest.raises(RecipeError, match=r"The arm '-1' is no valid recipe: optim\.lr must be greater than 0"):
        study.recipe_of(study.arms[1], seed=0)


@pytest.mark.parametrize(
    ("factors", "sentence"),
    [
        ((), "one factor or two, got 0"),
        ((factor("0.1"),), "it was given 1"),
        ((factor("0.1", "0.1"),), "names '0.1' twice"),
    ],
)
def test_a_study_that_compares_nothing_is_refused(factors: tuple[Factor, ...], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        Study(question="?", recipe=Recipe(), factors=factors)


def test_an_unknown_study_is_refused_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'depth'"):
        find_study("dept")
