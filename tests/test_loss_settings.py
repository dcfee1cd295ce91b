import pytest

from sightline.errors import RecipeError
from sightline.recipe import Recipe
from sightline.recipe_text import from_yaml, override, to_yaml


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["loss.focal_gamma=1"], r"loss\.focal_gamma is the focal loss's"),
        (["loss.name=binary", "loss.focal_gamma=1"], r"loss\.focal_gamma is the focal loss's"),
        (["loss.name=focal", "loss.label_smoothing=0.1"], r"loss\.label_smoothing asks for doubt"),
        (["loss.effective_beta=0.9"], r"loss\.effective_beta belongs to"),
        (["loss.class_weights={cat: 0}"], r"loss\.class_weights\.cat must be greater than 0"),
        (["loss.class_weights={}"], r"loss\.class_weights names no class"),
        (["loss.name=cross_entropy", "data.label_separator=;"], r"loss\.name 'cross_entropy' takes one label"),
        (["data.sampling=balanced", "data.label_separator=;"], r"data\.sampling 'balanced' needs one label"),
        (["data.label_separator=''"], r"data\.label_separator must have a character"),
    ],
)
def test_settings_that_would_be_ignored_or_contradict_are_refused_by_name(settings: list[str], named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        override(Recipe(), settings)


def test_class_weights_by_name_survive_yaml_and_can_be_changed_one_by_one_or_whole() -> None:
    recipe = override(Recipe(), ["loss.class_weights={cat: 2, dog: 0.5}"])
    assert from_yaml(to_yaml(recipe)) == recipe
    assert override(recipe, ["loss.class_weights.cat=3"]).loss.class_weights == {"cat": 3.0, "dog": 0.5}
    assert override(recipe, ["loss.class_weights=balanced"]).loss.class_weights == "balanced"


def test_a_whole_section_is_still_no_setting() -> None:
    with pytest.raises(RecipeError, match="loss holds several settings"):
        override(Recipe(), ["loss=1"])
