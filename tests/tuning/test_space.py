"""What may be searched, and what is refused before anything starts."""

import pytest

from sightline.errors import RecipeError
from sightline.recipe import DataConfig, ModelConfig, OptimConfig, Recipe
from sightline.recipe_text import override
from sightline.training.schedules import learning_rate
from sightline.tuning.meant import in_full
from sightline.tuning.space import Dimension, default_space, space_of

RECIPE = Recipe(
    model=ModelConfig(name="resnet20"),
    data=DataConfig(image_size=16, resize=16),
    optim=OptimConfig(lr=1e-2, weight_decay=1e-4),
)


def test_ranges_logarithms_whole_numbers_and_choices_are_read() -> None:
    found = space_of(
        ["optim.lr=log:1e-4..1 batch_size=8..64", "activation=relu,silu loss.label_smoothing=0..0.2"], RECIPE
    )
    assert found == (
        Dimension(setting="optim.lr", low=1e-4, high=1.0, log=True),
        Dimension(setting="batch_size", low=8.0, high=64.0, whole=True),
        Dimension(setting="model.activation", choices=("relu", "silu")),
        Dimension(setting="loss.label_smoothing", low=0.0, high=0.2),
    )


def test_choices_may_be_lists() -> None:
    (found,) = space_of(["augment=[flip],[crop, flip]"], RECIPE)
    assert found.choices == ("[flip]", "[crop, flip]")


def test_a_dimension_s_text_is_what_the_user_typed() -> None:
    texts = ["optim.lr=log:0.0001..1", "batch_size=8..64", "model.activation=relu,silu"]
    assert [dimension.text for dimension in space_of(texts, RECIPE)] == texts


def test_values_are_settings_that_the_recipe_takes() -> None:
    (dimension,) = space_of(["batch_size=8..64"], RECIPE)
    assert override(RECIPE, [f"batch_size={dimension.value_of(17.0)}"]).batch_size == 17


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optim.lrr=log:1e-4..1", "optim.lrr"),
        ("optim.lr=log:0..1", "0 has no logarithm"),
        ("optim.lr=1..1e-4", "the range is empty"),
        ("optim.lr=1e-3..1e-3", "the range is empty"),
        ("optim.lr=a..b", "'a' is no number"),
        ("optim.lr=nan..1", "'nan' is no number"),
        ("batch_size=1.5..8", "whole numbers alone"),
        ("optim.lr=-1..1", "optim.lr=-1 can't be trained"),
        ("model.activation=relu,rellu", "model.activation=rellu can't be trained"),
        ("model.activation=relu", "one value is no choice"),
        ("model.activation=relu,relu", "names a value twice"),
        ("model.activation=relu,,silu", "a value is missing"),
        ("optim.lr", "--search takes"),
        ("=1..2", "--search takes"),
        ("optim.lr=", "--search takes"),
        ("seed=1..5", "the best of several seeds is luck"),
        ("optim.lr=1e-3..1 optim.lr=1e-4..1", "optim.lr twice"),
        ("", "nothing to search"),
    ],
)
def test_what_can_t_be_searched_is_refused(text: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words.replace(".", r"\.")):
        space_of([text], RECIPE)


def test_the_default_space_lies_around_the_recipe_and_can_be_trained() -> None:
    found = {dimension.setting: dimension for dimension in default_space(RECIPE)}
    assert (found["optim.lr"].low, found["optim.lr"].high, found["optim.lr"].log) == (1e-3, 1e-1, True)
    assert found["optim.weight_decay"].low == pytest.approx(1e-5)
    assert "model.drop_path" in found
    alexnet = override(RECIPE, ["model.name=alexnet", "data.image_size=64", "data.resize=64"])
    assert "model.drop_path" not in {dimension.setting for dimension in default_space(alexnet)}


def test_a_search_begins_with_the_recipe_s_own_values_as_far_as_the_space_has_them() -> None:
    [rate, names, out_of_range] = space_of(
        ["optim.lr=log:1e-3..1 model.name=resnet18,resnet20 batch_size=256..512"], override(RECIPE, ["batch_size=32"])
    )
    recipe = override(RECIPE, ["optim.lr=0.05", "model.name=resnet20", "batch_size=32"])
    assert rate.own(recipe) == 0.05
    assert names.own(recipe) == "resnet20"
    assert out_of_range.own(recipe) is None
    assert names.own(override(recipe, ["model.name=resnet32"])) is None


@pytest.mark.parametrize(
    ("settings", "text", "own"),
    [
        ([], "model.width=0.5..2", 1.0),
        ([], "model.depth=0.5,1,2", 1),  # its place among the numbers
        ([], "model.drop_path=0..0.3", 0.0),
        (["model.name=swin_t", "data.image_size=224", "data.resize=256"], "model.drop_path=0..0.3", 0.2),
        (["model.name=efficientnet_b0"], "model.drop_path=0..0.3", 0.2),
        (["model.name=alexnet", "data.image_size=64", "data.resize=64"], "model.dropout=0..0.9", 0.5),
        (["model.name=swin_b", "data.image_size=224", "data.resize=256"], "model.drop_path=0..0.3", None),  # 0.5
        (["data.resize=null"], "data.resize=16..32", 18),
        (["optim.name=sgd"], "optim.momentum=0.5..0.99", 0.9),
        ([], "optim.betas=[0.9, 0.95],[0.9, 0.999]", "[0.9, 0.999]"),
        ([], "optim.layer_decay=0.5..1", 1.0),
        ([], "optim.schedule=constant,cosine", "cosine"),
        ([], "optim.target_batch=128..256", 128),
        ([], "loss.name=focal,cross_entropy", "cross_entropy"),
        ([], "train.ema_decay=0.9..0.99", None),
    ],
)
def test_a_search_begins_with_what_null_stands_for(settings: list[str], text: str, own: object) -> None:
    recipe = override(RECIPE, ["batch_size=128", *settings])
    [dimension] = space_of([text], recipe)
    assert dimension.own(recipe) == own


@pytest.mark.parametrize(
    ("schedule", "setting"),
    [
        ("cosine", "end_factor"),
        ("exponential", "end_factor"),
        ("polynomial", "end_factor"),
        ("one_cycle", "end_factor"),
        ("plateau", "end_factor"),
        ("step", "factor"),
        ("polynomial", "power"),
        ("cosine", "cycles"),
        ("one_cycle", "rise"),
        ("plateau", "patience"),
    ],
)
def test_what_null_stands_for_is_the_same_course_of_the_learning_rate(schedule: str, setting: str) -> None:
    recipe = override(RECIPE, [f"optim.schedule={schedule}", *(["optim.step_epochs=2"] if schedule == "step" else [])])
    meant = in_full(recipe, [f"optim.{setting}"])["optim"][setting]
    said = override(recipe, [f"optim.{setting}={meant}"])
    assert said != recipe
    losses = [1.0] * 20
    for update in range(50):
        rates = [learning_rate(each.optim, update, 50, 5, losses[: update // 5]) for each in (recipe, said)]
        assert rates[0] == pytest.approx(rates[1], rel=1e-9)


def test_numbers_to_choose_from_are_in_order_and_words_are_not() -> None:
    [sizes, decays, names, mixed] = space_of(
        ["batch_size=64,16,32 optim.weight_decay=1e-2,1e-4,0 model.name=resnet20,resnet32 model.dropout=null,0.2"],
        RECIPE,
    )
    assert sizes.in_order == ("16", "32", "64")
    assert [sizes.value_of(place) for place in (0, 1.0, 2)] == ["16", "32", "64"]
    assert decays.in_order == ("0", "1e-4", "1e-2")
    assert decays.own(RECIPE) == 1
    assert not names.ordered
    assert mixed.own(override(RECIPE, ["model.dropout=null"])) == "null"
    assert not mixed.ordered


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("data.max_train_images=100..500", True),  # null in the recipe
        ("batch_size=8..64", True),
        ("optim.lr=1..3", False),
        ("loss.label_smoothing=0..0.2", False),
        ("augment.crop.padding=0..8", True),
        ("augment.flip.probability=0..1", False),
    ],
)
def test_whole_numbers_are_tried_where_the_setting_takes_no_others(text: str, *, whole: bool) -> None:
    [dimension] = space_of([text], override(Recipe(), ["augment=[crop, flip]"]))
    assert dimension.whole == whole


def test_a_search_begins_with_the_recipe_s_own_augmentations() -> None:
    recipe = override(RECIPE, ["augment=[{crop: {padding: 3}}, flip]"])
    [padding, probability] = space_of(["augment.crop.padding=0..8 augment.flip.probability=0..1"], recipe)
    assert (padding.own(recipe), probability.own(recipe)) == (3, 0.5)
