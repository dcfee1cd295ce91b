"""Structured pruning: what is cut, how far, and that the folder opens as it was written."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from making import make_folder, make_photos
from safetensors.torch import load_file

from sightline.augmentations.flip import Flip
from sightline.compressing.images import find_images
from sightline.compressing.tuning import tuning_recipe
from sightline.compression import compress
from sightline.compression.prune import Prune
from sightline.errors import DataError, ModelError, RecipeError, SightlineError
from sightline.exporting import export
from sightline.model_folder import Architecture, ModelFolder
from sightline.models import create_model
from sightline.narrowing import Narrowing
from sightline.pruning.groups import find_groups, narrowed
from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.summary import num_macs
from sightline.training import train
from sightline.training.task import ClassificationTask

RECIPE = override(
    Recipe(),
    [
        *("model.name=resnet20", "data.image_size=16", "data.resize=18", "data.num_workers=0", "data.cache=false"),
        *("epochs=1", "batch_size=12", "optim.lr=3e-3", "train.checkpoint_minutes=0"),
    ],
)
CUT = Prune(share=0.6, epochs=0)
Cli = Callable[..., tuple[int, str, str]]


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


@pytest.fixture(scope="module", autouse=True)
def _untimed(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Starting a process for each row is the bench's affair, and tested there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sightline.compressing.judging.TURN_SECONDS", 0.001)
        patch.setattr("sightline.measuring.WARM_UP_SECONDS", 0.001)
        patch.setattr("sightline.compressing.judging.Judge.rows", lambda judge: judge._rows)
        yield


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    place = tmp_path_factory.mktemp("parent")
    return train(RECIPE, make_photos(place / "photos"), out=place / "run")


@pytest.fixture(scope="module")
def pruned(parent: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    rows = compress(parent, [CUT], out=tmp_path_factory.mktemp("pruned") / "out")
    return ModelFolder.read(rows[-1].path)


def macs(folder: ModelFolder) -> int:
    return num_macs(folder.model(), 16)


def test_no_more_than_the_share_of_the_macs_is_left_and_channels_are_rounded(
    parent: ModelFolder, pruned: ModelFolder
) -> None:
    assert 0.5 < macs(pruned) / macs(parent) <= 0.6
    weights = load_file(pruned.path / "weights.safetensors")
    widths = {tensor.shape[0] for name, tensor in weights.items() if name.endswith("conv1.weight")}
    assert all(width % 8 == 0 for width in widths)


@pytest.mark.slow
def test_a_tuned_run_that_is_killed_ends_with_the_same_weights(parent: ModelFolder, tmp_path: Path) -> None:
    method = replace(CUT, steps=2, epochs=1)
    compress(parent, [method], out=tmp_path / "whole")
    calls = iter(range(100))
    original = ClassificationTask.training_step

    def killing(*arguments: object) -> object:
        if next(calls) == 3:
            raise Killed
        return original(*arguments)  # pyright: ignore[reportArgumentType]

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(ClassificationTask, "training_step", killing)
        compress(parent, [method], out=tmp_path / "killed")
    assert not (tmp_path / "killed" / "1-prune").exists()
    compress(parent, [method], out=tmp_path / "killed")
    whole, resumed = (ModelFolder.read(tmp_path / name / "1-prune") for name in ("whole", "killed"))
    assert resumed.spec.weights_sha256 == whole.spec.weights_sha256
    assert not list((tmp_path / "killed").glob(".*.work"))


def test_a_step_that_was_done_is_kept_and_other_settings_are_refused(
    parent: ModelFolder, pruned: ModelFolder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="sightline"):
        rows = compress(parent, [CUT], out=pruned.path.parent)
    assert "1-prune was done before and is kept." in caplog.messages
    assert rows[-1].path == str(pruned.path)
    with pytest.raises(ModelError, match="was made with other settings"):
        compress(parent, [replace(CUT, share=0.7)], out=pruned.path.parent)


@pytest.mark.parametrize("setting", ["seed=5", "data.test_fraction=0.3", "data.max_train_images=5"])
def test_settings_that_would_divide_the_images_anew_are_refused(
    setting: str, parent: ModelFolder, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="would divide the images anew"):
        compress(parent, [Prune(share=0.6, epochs=1, round_to=1, settings=(setting,))], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_step_on_other_images_is_another_step(parent: ModelFolder, tmp_path: Path) -> None:
    cut = Prune(share=0.6, epochs=0, round_to=1)
    compress(parent, [cut], out=tmp_path / "out")
    with pytest.raises(ModelError, match="made with other settings or images"):
        compress(parent, [cut], data=make_photos(tmp_path / "others", count=20), out=tmp_path / "out")


def test_training_after_a_cut_sees_images_of_the_full_size(parent: ModelFolder) -> None:
    images = find_images(parent, None)
    growing = override(images.recipe, ["augment=[flip, {resize_progressively: {start: 8, epochs: 3}}]", "epochs=9"])
    assert tuning_recipe(growing, parent, 1).augment == (Flip(),)


@pytest.mark.parametrize("importance", ["magnitude", "taylor", "batch_norm"])
def test_every_importance_reaches_the_target(importance: str, parent: ModelFolder, tmp_path: Path) -> None:
    compress(parent, [replace(CUT, importance=importance, target="params")], out=tmp_path / "out")
    kept = sum(tensor.numel() for tensor in ModelFolder.read(tmp_path / "out" / "1-prune").model().parameters())
    assert kept <= 0.6 * sum(tensor.numel() for tensor in parent.model().parameters())


def test_batch_norm_s_scale_chooses_the_channels_that_it_silenced() -> None:
    from sightline.pruning.importance import score

    torch.manual_seed(0)
    model = create_model("resnet20", num_classes=3, image_size=16)
    model.get_parameter("layer1.0.bn1.weight").data[:4] = 0.01
    groups = [group for group in find_groups(model, 16).groups if group.name == "layer1.0.conv1"]
    values = score(model, groups, "batch_norm")[groups[0]]
    assert values.argsort()[:4].sort().values.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *[("resnet20", 16), ("resnet18", 32), ("alexnet", 64)],
        *[
            pytest.param(name, size, marks=pytest.mark.slow)
            for name, size in [
                *[("vit_ti_16", 32), ("swin_t", 32), ("googlenet", 32), ("efficientnet_b0_cifar", 32)],
                *[
                    ("vgg11_bn", 32),
                    ("zfnet", 64),
                    ("wide_resnet40_4", 32),
                    ("densenet_bc_100_12", 32),
                    ("inception_v3", 96),
                    ("airbench96", 32),
                ],
            ]
        ],
    ],
)
def test_a_network_of_every_family_without_half_its_units_is_rebuilt_from_shapes(
    name: str, size: int, tmp_path: Path
) -> None:
    from sightline.compression.prune import _write

    torch.manual_seed(0)
    made = make_folder(tmp_path / "plain")
    architecture = Architecture(name=name, num_classes=3, image_size=size)
    preprocess = replace(made.spec.preprocess, image_size=size, resize=size)
    model = architecture.build().eval()
    spec = replace(made.spec, architecture=architecture, preprocess=preprocess)
    folder = ModelFolder.write(tmp_path / "whole", spec, model.state_dict())
    groups = find_groups(model, size).groups
    removed = {group: torch.arange(group.num_units) % 2 == 0 for group in groups}
    written = ModelFolder.read(_write(folder, model, removed, tmp_path / "cut").path)
    images = torch.randn(2, 3, size, size)
    again = written.model()
    with torch.no_grad():
        torch.testing.assert_close(again(images), narrowed(model, removed).eval()(images), rtol=0, atol=1e-6)
        maps = again.feature_maps(images)
    assert [stage.channels for stage in again.stages] == [feature_map.shape[1] for feature_map in maps]
    assert num_macs(again, size) < 0.8 * num_macs(model, size)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--prune", "macs=0.01"], r"macs=0.01 can't be reached: with every channel cut that may go, 0\.\d+ of"),
        (["--prune", "macs=0.01"], r"in multiples of 8\). Ask for more than that, or lower --round-to.\n"),
        (["--prune", "macs=0.001", "--round-to", "1"], r"each layer stay\). Ask for more than that.\n"),
        (["--prune", "macs=1.5"], "above 0 and below 1, got 1.5"),
        (["--prune", "mac=0.5"], "Unknown target 'mac'. Did you mean 'macs'?"),
        (["--prune", "macs"], "such as macs=0.5; got 'macs'"),
        (["--prune", "macs=0.5", "--importance", "tailor"], "Did you mean 'taylor'?"),
        (["--prune", "macs=0.5", "--set", "model.name=vgg11"], "would make another network"),
        ([], "Nothing to do"),
        (["--prune", "macs=0.5", "--ranking", "best"], "ranking is 'global' or 'layer', got 'best'"),
        (
            ["--prune", "macs=0.5", "--max-drop", "1"],
            "--max-drop belongs to --quantize: add that",
        ),
        (["--quantize", "int8", "--weight", "0.5"], "--weight belongs to --distill: add that"),
    ],
)
def test_what_can_t_be_done_is_one_sentence_and_leaves_nothing(
    options: list[str], sentence: str, run_cli: Cli, parent: ModelFolder, tmp_path: Path
) -> None:
    code, _, said = run_cli("compress", parent.path, *options, "--out", tmp_path / "out")
    assert code == 2
    assert re.search(sentence.replace("(", r"\("), said), said
    assert not (tmp_path / "out").exists()


def test_an_exported_model_and_missing_images_are_refused(parent: ModelFolder, tmp_path: Path) -> None:
    export(parent, "torch", out=tmp_path / "exported", num_images=8)
    with pytest.raises(ModelError, match="holds an exported model, which only predicts"):
        compress(tmp_path / "exported", [CUT], out=tmp_path / "out")
    lost = make_folder(tmp_path / "lost")
    with pytest.raises(SightlineError, match="name the DATA"):
        compress(lost, [CUT], out=tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        compress(parent, [CUT], data=tmp_path / "empty", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_that_were_added_are_in_no_step_s_training(tmp_path: Path) -> None:
    """The step would divide them all anew, and train on some of those that it is judged on."""
    settings = ["model.name=resnet20", "data.image_size=16", "data.resize=18", "epochs=1", "batch_size=12"]
    photos = make_photos(tmp_path / "photos")
    model = train(override(Recipe(), settings), photos, out=tmp_path / "run", measure=())
    make_photos(tmp_path / "more", count=14)
    for photo in (tmp_path / "more").rglob("01[23].jpg"):
        photo.rename(photos / photo.relative_to(tmp_path / "more"))
    with pytest.raises(DataError, match="holds other images than the model was trained with"):
        compress(model, [CUT, Prune(share=0.7, epochs=1)], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert len(compress(model, [CUT], out=tmp_path / "out")) == 2  # which trains nothing


def test_an_unreadable_image_of_other_data_is_left_out_where_a_step_that_trains_is_told_so(
    photos: Path, run_cli: Cli, parent: ModelFolder, tmp_path: Path
) -> None:
    (photos / "red" / "003.jpg").write_bytes(b"")
    call = ("compress", parent.path, photos, "--prune", "macs=0.6", "--out", tmp_path / "out", "--epochs")
    way_out = "Remove or replace it, or pass --set data.on_unreadable=leave_out where a step trains."
    code, _, said = run_cli(*call, "0")
    assert (code, way_out in said) == (2, True), said
    code, _, said = run_cli(*call, "1", "--set", "data.on_unreadable=leave_out")
    assert code == 0, said


def test_each_of_several_cuts_goes_its_part_of_the_way(parent: ModelFolder, tmp_path: Path) -> None:
    Prune(share=0.6, steps=2, epochs=0).apply(parent, find_images(parent, None), tmp_path)
    first, second = (macs(ModelFolder.read(tmp_path / name)) / macs(parent) for name in ("cut-1", "cut-2"))
    assert 0.75 < first <= 0.8
    assert 0.55 < second <= 0.6


def test_an_out_that_holds_something_else_is_refused(parent: ModelFolder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path, tmp_path / "file"):
        with pytest.raises(ModelError, match="exists and holds something else"):
            compress(parent, [CUT], out=out)
    assert (tmp_path / "file").read_text() == "mine"


def test_figures_of_other_images_are_not_stated_as_the_model_s_own(parent: ModelFolder, tmp_path: Path) -> None:
    rows = compress(parent, [CUT], data=make_photos(tmp_path / "photos", count=14), out=tmp_path / "out")
    folder = ModelFolder.read(rows[-1].path)
    assert folder.spec.figures == {}
    assert json.loads((folder.path / "compression.json").read_text())["row"]["num_images"] == rows[-1].num_images


def test_norms_over_channels_tie_a_network_together_and_it_is_refused_with_the_reason() -> None:
    model = create_model("resnet20", num_classes=3, image_size=16, norm="layer")
    with pytest.raises(ModelError, match="norms over several channels tie them together"):
        find_groups(model, 16)


def test_a_damaged_narrowing_is_refused() -> None:
    for shapes in ({"nothing.weight": (1,)}, {"conv1.weight": (99, 0, 0, 0)}, {"conv1.weight": (4,)}):
        architecture = Architecture(name="resnet20", num_classes=3, image_size=16, narrowing=Narrowing(shapes=shapes))
        with pytest.raises(ModelError, match="The narrowing"):
            architecture.build()
