"""Quantisation-aware training: the levels, the gradients, and what is left of it in the folder."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from sightline.compression import compress
from sightline.compression.quantize import Quantize
from sightline.errors import ModelError, RecipeError
from sightline.exported_folder import ExportedFolder
from sightline.models import create_model
from sightline.prediction import collect_logits
from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.training import job, resume, train
from sightline.training.depthwise import DepthwiseConv2d, Float32Depthwise, differentiate_by_pieces
from sightline.training.fake_quantizing import (
    RoundedConv2d,
    RoundedDepthwise,
    RoundedFloat32Depthwise,
    RoundedLinear,
    fake_quantize,
    rounded_input,
    rounded_weight,
    stop_fake_quantizing,
)
from sightline.training.task import ClassificationTask

SETTINGS = [
    *("model.name=resnet20", "data.image_size=16", "data.resize=18", "data.num_workers=0", "data.cache=false"),
    *("epochs=2", "batch_size=12", "optim.lr=3e-3", "train.checkpoint_minutes=0"),
]


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shift", [0.0, 3.0, -9.0])
def test_inputs_come_at_256_levels_half_a_step_away_at_most_and_zero_stays(shift: float) -> None:
    values = drawn(2, 8, 16, 16) + shift
    values[0, 0, 0, 0] = 0
    found = rounded_input(values)
    step = (max(values.max().item(), 0) - min(values.min().item(), 0)) / 255
    assert 100 < len(found.unique()) <= 256
    assert found[0, 0, 0, 0] == 0
    assert (found - values).abs().max() <= step * 0.5001 + step * 0.5  # the outermost level moves with the zero
    assert (found - values).abs().mean() < step * 0.3


def test_a_tensor_of_zeros_stays_zero() -> None:
    assert rounded_input(torch.zeros(2, 3)).abs().max() == 0
    assert rounded_weight(torch.zeros(2, 3)).abs().max() == 0


def test_weights_come_at_255_levels_for_each_output() -> None:
    weight = drawn(6, 5, 3, 3) * torch.logspace(-4, 4, 6)[:, None, None, None]
    found = rounded_weight(weight)
    for row, rounded in zip(weight, found, strict=True):
        step = row.abs().max() / 127
        torch.testing.assert_close(rounded / step, (rounded / step).round(), rtol=0, atol=1e-3)
        assert (rounded - row).abs().max() <= step * 0.5001


def test_the_levels_are_those_of_the_network_with_its_batch_norms_folded_in() -> None:
    weight, factor = drawn(4, 3, 3, 3), torch.tensor([0.25, 1, 2, 16])[:, None, None, None]
    assert torch.equal(rounded_weight(weight * factor), rounded_weight(weight) * factor)


def test_gradients_pass_as_if_nothing_were_rounded() -> None:
    values, weight = drawn(4, 5).requires_grad_(), drawn(3, 5, seed=1).requires_grad_()
    (rounded_input(values) * 2).sum().backward()
    (rounded_weight(weight) * 3).sum().backward()
    assert values.grad is not None
    assert weight.grad is not None
    assert (values.grad == 2).float().mean() > 0.9  # the outermost level may lie inside the range
    assert torch.equal(weight.grad, torch.full((3, 5), 3.0))


def test_bfloat16_comes_back_as_bfloat16() -> None:
    assert rounded_input(drawn(2, 3).bfloat16()).dtype == torch.bfloat16


class Own(nn.Linear):
    """A layer with a forward of its own."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        return super().forward(input) + 1


def test_a_network_is_rounded_and_itself_again() -> None:
    model = create_model("resnet20", num_classes=3, image_size=16).eval()
    images = drawn(2, 3, 16, 16)
    before, names = model(images), list(model.state_dict())
    weights = list(model.parameters())
    assert fake_quantize(model) == 20  # 19 convolutions and the head: its shortcuts have none
    rounded = model(images)
    assert list(model.state_dict()) == names
    assert all(one is other for one, other in zip(model.parameters(), weights, strict=True))
    assert 0 < (rounded - before).abs().max() < 0.2 * before.abs().max()
    assert stop_fake_quantizing(model) == 20
    assert torch.equal(model(images), before)
    assert fake_quantize(nn.Sequential(Own(2, 2))) == 0


def test_training_rounds_and_what_is_calibrated_and_kept_does_not(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = override(Recipe(), [*SETTINGS, "epochs=1"])
    plain = train(recipe, photos, out=tmp_path / "plain", measure=())
    calibrated: list[nn.Module] = []

    def collecting(model: nn.Module, *arguments: object, **settings: object) -> object:
        calibrated.append(copy.deepcopy(model))
        return collect_logits(model, *arguments, **settings)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(job, "collect_logits", collecting)
    aware = train(override(recipe, ["train.fake_quantize=true"]), photos, out=tmp_path / "aware", measure=())
    assert aware.spec.weights_sha256 != plain.spec.weights_sha256
    (model,) = calibrated
    assert not any(isinstance(module, RoundedConv2d | RoundedLinear) for module in model.modules())
    for name, tensor in aware.model().state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor)


@pytest.mark.parametrize("in_float32", [False, True])
def test_depthwise_convolutions_are_rounded_too(in_float32: bool) -> None:
    model = create_model("efficientnet_b0_cifar", num_classes=3).eval()
    images = drawn(2, 3, 32, 32)
    plain = copy.deepcopy(model)
    assert differentiate_by_pieces(model, in_float32=in_float32) == 16
    assert fake_quantize(model) == fake_quantize(plain)
    torch.testing.assert_close(model(images), plain(images), rtol=1e-4, atol=1e-4)
    kinds = [type(module) for module in model.modules()]
    assert kinds.count(RoundedFloat32Depthwise if in_float32 else RoundedDepthwise) == 16
    stop_fake_quantizing(model)
    assert (Float32Depthwise if in_float32 else DepthwiseConv2d) in {type(module) for module in model.modules()}


def test_a_probe_has_nothing_to_round() -> None:
    with pytest.raises(RecipeError, match="finetune.probe trains no layer"):
        override(Recipe(), ["train.fake_quantize=true", "finetune.probe=true", "model.pretrained=default"])


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_weights(photos: Path, tmp_path: Path) -> None:
    recipe = override(Recipe(), [*SETTINGS, "train.fake_quantize=true"])
    whole = train(recipe, photos, out=tmp_path / "whole", measure=())
    calls = iter(range(100))
    original = ClassificationTask.training_step

    def killing(*arguments: object) -> object:
        if next(calls) == 3:
            raise Killed
        return original(*arguments)  # pyright: ignore[reportArgumentType]

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(ClassificationTask, "training_step", killing)
        train(recipe, photos, out=tmp_path / "killed", measure=())
    assert resume(photos, out=tmp_path / "killed", measure=()).spec.weights_sha256 == whole.spec.weights_sha256


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_an_int8_model_is_trained_first_where_that_is_asked_for(photos: Path, tmp_path: Path, engine: str) -> None:
    parent = train(override(Recipe(), [*SETTINGS, "epochs=1"]), photos, out=tmp_path / "parent")
    how = Quantize(engine=engine, epochs=1, settings=("optim.lr=1e-3",))  # pyright: ignore[reportArgumentType]
    [_, row] = compress(parent, [how], out=tmp_path / "out")
    found = ExportedFolder.read(row.path)
    assert found.artefact.details["aware_epochs"] == 1
    assert found.artefact.parent == parent.spec.fingerprint
    assert found.spec.weights_sha256 != parent.spec.weights_sha256


def test_rounding_is_of_int8_alone() -> None:
    with pytest.raises(ModelError, match="rounds no activations"):
        Quantize(precision="fp16", epochs=2)
    with pytest.raises(ModelError, match="at least 0"):
        Quantize(epochs=-1)
