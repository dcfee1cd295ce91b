"""What is frozen stays to the bit, what joins later joins at its epoch, and a kill at the boundary changes nothing."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from making import make_photos
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import RecipeError
from sightline.model_folder import ModelFolder
from sightline.models import create_model, families
from sightline.recipe import FineTuneConfig, Recipe
from sightline.recipe_text import override
from sightline.training import fast_dev_run, resume, train
from sightline.training.freezing import Freezing
from sightline.training.task import ClassificationTask

SETTINGS = [
    "model.name=resnet20",
    "data.image_size=16",
    "data.resize=18",
    "data.num_workers=0",
    "batch_size=5",
    "optim.weight_decay=0.1",
    "train.checkpoint_minutes=0",
    "train.select=last",
]
GRADUAL = ["epochs=3", "finetune.head_epochs=1", "finetune.unfreeze_every=1", "optim.accumulate=2"]
BATCHES = 5  # an epoch, of the 24 of 36 images that are trained on


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights to build on: a file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("parent") / "weights.safetensors"
    save_file(create_model("resnet20", num_classes=3, image_size=16).state_dict(), path)
    return path


def recipe(parent: Path, *settings: str) -> Recipe:
    return override(Recipe(), [*SETTINGS, f"model.pretrained={parent}", *settings])


def stage_of(name: str) -> str:
    return name.partition(".")[0]


def changed(parent: Path, folder: ModelFolder) -> set[str]:
    """The stages of which some tensor is another one than the parent's, statistics included."""
    before, after = load_file(parent), load_file(folder.path / "weights.safetensors")
    return {stage_of(name) for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def freezing(epochs: int = 20, **settings: Any) -> Freezing:
    return Freezing(create_model("resnet20"), FineTuneConfig(**settings), epochs)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0, 0, 0, 0, 0, 0, 0, 0]),
        ({"freeze": "all"}, [4, 4, 4, 4, 4, 4, 4, 4]),
        ({"freeze": "layer2"}, [2, 2, 2, 2, 2, 2, 2, 2]),
        ({"freeze": "layer3"}, [3, 3, 3, 3, 3, 3, 3, 3]),
        ({"head_epochs": 2}, [4, 4, 0, 0, 0, 0, 0, 0]),
        ({"head_epochs": 2, "freeze": "layer1"}, [4, 4, 1, 1, 1, 1, 1, 1]),
        ({"head_epochs": 1, "unfreeze_every": 2}, [4, 2, 2, 1, 1, 0, 0, 0]),
        ({"unfreeze_every": 2}, [4, 4, 2, 2, 1, 1, 0, 0]),
        ({"unfreeze_every": 2, "freeze": "layer1"}, [4, 4, 2, 2, 1, 1, 1, 1]),
    ],
)
def test_what_trains_is_a_function_of_the_epoch(settings: dict[str, Any], expected: list[int]) -> None:
    plan = freezing(**settings)
    assert [plan.first_trained(epoch) for epoch in range(8)] == expected


@pytest.mark.parametrize("name", [min(f.variants, key=lambda n: f.variants[n].num_params) for f in families().values()])
def test_every_family_s_stages_join_from_the_head_s_side_until_all_train(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    plan = Freezing(model, FineTuneConfig(unfreeze_every=1), 20)
    trained: list[set[str]] = []
    for epoch in range(len(plan.stages) + 1):
        plan.apply(epoch)
        trained.append({name for name, parameter in model.named_parameters() if parameter.requires_grad})
    head = {f"head.{name}" for name, _ in model.head.named_parameters()}
    assert {name for name in trained[0] if not name.startswith("auxiliary.")} == head
    assert all(earlier < later for earlier, later in itertools.pairwise(trained))
    assert trained[-1] == {name for name, _ in model.named_parameters()}


def test_frozen_parameters_have_no_gradient_and_frozen_batch_norms_keep_their_statistics() -> None:
    model = create_model("resnet20", num_classes=3, image_size=16)
    plan = Freezing(model, FineTuneConfig(freeze="layer2"), 1)
    model.train()
    plan.apply(0)
    before = {name: tensor.clone() for name, tensor in model.named_buffers()}
    F.cross_entropy(model(torch.randn(4, 3, 16, 16)), torch.tensor([0, 1, 2, 0])).backward()
    with_gradient = {stage_of(name) for name, parameter in model.named_parameters() if parameter.grad is not None}
    drifted = {stage_of(name) for name, tensor in model.named_buffers() if not torch.equal(before[name], tensor)}
    assert with_gradient == {"layer3", "head"}
    assert drifted == {"layer3"}


def test_batch_norms_that_join_the_training_follow_the_batches_again() -> None:
    model = create_model("resnet20")
    plan = Freezing(model, FineTuneConfig(head_epochs=1), 2)
    norm = model.get_submodule("layer1.0.bn1")
    assert isinstance(norm, nn.BatchNorm2d)
    plan.apply(0)
    assert not norm.training
    plan.apply(1)
    assert norm.training


def test_batch_norms_that_keep_their_statistics_train_their_weights(
    parent: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="sightline"):
        folder = train(
            recipe(parent, "epochs=2", "finetune.keep_statistics=true", "finetune.head_epochs=1"), data, out=tmp_path
        )
    before, after = load_file(parent), load_file(folder.path / "weights.safetensors")
    statistics = {name for name in before if name.rpartition(".")[2] in ("running_mean", "running_var")}
    same = {name for name, tensor in before.items() if torch.equal(tensor, after[name])}
    assert statistics
    assert statistics <= same
    assert "layer1.0.bn1.weight" not in same
    assert "19 batch norms keep their statistics." in caplog.messages


def test_keeping_statistics_that_a_network_hasn_t_is_said() -> None:
    plan = Freezing(create_model("vit_ti_16", image_size=32), FineTuneConfig(keep_statistics=True), 2)
    assert plan.plan() == ["finetune.keep_statistics changes nothing: this network has no batch norm."]


def test_the_optimiser_holds_what_will_ever_train_and_nothing_else() -> None:
    model = create_model("resnet20")
    plan = Freezing(model, FineTuneConfig(freeze="layer1", head_epochs=1), 2)
    plan.apply(0)
    plan.release()
    held = {stage_of(name) for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert held == {"layer2", "layer3", "head"}


def test_the_plan_is_told_in_words() -> None:
    assert freezing().plan() == []
    assert freezing(head_epochs=2, unfreeze_every=3, freeze="layer1").plan() == [
        "From epoch 1 on the head is trained: 650 parameters.",
        "From epoch 3 on layer3 and what follows it are trained: 204,170 parameters.",
        "From epoch 6 on layer2 and what follows it are trained: 255,242 parameters.",
        "Never trained: 14,480 parameters.",
    ]


@pytest.mark.parametrize(("stage", "trained"), [("layer2", {"layer3", "head"}), ("all", {"head"})])
def test_a_frozen_stage_ends_as_it_began_though_weights_decay(
    stage: str, trained: set[str], parent: Path, data: Path, tmp_path: Path
) -> None:
    folder = train(recipe(parent, "epochs=2", f"finetune.freeze={stage}"), data, out=tmp_path / "run")
    assert changed(parent, folder) == trained


def test_the_head_alone_is_trained_first(parent: Path, data: Path, tmp_path: Path) -> None:
    checkpoints: list[set[str]] = []
    original = ClassificationTask.on_train_batch_start

    def watching(self: ClassificationTask, batch: Any, batch_idx: int) -> None:
        original(self, batch, batch_idx)
        checkpoints.append({stage_of(name) for name, p in self.model.named_parameters() if p.requires_grad})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClassificationTask, "on_train_batch_start", watching)
        train(recipe(parent, *GRADUAL), data, out=tmp_path / "run")
    # An update of two batches that begins in the first epoch is the first epoch's, in its second batch, too.
    assert checkpoints[: BATCHES + 1] == [{"head"}] * (BATCHES + 1)
    assert checkpoints[BATCHES + 1 : 2 * BATCHES] == [{"head", "layer3"}] * (BATCHES - 1)
    assert checkpoints[2 * BATCHES :] == [{"head", "layer3", "layer2"}] * BATCHES


@pytest.fixture(scope="module")
def whole(parent: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """The uninterrupted run, in which one stage after another joins."""
    return train(recipe(parent, *GRADUAL), data, out=tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.parametrize("call", [BATCHES + 1, BATCHES + 2, 2 * BATCHES + 1])
def test_a_kill_around_a_boundary_changes_nothing(
    call: int, parent: Path, data: Path, whole: ModelFolder, tmp_path: Path
) -> None:
    chosen = recipe(parent, *GRADUAL)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_step(patch, call)
        train(chosen, data, out=tmp_path / "run")
    resumed = resume(data, out=tmp_path / "run")
    assert resumed.spec.weights_sha256 == whole.spec.weights_sha256


def kill_step(patch: pytest.MonkeyPatch, call: int) -> None:
    original: Callable[..., Tensor] = ClassificationTask.training_step
    calls = iter(range(1, 10_000))

    def killing(*arguments: Any) -> Tensor:
        if next(calls) == call:
            raise Killed
        return original(*arguments)

    patch.setattr(ClassificationTask, "training_step", killing)


def test_an_unknown_stage_is_refused_with_the_list_before_any_image_is_read(parent: Path, tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"'layr4' is no stage of this network\. It has layer1, layer2, layer3; \"all\""
    ):
        train(recipe(parent, "finetune.freeze=layr4"), tmp_path / "nowhere", out=tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["finetune.freeze=all", "finetune.head_epochs=1"], r"finetune\.freeze 'all' never trains more than the head"),
        (["finetune.probe=true", "finetune.freeze=layer1"], r"would ignore finetune\.freeze"),
        (
            ["model.pretrained=null", "finetune.keep_statistics=true"],
            r"finetune\.keep_statistics needs trained weights",
        ),
        (["finetune.probe=true", "finetune.unfreeze_every=2"], r"would ignore finetune\.unfreeze_every"),
        (["epochs=3", "finetune.head_epochs=3"], r"finetune\.head_epochs \(3\) must be less than epochs \(3\)"),
        (["epochs=3", "finetune.unfreeze_every=3"], r"finetune\.unfreeze_every \(3\) must be less than epochs \(3\)"),
        (["model.pretrained=null", "finetune.freeze=layer1"], r"finetune\.freeze needs trained weights"),
        (["model.pretrained=null", "finetune.probe=true"], r"finetune\.probe needs trained weights"),
        (["finetune.head_epochs=-1"], r"finetune\.head_epochs must be at least 0"),
        (["finetune.unfreeze_every=0"], r"finetune\.unfreeze_every must be at least 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_by_name(
    settings: list[str], sentence: str, parent: Path
) -> None:
    with pytest.raises(RecipeError, match=sentence):
        recipe(parent, *settings)


def test_a_dev_run_of_one_epoch_takes_a_recipe_that_trains_the_head_first(parent: Path, data: Path) -> None:
    fast_dev_run(recipe(parent, *GRADUAL), data)
