import math
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest

from sightline import catalog
from sightline.augmentations import augmentation_class
from sightline.augmentations.crop import Crop
from sightline.augmentations.flip import Flip
from sightline.errors import RecipeError
from sightline.recipe import DataConfig, OptimConfig, Recipe, TrainConfig
from sightline.recipe_text import explain, from_yaml, override, to_yaml
from sightline.recipes import find_recipe


@pytest.mark.parametrize("name", catalog.names("sightline.recipes"))
def test_every_shipped_recipe_survives_yaml(name: str) -> None:
    recipe = find_recipe(name)
    assert from_yaml(to_yaml(recipe)) == recipe


@pytest.mark.parametrize("name", catalog.names("sightline.recipes"))
def test_no_shipped_recipe_asks_for_what_a_processor_may_lack(name: str) -> None:
    """bfloat16 is emulated by processors that lack it, 5 to 19 times slower than float32."""
    assert find_recipe(name).train.precision == "float32"


def test_every_setting_is_explained() -> None:
    unexplained = [name for name, _, meaning in explain() if not meaning.endswith(".")]
    assert unexplained == []


def test_every_setting_can_be_named_by_set() -> None:
    """A setting that --set could not reach would be settable from Python alone."""
    entries = [augmentation_class(name)() for name in catalog.names("sightline.augmentations")]
    recipe = Recipe(augment=tuple(entries))
    for name, default, _ in explain():
        if default and name != "augment":
            assert override(recipe, [f"{name}={default}"]) == recipe, name


def test_no_field_holds_another_type_than_values_and_sections() -> None:
    for name, hint in get_type_hints(Recipe).items():
        assert is_dataclass(hint) or name in {"seed", "epochs", "batch_size", "augment"}
    assert len({field.name for field in fields(Recipe)}) == len(fields(Recipe))


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        (
            "optim.lrr=1",
            "Unknown setting 'optim.lrr'. Did you mean 'optim.lr'? `sightline recipes --explain` lists them all.",
        ),
        ("lr=1", "Unknown setting 'lr'. Did you mean 'optim.lr'?"),
        ("optin.lr=1", "Unknown setting 'optin.lr'. Did you mean 'optim.lr'?"),
        ("epochs=five", "epochs should be an integer, got 'five'."),
        ("epochs=2.5", "epochs should be an integer, got 2.5."),
        ("epochs=0", "epochs must be at least 1, got 0."),
        ("optim.lr=-1", "optim.lr must be greater than 0 and at most 1,000,000,000, got -1"),
        ("optim.lr=.nan", "optim.lr should be finite, got nan."),
        ("optim.name=adma", "optim.name should be 'sgd', 'adam', 'adamw', 'nadam'"),
        ("train.patience=soon", "train.patience should be an integer, got 'soon'."),
        ("model=resnet18", "model holds several settings: set one of them, such as model.name."),
        ("augment=flip,crp", "Unknown augmentation 'crp'. Did you mean 'crop'?"),
        ("augment.crop.padding=1", "augment.crop.padding: the recipe has no augmentation 'crop'"),
        (
            "augment=[{crop: {pading: 1}}]",
            "Unknown setting 'augment.crop.pading'. Did you mean 'augment.crop.padding'?",
        ),
        ("data.resize=100", "data.resize (100) must be at least data.image_size (224): the crop would be larger"),
        ("optim.warmup_epochs=20", "optim.warmup_epochs (20.0) must be less than epochs (20)"),
        ("optim.nesterov=true", "optim.nesterov is for optim.name 'sgd'; optim.name is 'adamw', which would ignore it"),
        ("data.mean=[1,2]", "data.mean should be a list of 3 values, got [1, 2]."),
        ("optim.betas=0.9", "optim.betas should be a list, got 0.9."),
        ("epochs", "--set takes name=value, got 'epochs'."),
        ("epochs=[1", "Not valid YAML at line 1"),
        ("epochs=0x10", "epochs should be an integer, got '0x10'."),
        ("epochs=1_000", "epochs should be an integer, got '1_000'."),
        ("epochs=1:30", "epochs should be an integer, got '1:30'."),
        ("epochs=!!int ten", "Not valid YAML: invalid literal"),
        (
            "loss.class_weights={1:2}",
            "Not valid YAML at line 1: '1:2' has no value; write '1: 2', with a space after the colon.",
        ),
        ("loss.class_weights={a: 1, b:2}", "Not valid YAML at line 1: 'b:2' has no value; write 'b: 2'"),
        ("epochs=100000000000000000000", "epochs must be at most 1,000,000,000"),
        ("optim.lr=1e300", "optim.lr must be greater than 0 and at most"),
        ("data.image_size=100000", "data.image_size must be at most 4,096"),
    ],
)
def test_a_wrong_setting_is_one_sentence_with_its_name(setting: str, sentence: str) -> None:
    with pytest.raises(RecipeError) as error:
        override(Recipe(), [setting])
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


def test_settings_are_checked_together_so_that_their_order_does_not_matter() -> None:
    changed = override(Recipe(), ["optim.warmup_epochs=30", "epochs=40"])
    assert (changed.epochs, changed.optim.warmup_epochs) == (40, 30)


def test_what_a_recipe_computes_in_gives_way_to_what_is_fastest() -> None:
    pinned = Recipe(train=TrainConfig(precision="bf16", channels_last=True, fused_norms=True, select="last"))
    assert override(pinned, ["train.fast=auto"]).train == TrainConfig(fast="auto", select="last")
    with pytest.raises(RecipeError, match=r"chooses train\.precision itself"):
        override(pinned, ["train.precision=bf16", "train.fast=auto"])


@pytest.mark.parametrize(
    "settings",
    [
        ["augment=[crop,flip]", "augment.crop.padding=4"],
        ["augment=crop,flip", "augment.crop.padding=4"],
        ["augment=[{crop: null}, flip]", "augment.crop.padding=4"],
        ["augment.crop.padding=4", "augment=[{crop: {}}, flip]"],
    ],
)
def test_augmentations_are_set_before_what_is_set_of_them(settings: list[str]) -> None:
    assert override(Recipe(), settings).augment == (Crop(padding=4), Flip())


@pytest.mark.parametrize(
    ("augment", "sentence"),
    [
        ("null", "augment should be a list of augmentations, got None."),
        ("[crop, null]", "augment: each entry is a name, or one name with its settings, got None."),
        ("[{crop: 4}]", "augment.crop must hold settings by name, got 4."),
        ("flip", "augment.crop.padding: the recipe has no augmentation 'crop'"),
    ],
)
def test_a_setting_of_an_augmentation_that_isn_t_there_is_one_sentence(augment: str, sentence: str) -> None:
    with pytest.raises(RecipeError) as error:
        override(Recipe(), [f"augment={augment}", "augment.crop.padding=4"])
    assert str(error.value).startswith(sentence)


def test_numbers_are_read_as_people_write_them() -> None:
    assert override(Recipe(), ["optim.lr=3e-4"]).optim.lr == 3e-4
    assert override(Recipe(), ["optim.lr=1"]).optim.lr == 1.0
    assert override(Recipe(), ["epochs=010"]).epochs == 10
    assert from_yaml("epochs: 08\nseed: +7\n") == Recipe(epochs=8, seed=7)


def test_the_name_of_a_class_is_taken_as_it_is_written() -> None:
    weights = override(Recipe(), ["loss.class_weights={007: 2, 1.50: 3, no: 1, true: 4, 'a:b': 5}"]).loss.class_weights
    assert weights == {"007": 2, "1.50": 3, "no": 1, "true": 4, "a:b": 5}
    recipe = override(Recipe(), ["loss.class_weights={007: 2, 0x1: 3, true: 4, '1:2': 5}"])
    assert from_yaml(to_yaml(recipe)) == recipe


def test_a_recipe_file_that_is_no_yaml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("epochs: 3\noptim: {lr: 1\n")
    with pytest.raises(RecipeError, match="Not valid YAML at line"):
        find_recipe(str(path))


def test_a_recipe_file_may_leave_settings_at_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("epochs: 3\noptim: {lr: 1e-2}\naugment: [flip]\n")
    assert find_recipe(str(path)) == Recipe(epochs=3, optim=OptimConfig(lr=0.01), augment=(Flip(),))


def test_a_setting_that_is_there_twice_is_refused() -> None:
    with pytest.raises(RecipeError, match="Not valid YAML at line 1: 'epochs' is there twice"):
        from_yaml("epochs: 1\nepochs: 2\n")


def test_an_unknown_recipe_suggests_the_nearest() -> None:
    with pytest.raises(RecipeError, match="Unknown recipe 'digit'. Did you mean 'digits'"):
        find_recipe("digit")


def test_a_recipe_file_that_is_missing_or_no_text_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="can't be read: No such file"):
        find_recipe(str(tmp_path / "none.yaml"))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not a UTF-8 text"):
        find_recipe(str(tmp_path / "binary.yaml"))


def test_the_resized_side_follows_the_image_size() -> None:
    assert DataConfig(image_size=224).preprocess().resize == 256
    assert math.isclose(DataConfig(image_size=299).preprocess().resize, 342)
