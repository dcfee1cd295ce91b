"""Going on from a model folder: with the same classes, with more of them, with fewer where that is asked for."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from making import make_photos
from safetensors.torch import load_file

from sightline.data.prepare import prepare
from sightline.errors import ModelError, RecipeError
from sightline.model_folder import Architecture, ModelFolder
from sightline.recipe import Recipe
from sightline.recipe_text import from_yaml, override
from sightline.training import resume, train
from sightline.training.start import recipe_from, starting_network, tell_of_seen_images
from sightline.training.task import ClassificationTask

RECIPE = override(
    Recipe(),
    [
        *("model.name=resnet20", "model.norm=group", "model.activation=prelu"),
        *("data.image_size=16", "data.resize=18", "data.num_workers=0"),
        *("epochs=4", "batch_size=6", "optim.lr=3e-3", "train.checkpoint_minutes=0"),
    ],
)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


COLOURS = ("blue", "green", "red")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="module")
def parent(data: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return train(RECIPE, data, out=tmp_path_factory.mktemp("parent") / "run")


def network(num_classes: int) -> Architecture:
    return Architecture(name="resnet20", num_classes=num_classes, image_size=16, norm="group", activation="prelu")


def images() -> torch.Tensor:
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_with_the_same_classes_the_whole_network_goes_on(parent: ModelFolder) -> None:
    model = starting_network(recipe_from(parent.path), network(3), COLOURS)
    assert model.training
    assert {name: tensor.tolist() for name, tensor in model.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in parent.model().state_dict().items()
    }


@pytest.mark.parametrize("classes", [("amber", "blue", "green", "red"), ("blue", "green", "lime", "red", "violet")])
def test_the_logits_of_known_classes_are_the_parent_s_wherever_new_ones_stand(
    classes: tuple[str, ...], parent: ModelFolder
) -> None:
    torch.manual_seed(0)
    model = starting_network(recipe_from(parent.path), network(len(classes)), classes).eval()
    columns = [classes.index(name) for name in COLOURS]
    with torch.no_grad():
        logits = model(images())
        torch.testing.assert_close(logits[:, columns], parent.model()(images()), rtol=0, atol=1e-6)
    assert torch.equal(model.get_parameter("head.weight")[columns], parent.model().get_parameter("head.weight"))
    assert model.start is not None
    new = [name for name in classes if name not in COLOURS]
    assert f"New to it, with fresh rows of the head: {', '.join(map(repr, new))}." in model.start.notes


def test_classes_that_the_data_lacks_are_refused_unless_the_user_lets_them_go(parent: ModelFolder) -> None:
    classes = ("blue", "pink", "red")
    with pytest.raises(RecipeError, match=r"lacks 1 class of the model in .*: 'green'\. .*finetune\.drop_classes=true"):
        starting_network(recipe_from(parent.path), network(3), classes)
    allowed = override(recipe_from(parent.path), ["finetune.drop_classes=true"])
    model = starting_network(allowed, network(3), classes).eval()
    with torch.no_grad():
        assert torch.equal(model(images())[:, [0, 2]], parent.model()(images())[:, [0, 2]])
    assert model.start is not None
    assert "Let go, as finetune.drop_classes says: 'green'." in model.start.notes


def test_auxiliary_classifiers_keep_their_rows_too(tmp_path: Path, parent: ModelFolder) -> None:
    architecture = Architecture(name="googlenet", num_classes=2, image_size=32)
    spec = replace(parent.spec, architecture=architecture, classes=("a", "c"))
    folder = ModelFolder.write(tmp_path, spec, architecture.build().state_dict())
    chosen = override(Recipe(), [f"model.pretrained={folder.path}"])
    grown = starting_network(chosen, replace(architecture, num_classes=3), ("a", "b", "c")).state_dict()
    old = load_file(folder.path / "weights.safetensors")
    heads = [name for name in old if name.startswith("auxiliary.") and name.endswith("head.weight")]
    assert heads
    assert all(torch.equal(grown[name][[0, 2]], old[name]) for name in (*heads, "head.weight", "head.bias"))


def test_a_run_goes_on_with_one_class_more_and_names_its_parent(
    parent: ModelFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = make_photos(tmp_path / "photos", count=16)
    (more / "dark").mkdir()
    for number, photo in enumerate(sorted((more / "blue").iterdir())[:8]):
        photo.rename(more / "dark" / f"{number}.jpg")
    with caplog.at_level("INFO", logger="sightline"):
        folder = train(override(recipe_from(parent.path), ["epochs=1"]), more, out=tmp_path / "run")
    assert folder.spec.classes == ("blue", "dark", "green", "red")
    assert folder.spec.provenance.parent == parent.spec.fingerprint
    assert any("fresh rows of the head: 'dark'" in message for message in caplog.messages)


def test_going_on_begins_where_the_parent_ended(parent: ModelFolder, data: Path, tmp_path: Path) -> None:
    start = override(recipe_from(parent.path), ["epochs=1", "optim.lr=1e-12", "train.select=last"])
    folder = train(start, data, out=tmp_path / "run")
    assert folder.spec.figures["val"]["accuracy"] == parent.spec.figures["val"]["accuracy"]


def test_a_continued_run_that_is_killed_ends_with_the_same_weights(
    parent: ModelFolder, data: Path, tmp_path: Path
) -> None:
    chosen = override(recipe_from(parent.path), ["epochs=2"])
    whole = train(chosen, data, out=tmp_path / "whole")
    for call, folder in ((1, tmp_path / "early"), (7, tmp_path / "late")):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            kill_step(patch, call)
            train(chosen, data, out=folder)
        resumed = resume(data, out=folder)
        assert resumed.spec.weights_sha256 == whole.spec.weights_sha256
        assert resumed.spec.provenance.parent == parent.spec.fingerprint


def kill_step(patch: pytest.MonkeyPatch, call: int) -> None:
    original = ClassificationTask.training_step
    calls = iter(range(1, 10_000))

    def killing(*arguments: object) -> object:
        if next(calls) == call:
            raise Killed
        return original(*arguments)  # pyright: ignore[reportArgumentType]

    patch.setattr(ClassificationTask, "training_step", killing)


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        ("model.name=resnet32", "--set model.name=resnet20"),
        ("model.norm=null", "--set model.norm=group"),
        ("model.activation=relu", "--set model.activation=prelu"),
        ("model.width=2", "--set model.width=null"),
        ("data.image_size=17", "--set data.image_size=16"),
        ("data.interpolation=bicubic", "--set data.interpolation=bilinear"),
        ("data.std=[0.5, 0.5, 0.5]", "--set 'data.std=[0.229, 0.224, 0.225]'"),
        ("data.mean=[0.5, 0.5, 0.5]", "--set 'data.mean=[0.485, 0.456, 0.406]'"),
    ],
)
def test_settings_that_the_parent_s_weights_don_t_fit_are_refused_with_those_they_need(
    setting: str, remedy: str, parent: ModelFolder, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError) as raised:
        train(override(recipe_from(parent.path), [setting]), tmp_path / "nowhere", out=tmp_path / "run")
    assert str(raised.value).endswith(f"was made with other settings. Pass {remedy}.")
    override(recipe_from(parent.path), [setting, remedy.removeprefix("--set ").strip("'")])


def test_the_side_that_images_are_resized_to_goes_with_the_side_that_is_seen(
    parent: ModelFolder, tmp_path: Path
) -> None:
    asked = override(recipe_from(parent.path), ["data.image_size=32", "data.resize=36"])
    resize = parent.spec.preprocess.resize
    with pytest.raises(RecipeError, match=rf"Pass --set data\.image_size=16 --set data\.resize={resize}\.$"):
        train(asked, tmp_path / "nowhere", out=tmp_path / "run")


def test_dropping_classes_needs_a_model_folder(tmp_path: Path, parent: ModelFolder) -> None:
    weights = shutil.copy(parent.path / "weights.safetensors", tmp_path / "weights.safetensors")
    chosen = override(RECIPE, [f"model.pretrained={weights}", "finetune.drop_classes=true"])
    with pytest.raises(RecipeError, match=r"finetune\.drop_classes needs a model folder"):
        train(chosen, tmp_path / "nowhere", out=tmp_path / "run")


Cli = Callable[..., tuple[int, str, str]]


def test_from_takes_the_folder_s_recipe_and_weights(
    run_cli: Cli, parent: ModelFolder, data: Path, tmp_path: Path
) -> None:
    code, _, said = run_cli("train", data, "--from", parent.path, "--set", "epochs=1", "--out", tmp_path / "run")
    assert code == 0, said
    folder = ModelFolder.read(tmp_path / "run")
    assert folder.spec.provenance.parent == parent.spec.fingerprint
    assert folder.spec.architecture == parent.spec.architecture
    stored = from_yaml((folder.path / "recipe.yaml").read_text())
    assert stored == override(RECIPE, [f"model.pretrained={parent.path}", "epochs=1"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--set", "model.pretrained=default"], "both name the weights to start from"),
        (["--resume"], "--from begins a run"),
        (["--recipe", "digits"], "was made with other settings. Pass --set model.activation=prelu"),
    ],
)
def test_what_contradicts_from_is_one_sentence(
    options: list[str], sentence: str, run_cli: Cli, parent: ModelFolder, data: Path, tmp_path: Path
) -> None:
    code, _, said = run_cli("train", data, "--from", parent.path, "--out", tmp_path / "run", *options)
    assert code == 2
    assert sentence in said


def test_from_a_folder_without_a_recipe_asks_for_one(parent: ModelFolder, tmp_path: Path) -> None:
    shutil.copytree(parent.path, tmp_path / "copy")
    (tmp_path / "copy" / "recipe.yaml").unlink()
    with pytest.raises(ModelError, match=r"holds no recipe to go on with\. Name one with --recipe"):
        recipe_from(tmp_path / "copy")
    with pytest.raises(ModelError, match="There is no model folder"):
        recipe_from(tmp_path / "none")


def test_held_out_images_that_the_parent_was_trained_on_are_told(
    parent: ModelFolder, data: Path, tmp_path: Path
) -> None:
    same_seed = recipe_from(parent.path)
    prepared = prepare(data, same_seed.data, same_seed.seed)
    assert tell_of_seen_images(same_seed, prepared).splits.made == prepared.splits.made
    other = prepare(data, same_seed.data, seed=1)
    (sentence,) = [text for text in tell_of_seen_images(same_seed, other).splits.made if " of test are ones" in text]
    trained = set(json.loads((parent.path / "splits.json").read_text())["train"])
    leaked = sum(other.table.paths[place] in trained for place in other.splits.test.tolist())
    assert sentence.startswith(f"{leaked} of the 6 images of test")
    folder = train(override(same_seed, ["seed=1", "epochs=1"]), data, out=tmp_path / "run")
    assert sentence in json.loads((folder.path / "splits.json").read_text())["made"]
