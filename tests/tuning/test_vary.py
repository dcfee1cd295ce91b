import pytest

from sightline.errors import RecipeError
from sightline.studies import Level
from sightline.tuning.vary import factor_of, factor_of_arms


def test_each_value_is_a_level_that_sets_it() -> None:
    factor = factor_of("optim.name=sgd,adamw")
    assert factor.name == "optim.name"
    assert factor.levels == (
        Level(label="sgd", settings=("optim.name=sgd",)),
        Level(label="adamw", settings=("optim.name=adamw",)),
    )


def test_the_end_of_a_name_is_enough_where_one_setting_alone_ends_so() -> None:
    assert factor_of("activation=relu,gelu").name == "model.activation"


def test_an_end_that_several_settings_share_is_refused_with_their_names() -> None:
    with pytest.raises(RecipeError, match=r"several settings end so \(.*model\.name.*optim\.name"):
        factor_of("name=a,b")


def test_a_comma_inside_of_brackets_does_not_separate() -> None:
    labels = [level.label for level in factor_of("augment=[],flip,[flip, {crop: {padding: 4}}]").levels]
    assert labels == ["[]", "flip", "[flip, {crop: {padding: 4}}]"]


@pytest.mark.parametrize("text", ["optim.name", "optim.name="])
def test_a_factor_without_values_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="--vary takes name=value"):
        factor_of(text)


def test_a_missing_value_is_refused() -> None:
    with pytest.raises(RecipeError, match="a value is missing in '0.1,'"):
        factor_of("optim.lr=0.1,")


def test_an_arm_may_change_several_settings_or_none() -> None:
    factor = factor_of_arms(["plain:", "sgd: optim.name=sgd augment=[flip, crop]"])
    assert [level.settings for level in factor.levels] == [(), ("optim.name=sgd", "augment=[flip, crop]")]


def test_an_arm_without_a_label_is_refused() -> None:
    with pytest.raises(RecipeError, match="--arm takes 'label: setting=value"):
        factor_of_arms(["optim.name=sgd"])
