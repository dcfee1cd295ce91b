"""Distillation: the teacher's part of the loss, its images and classes, and runs that repeat."""

import logging
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from making import make_folder, make_photos
from torch.nn import functional as F

from sightline.augmentations.flip import Flip
from sightline.augmentations.resize_progressively import ResizeProgressively
from sightline.compressing.images import find_images
from sightline.compressing.tuning import tuning_recipe
from sightline.compression import compress
from sightline.compression.distill import Distill
from sightline.compression.sparsify import Sparsify
from sightline.errors import ModelError, RecipeError
from sightline.model_folder import ModelFolder, Thresholds
from sightline.recipe import DistillConfig, Recipe
from sightline.recipe_text import override
from sightline.training import resume, stored_recipe, train
from sightline.training.checkpoint import load_checkpoint, save_checkpoint
from sightline.training.task import ClassificationTask
from sightline.training.teacher import Teacher

CPU = torch.device("cpu")
CLASSES = ("blue", "green", "red")
SETTINGS = [
    *("model.name=resnet20", "data.image_size=16", "data.resize=18", "data.num_workers=0", "data.cache=false"),
    *("epochs=2", "batch_size=12", "optim.lr=3e-3", "train.checkpoint_minutes=0"),
]


def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_the_loss_is_the_labels_and_the_softened_cross_entropy_by_their_shares(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "teacher")
    teacher = Teacher(DistillConfig(teacher=str(folder.path), temperature=3.0, weight=0.25), CLASSES, CPU)
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        theirs = folder.model()(folder.spec.preprocess.normalize(pixels()))
    wanted = (theirs / 3).softmax(1)
    divergence = (wanted * (wanted.log() - F.log_softmax(logits / 3, 1))).sum(1).mean()
    mixed = teacher.mixed(torch.tensor(0.5), logits, pixels())
    torch.testing.assert_close(mixed, 0.75 * torch.tensor(0.5) + 0.25 * 9 * divergence, rtol=1e-5, atol=1e-6)


def test_the_teacher_s_classes_are_found_by_name(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "teacher")
    config = DistillConfig(teacher=str(folder.path))
    straight, turned = (Teacher(config, names, CPU).logits(pixels()) for names in (CLASSES, CLASSES[::-1]))
    assert torch.equal(straight.flip(1), turned)
    with pytest.raises(RecipeError, match="doesn't know the data's 'pink'"):
        Teacher(config, ("blue", "pink"), CPU)


def test_images_of_another_size_are_resized_for_the_teacher(tmp_path: Path) -> None:
    teacher = Teacher(DistillConfig(teacher=str(make_folder(tmp_path / "teacher").path)), CLASSES, CPU)
    constant = torch.full((2, 3, 24, 24), 90, dtype=torch.uint8)
    torch.testing.assert_close(teacher.logits(constant), teacher.logits(constant[:, :, :16, :16]), rtol=0, atol=1e-4)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


def kill_at_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Make a training step, counted from 0, kill the run."""
    calls, original = iter(range(100)), ClassificationTask.training_step

    def killing(*arguments: object) -> object:
        if next(calls) == step:
            raise Killed
        return original(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(ClassificationTask, "training_step", killing)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.mark.slow
def test_a_distilled_run_that_is_killed_ends_with_the_same_weights(photos: Path, tmp_path: Path) -> None:
    teacher = make_folder(tmp_path / "teacher")
    recipe = override(Recipe(), [*SETTINGS, f"distill.teacher={teacher.path}"])
    whole = train(recipe, photos, out=tmp_path / "whole", measure=())
    alone = train(replace(recipe, distill=DistillConfig()), photos, out=tmp_path / "alone", measure=())
    assert alone.spec.weights_sha256 != whole.spec.weights_sha256
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_at_step(patch, 3)
        train(recipe, photos, out=tmp_path / "killed", measure=())
    assert resume(photos, out=tmp_path / "killed", measure=()).spec.weights_sha256 == whole.spec.weights_sha256


def test_a_run_goes_on_with_the_teacher_it_began_with_alone(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, other = (make_folder(tmp_path / name, network=name) for name in ("resnet20", "resnet20_b"))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_step(patch, 3)
        train(override(Recipe(), [*SETTINGS, f"distill.teacher={teacher.path}"]), photos, out=tmp_path / "run")
    own = teacher.path.rename(tmp_path / "own")
    shutil.copytree(other.path, teacher.path)
    with pytest.raises(ModelError, match=f"distill.teacher '{teacher.path}' is not the model that the run began with"):
        resume(photos, out=tmp_path / "run", measure=())
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    checkpoint = load_checkpoint(last)
    assert checkpoint.teacher == ModelFolder.read(own).spec.fingerprint
    save_checkpoint(last, replace(checkpoint, teacher=""))  # an older version's, which tells nothing
    resume(photos, out=tmp_path / "run", measure=())


@pytest.mark.slow
@pytest.mark.usefixtures("untimed")
def test_a_student_of_another_architecture_becomes_a_folder_that_names_its_teacher_as_parent(
    photos: Path, tmp_path: Path
) -> None:
    teacher = train(override(Recipe(), [*SETTINGS, "epochs=1"]), photos, out=tmp_path / "teacher")
    rows = compress(teacher, [Distill(student="resnet20_b", epochs=1)], out=tmp_path / "out")
    student = ModelFolder.read(rows[-1].path)
    assert student.spec.architecture.name == "resnet20_b"
    assert student.spec.provenance.parent == teacher.spec.fingerprint
    on = compress(student, [Distill(teacher=str(teacher.path), epochs=1)], out=tmp_path / "on")
    assert ModelFolder.read(on[-1].path).spec.provenance.parent == student.spec.fingerprint


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300, 0, -1])
def test_a_temperature_is_a_number_that_can_be_computed_with(value: float) -> None:
    with pytest.raises(RecipeError, match="must be greater than 0 and at most 1,000"):
        DistillConfig(teacher="x", temperature=value)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["distill.temperature=0"], "must be greater than 0"),
        (["distill.temperature=1e300"], "must be greater than 0 and at most 1,000"),
        (["distill.weight=0"], "above 0 and at most 1"),
        (["distill.weight=0.5"], "distill.teacher, which is null"),
        (["distill.attention=1000"], "distill.teacher, which is null"),
        (["distill.unlabelled=x"], "distill.teacher, which is null"),
        (["distill.teacher=x", "distill.unlabelled=y", "data.sampling=balanced"], "balances by labels"),
        (["distill.teacher=x", "distill.attention=-1"], "at least 0"),
        (["distill.teacher=x", "distill.attention=1", "train.compile=true"], "train.compile"),
        (["distill.teacher=x", "data.label_separator=;"], "several labels"),
        (["distill.teacher=x", "finetune.probe=true", "model.pretrained=y"], "finetune.probe"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: list[str], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        override(Recipe(), settings)


def test_a_teacher_that_can_t_teach_is_found_before_any_image_is_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="has no classes of yours"):
        train(override(Recipe(), [*SETTINGS, "distill.teacher=timm/resnet18"]), tmp_path / "no", out=tmp_path / "run")
    with pytest.raises(ModelError, match="There is no model folder 'nowhere'"):
        train(override(Recipe(), [*SETTINGS, "distill.teacher=nowhere"]), tmp_path / "no", out=tmp_path / "run")


def test_distilling_needs_someone_who_teaches(tmp_path: Path, run_cli: Callable[..., tuple[int, str, str]]) -> None:
    with pytest.raises(ModelError, match="name the model folder that teaches"):
        Distill()
    code, _, said = run_cli("compress", tmp_path, "--student", "resnet2")
    assert (code, "Unknown model 'resnet2'" in said) == (2, True)


def test_settings_of_distillation_reach_it_and_the_teacher_has_its_own_option(
    parent: ModelFolder, tmp_path: Path
) -> None:
    images, teacher = find_images(parent, None), str(make_folder(tmp_path / "teacher").path)
    method = Distill(teacher=teacher, epochs=1, settings=("distill.attention=10", "distill.temperature=9"))
    assert method.recipe(images.recipe, parent).distill == DistillConfig(teacher=teacher, attention=10, temperature=9)
    with pytest.raises(RecipeError, match="name it by --distill"):
        replace(method, settings=("distill.teacher=nobody",)).recipe(images.recipe, parent)


def test_another_teacher_in_the_same_place_is_another_step(parent: ModelFolder, tmp_path: Path) -> None:
    method = Distill(teacher=str(make_folder(tmp_path / "teacher").path), epochs=1)
    before = method.sources()
    shutil.rmtree(tmp_path / "teacher")
    shutil.copytree(parent.path, tmp_path / "teacher")
    assert method.sources() == {"teacher": parent.spec.fingerprint} != before


@pytest.mark.usefixtures("untimed")
def test_a_student_keeps_its_own_recipe_even_of_its_teacher_s_architecture(parent: ModelFolder, tmp_path: Path) -> None:
    [_, row] = compress(parent, [Distill(student=parent.spec.architecture.name, epochs=2)], out=tmp_path / "out")
    kept = stored_recipe(Path(str(row.path)))
    assert kept.epochs == 2
    assert kept.distill.teacher == str(parent.path)
    [_, on] = compress(parent, [Distill(teacher=str(parent.path), epochs=1)], out=tmp_path / "on")
    assert stored_recipe(Path(str(on.path))) == stored_recipe(parent.path)


def test_a_student_of_fewer_epochs_sees_images_of_the_full_size(parent: ModelFolder) -> None:
    images = find_images(parent, None)
    growing = replace(
        images, recipe=replace(images.recipe, epochs=9, augment=(Flip(), ResizeProgressively(start=8, epochs=3)))
    )
    short = Distill(student="resnet20", epochs=2).recipe(growing.recipe, parent)
    assert short.augment == (Flip(),)


def test_a_student_is_trained_on_as_the_network_it_is(parent: ModelFolder, tmp_path: Path) -> None:
    fresh = make_folder(tmp_path / "student")
    another = replace(fresh.spec.architecture, activation="gelu")
    student = ModelFolder(fresh.path, replace(fresh.spec, architecture=another))
    recipe = tuning_recipe(find_images(parent, None).recipe, student, 1)
    assert (recipe.model.activation, recipe.model.pretrained) == ("gelu", str(student.path))


@pytest.mark.parametrize(
    "settings",
    [
        ["optim.name=schedulefree_adamw"],
        ["train.monitor=accuracy", "train.select=last", "train.patience=5"],
        ["optim.warmup_epochs=2"],
        ["optim.schedule=multistep", "optim.milestones=[3,5]"],
        ["train.swa_start=0.5", "train.swa_lr=0.01"],
    ],
)
def test_what_belongs_to_the_model_s_own_epochs_is_left_out_of_others(settings: list[str], parent: ModelFolder) -> None:
    images = find_images(parent, None)
    images = replace(images, recipe=override(replace(images.recipe, epochs=9), settings))
    student = Distill(student="resnet20", epochs=1).recipe(images.recipe, parent)
    for recipe in (tuning_recipe(images.recipe, parent, 1), student):
        assert (recipe.epochs, recipe.optim.warmup_epochs, recipe.train.patience) == (1, 0, None)


@pytest.mark.usefixtures("untimed")
def test_a_step_goes_on_however_its_model_and_teacher_are_spelled(
    parent: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    teacher, place = make_folder(tmp_path / "teacher").path, tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.chdir(tmp_path)
        kill_at_step(patch, 3)
        compress(os.path.relpath(parent.path), [Distill(teacher="teacher", epochs=2)], out="out")
    caplog.set_level(logging.INFO, "sightline")
    [_, row] = compress(parent.path, [Distill(teacher=str(teacher), epochs=2)], out=place)
    assert "Going on with epoch 2 of 2" in caplog.text
    monkeypatch.chdir(tmp_path)
    [_, again] = compress(parent.path, [Distill(teacher="./teacher", epochs=2)], out=place)
    assert "1-distill was done before and is kept" in caplog.text
    assert again.path == row.path


@pytest.mark.parametrize(
    "options",
    [
        ("--prune", "macs=0.7"),
        ("--prune", "macs", "--sweep", "0.7,0.5"),
        ("--sparsify", "0.5"),
        ("--distill", "PARENT"),
        ("--student", "resnet20_b"),
        ("--quantize", "int8", "--quantize-epochs", "1"),
    ],
)
def test_settings_of_the_training_that_can_t_be_are_found_before_any_image_is_read(
    options: tuple[str, ...],
    parent: ModelFolder,
    tmp_path: Path,
    run_cli: Callable[..., tuple[int, str, str]],
) -> None:
    words = [str(parent.path) if word == "PARENT" else word for word in options]
    code, _, said = run_cli("compress", parent.path, tmp_path / "nowhere", *words, "--set", "optim.lr=.nan")
    assert (code, said) == (2, "error: optim.lr should be finite, got nan.\n")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--distill", "nowhere"), "There is no model folder 'nowhere'"),
        (("--distill", "OTHERS"), "doesn't know the data's 'red'"),
        (("--distill", "PARENT", "--temperature", "0"), "temperature must be greater than 0"),
        (("--student", "resnet20_b", "--weight", "2"), "weight must be above 0"),
    ],
)
def test_what_can_t_teach_is_found_before_an_earlier_step(
    options: tuple[str, ...],
    sentence: str,
    parent: ModelFolder,
    tmp_path: Path,
    run_cli: Callable[..., tuple[int, str, str]],
) -> None:
    others = make_folder(tmp_path / "others", ("blue", "green")).path
    words = [{"PARENT": str(parent.path), "OTHERS": str(others)}.get(word, word) for word in options]
    code, _, said = run_cli(
        *("compress", parent.path, "--prune", "macs=0.7", "--epochs", "0", *words, "--out", tmp_path / "out")
    )
    assert (code, sentence in said) == (2, True), said
    assert not (tmp_path / "out").exists()


def test_a_model_of_several_labels_is_refused_before_an_earlier_step(parent: ModelFolder, tmp_path: Path) -> None:
    several = replace(parent.spec, task="multi_label", thresholds=Thresholds(values=(0.5,) * 3, fitted_on="nothing"))
    data = {**several.provenance.data, "label_separator": ";"}
    spec = replace(several, provenance=replace(several.provenance, data=data))
    folder = ModelFolder.write(tmp_path / "several", spec, parent.model().state_dict())
    with pytest.raises(RecipeError, match="several labels"):
        compress(folder, [Sparsify(share=0.5, epochs=1), Distill(student="resnet20")], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
