from pathlib import Path

import pytest
import torch
from making import make_photos
from torch import nn

from sightline.model_folder import ModelFolder
from sightline.recipe import OptimConfig, Recipe
from sightline.recipe_text import override
from sightline.training import train
from sightline.training.clipping import clip_gradients

PLAIN = [
    "model.name=resnet20",
    "model.norm=group",
    "data.image_size=16",
    "data.resize=18",
    "data.num_workers=0",
    "epochs=1",
    "train.select=last",
    "optim.name=sgd",
    "optim.momentum=0",
    "optim.lr=0.1",
]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential()
    model.kernel, model.norm, model.matrix = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5)
    model.head = nn.Linear(5, 2)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_by_norm_the_whole_gradient_keeps_its_direction() -> None:
    model = network()
    before = gradients(model)
    clip_gradients(model, OptimConfig(clip_norm=0.5))
    after = gradients(model)
    assert torch.cat([g.flatten() for g in after.values()]).norm().item() == pytest.approx(0.5, rel=1e-4)
    ratio = after["kernel.weight"] / before["kernel.weight"]
    assert torch.allclose(ratio, ratio.flatten()[0].expand_as(ratio))


def test_by_value_no_element_is_larger() -> None:
    model = network()
    before = gradients(model)
    clip_gradients(model, OptimConfig(clip_value=0.3))
    assert all(torch.equal(g, before[name].clamp(-0.3, 0.3)) for name, g in gradients(model).items())


def test_adaptive_clipping_is_timm_s_and_leaves_the_head() -> None:
    agc = pytest.importorskip("timm.utils.agc")
    model, reference = network(), network()
    agc.adaptive_clip_grad([p for name, p in reference.named_parameters() if "head" not in name], clip_factor=0.02)
    clip_gradients(model, OptimConfig(clip_adaptive=0.02))
    expected = gradients(reference)
    assert all(torch.allclose(g, expected[name], rtol=1e-5) for name, g in gradients(model).items())
    assert torch.equal(gradients(model)["head.weight"], gradients(network())["head.weight"])
    assert not torch.equal(gradients(model)["kernel.weight"], gradients(network())["kernel.weight"])


def test_adaptive_clipping_lets_a_unit_of_zeros_grow_and_short_gradients_alone() -> None:
    model = network()
    nn.init.zeros_(model.matrix.weight)
    nn.init.constant_(model.kernel.weight, 1000.0)
    before = gradients(model)
    clip_gradients(model, OptimConfig(clip_adaptive=0.01))
    after = gradients(model)
    assert after["matrix.weight"].norm(dim=1).tolist() == pytest.approx([1e-5] * 5)  # 0.01 of the smallest norm
    assert torch.equal(after["kernel.weight"], before["kernel.weight"])


@pytest.mark.parametrize("setting", ["optim.clip_norm=0.1", "optim.clip_value=0.001", "optim.clip_adaptive=0.001"])
def test_what_is_clipped_is_the_accumulated_gradient(setting: str, tmp_path: Path) -> None:
    """One update of two batches is clipped as one of a single batch twice as large."""
    data = make_photos(tmp_path / "photos")
    assert_equal_weights(
        train(override(Recipe(), [*PLAIN, setting, "batch_size=24"]), data, out=tmp_path / "large"),
        train(override(Recipe(), [*PLAIN, setting, "batch_size=12", "optim.accumulate=2"]), data, out=tmp_path / "two"),
        atol=1e-6,
    )


def assert_equal_weights(first: ModelFolder, second: ModelFolder, *, atol: float) -> None:
    for (name, a), b in zip(first.model().named_parameters(), second.model().parameters(), strict=True):
        assert torch.allclose(a, b, atol=atol), name


def largest_difference(first: ModelFolder, second: ModelFolder) -> float:
    pairs = zip(first.model().parameters(), second.model().parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """128 images to train on, and a few others."""
    folder = tmp_path_factory.mktemp("many")
    for split, count in (("train", 64), ("val", 4), ("test", 4)):
        make_photos(folder / split, classes=("blue", "green"), count=count)
    return folder


FOUR = ["batch_size=32", "optim.target_batch=128"]


def test_a_batch_of_128_is_four_of_32_accumulated_without_batch_norm(many: Path, tmp_path: Path) -> None:
    settings = [*PLAIN, "epochs=2"]
    large = train(override(Recipe(), [*settings, "batch_size=128"]), many, out=tmp_path / "large")
    small = train(override(Recipe(), [*settings, *FOUR]), many, out=tmp_path / "small")
    assert large.spec.provenance.data["images"]["train"] == 128
    assert largest_difference(large, small) < 1e-5


def test_with_batch_norm_it_is_not(many: Path, tmp_path: Path) -> None:
    """Each batch of 32 is normalised by its own statistics, so its gradients are those of another function."""
    settings = [*PLAIN, "model.norm=null"]
    large = train(override(Recipe(), [*settings, "batch_size=128"]), many, out=tmp_path / "large")
    small = train(override(Recipe(), [*settings, *FOUR]), many, out=tmp_path / "small")
    assert largest_difference(large, small) > 1e-3
