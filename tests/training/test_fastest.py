import logging
import shutil
import weakref
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from sightline.devices import autocast
from sightline.errors import RecipeError, SightlineError
from sightline.model_folder import Architecture
from sightline.models import Classifier, create_model
from sightline.recipe import DataConfig, FineTuneConfig, ModelConfig, OptimConfig, Recipe, TrainConfig
from sightline.training import fastest, resume, stored_recipe, train
from sightline.training.depthwise import DepthwiseConv2d, Float32Depthwise, differentiate_by_pieces
from sightline.training.fastest import Candidate, candidates, measure, resolved
from sightline.training.find_rate import find_learning_rate
from sightline.training.optimizers import build_optimizer

CPU = torch.device("cpu")
SMALL = Recipe(
    epochs=1,
    batch_size=4,
    model=ModelConfig(name="resnet20"),
    data=DataConfig(image_size=8, resize=8, num_workers=0),
    train=TrainConfig(fast="auto", device="cpu"),
)


@pytest.fixture(autouse=True)
def five_ways_to_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    """What resnet20 has on a processor with bfloat16 and without a compiler, whichever this one is."""
    monkeypatch.setattr(fastest, "emulates_bf16", lambda _: False)
    monkeypatch.setattr(fastest, "has_packable", lambda _: False)


def test_bf16_is_not_tried_where_the_processor_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest, "emulates_bf16", lambda device: device.type == "cpu")
    network = Architecture(name="resnet20", num_classes=10, image_size=32)
    assert {candidate.precision for candidate in candidates(network, CPU)} == {"float32"}
    assert len({candidate.precision for candidate in candidates(network, torch.device("cuda"))}) == 2


def test_the_median_of_interleaved_steps_is_what_counts() -> None:
    plain, better = Candidate(precision="float32", channels_last=False), Candidate(precision="bf16", channels_last=True)
    times = {plain: iter([9.0, 2.0, 2.0, 50.0, 2.0, 2.0]), better: iter([30.0, 1.9, 1.8, 1.9, 60.0, 1.9])}
    assert measure([plain, better], lambda candidate: next(times[candidate])) == {plain: 2.0, better: 1.9}


def test_a_hopeless_candidate_is_not_tried_again() -> None:
    tried: list[bool] = []

    def timer(candidate: Candidate) -> float:
        tried.append(candidate.channels_last)
        return 10.0 if candidate.channels_last else 1.0

    measure([Candidate(precision="float32", channels_last=last) for last in (False, True)], timer)
    assert tried.count(True) == 2
    assert tried.count(False) == 6


def test_depthwise_convolutions_are_a_choice_only_where_there_are_any() -> None:
    def kept(name: str) -> set[bool]:
        network = Architecture(name=name, num_classes=10, image_size=32)
        return {candidate.depthwise_float32 for candidate in candidates(network, CPU)}

    assert kept("resnet20") == {False}
    assert kept("efficientnet_b0_cifar") == {False, True}


@pytest.mark.parametrize("name", ["resnet20", "efficientnet_b0_cifar", "swin_t", "vit_ti_16"])
@pytest.mark.parametrize("emulated", [False, True])
def test_a_recipe_takes_whichever_is_chosen(name: str, emulated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # with the loops of this machine
    monkeypatch.setattr(fastest, "emulates_bf16", lambda _: emulated)
    tried = candidates(Architecture(name=name, num_classes=10, image_size=32), CPU)
    assert len({TrainConfig(fast="off", **asdict(candidate)) for candidate in tried}) == len(tried)


def test_what_was_chosen_is_said_remembered_and_leaves_nothing_to_choose(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="sightline")
    logging.getLogger("sightline").propagate = True
    first = resolved(SMALL)
    assert "Trying 5 ways to compute on cpu." in caplog.messages
    assert any(message.startswith("train.fast: ") and "images/s" in message for message in caplog.messages)
    caplog.clear()
    assert resolved(SMALL) == first
    assert not any(message.startswith("Trying") for message in caplog.messages)
    assert first.train.fast == "off"
    assert resolved(first) is first


def test_another_processor_under_the_same_name_is_measured_anew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="sightline")
    for instructions in ("avx512_bf16", "avx2"):
        caplog.clear()
        monkeypatch.setattr(fastest, "instructions", lambda has=instructions: has)
        resolved(SMALL)
        assert "Trying 5 ways to compute on cpu." in caplog.messages


def test_what_does_not_fit_into_memory_is_left_out_and_tried_again_the_next_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def only_bf16(device: torch.device, precision: str) -> torch.autocast:
        if precision == "float32":
            raise torch.OutOfMemoryError
        return autocast(device, precision)

    caplog.set_level(logging.INFO, logger="sightline")
    logging.getLogger("sightline").propagate = True
    recipe = replace(SMALL, batch_size=5)
    with monkeypatch.context() as patch:
        patch.setattr(fastest, "autocast", only_bf16)
        assert resolved(recipe).train.precision == "bf16"
    assert caplog.messages[-1].endswith(" images/s, float32, channels first doesn't fit.")
    caplog.clear()
    resolved(recipe)
    assert "Trying 5 ways to compute on cpu." in caplog.messages


def test_what_fits_into_memory_alone_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[Classifier] = weakref.WeakSet()
    tried: set[Candidate] = set()

    def memory_of_one(model: Classifier, config: OptimConfig) -> torch.optim.Optimizer:
        if alive:
            raise torch.OutOfMemoryError
        alive.add(model)
        return build_optimizer(model, config)

    def remember(path: Path, seconds: dict[Candidate, float]) -> None:
        tried.update(seconds)

    monkeypatch.setattr(fastest, "_ROUNDS", 1)
    monkeypatch.setattr(fastest, "build_optimizer", memory_of_one)
    monkeypatch.setattr(fastest, "_remember", remember)
    resolved(replace(SMALL, batch_size=6))
    assert len(tried) == 5


def test_a_batch_that_fits_in_no_way_is_one_sentence() -> None:
    recipe = replace(SMALL, batch_size=1_000_000_000, data=replace(SMALL.data, image_size=4096, resize=4096))
    with pytest.raises(SightlineError, match=r"^Memory ran out\. Lower batch_size"):
        resolved(recipe)


def test_a_run_keeps_what_was_chosen_and_goes_on_with_it(photos: Path, tmp_path: Path) -> None:
    train(SMALL, photos, out=tmp_path / "run")
    stored = stored_recipe(tmp_path / "run")
    assert stored.train.fast == "off"
    weights = (tmp_path / "run" / "weights.safetensors").read_bytes()
    (tmp_path / "run" / "model.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert resume(photos, out=tmp_path / "run", recipe=SMALL).spec.figures
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16"},
        {"channels_last": True},
        {"precision": "bf16", "depthwise_float32": True},
        {"matmul_convolutions": True},
        {"precision": "bf16", "mixed_attention": True},
    ],
)
def test_a_setting_that_auto_would_overrule_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match=r"train\.fast is 'auto', which chooses train\."):
        replace(TrainConfig(fast="auto"), **settings)


def test_depthwise_in_float32_gives_the_float32_layer_s_answer_inside_of_a_bfloat16_pass() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 6, 3, padding=1, groups=6)
    images = torch.randn(2, 6, 5, 5, requires_grad=True)
    expected = layer(images)
    model = nn.Sequential(layer)
    names = list(model.state_dict())
    assert differentiate_by_pieces(model, in_float32=True) == 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model(images), expected)
        assert model(images.bfloat16()).dtype == torch.bfloat16
    model(images).sum().backward()
    assert layer.weight.grad is not None
    assert list(model.state_dict()) == names


def test_only_depthwise_convolutions_are_swapped() -> None:
    model = create_model("efficientnet_b0_cifar", num_classes=10, image_size=32)
    for in_float32, layer in ((False, DepthwiseConv2d), (True, Float32Depthwise), (False, DepthwiseConv2d)):
        count = differentiate_by_pieces(model, in_float32=in_float32)
        assert count == 16  # Table 1's blocks
        assert sum(type(module) is layer for module in model.modules()) == count
    assert differentiate_by_pieces(create_model("resnet20", num_classes=10)) == 0


def test_a_probe_has_nothing_to_choose() -> None:
    probe = replace(SMALL, finetune=FineTuneConfig(probe=True), model=ModelConfig(name="resnet20", pretrained="x.pth"))
    assert resolved(probe) is probe


def test_the_range_test_computes_as_the_training_would(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="sightline")
    logging.getLogger("sightline").propagate = True
    find_learning_rate(SMALL, photos, updates=20)
    assert any(message.startswith("train.fast: ") for message in caplog.messages)
