"""Batch norm by compiled loops, with the activation behind it, is torch's but for rounding."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.checkpointing import checkpoint_activations
from sightline.devices import autocast
from sightline.errors import RecipeError
from sightline.model_folder import Architecture
from sightline.models import create_model
from sightline.native import batch_norm
from sightline.native.batch_norm import Activation
from sightline.recipe import TrainConfig
from sightline.summary import training_memory
from sightline.training.fastest import Candidate, candidates
from sightline.training.fused_norms import FusedBatchNorm2d, FusedGELU, FusedSiLU, fuse_norms
from sightline.training.layers import settle_layers
from sightline.training.rectifying import FusedReLU, rectify_by_integers

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}
HERE = [name for name, dtype in PRECISIONS.items() if batch_norm.available(dtype)]
OTHER = {torch.float32: torch.bfloat16, torch.bfloat16: torch.float32}
pytestmark = pytest.mark.skipif(not HERE, reason="needs AVX2 and a C compiler")


@pytest.fixture(params=PRECISIONS)
def precision(request: pytest.FixtureRequest) -> str:
    if request.param not in HERE:
        pytest.skip("needs AVX-512 BF16")
    return request.param


@pytest.fixture
def dtype(precision: str) -> torch.dtype:
    return PRECISIONS[precision]


def close(given: Tensor, expected: Tensor, atol: float = 0.02) -> None:
    """Up to the rounding of the given tensor's type."""
    share = 1 if given.dtype == torch.bfloat16 else 1e-3
    torch.testing.assert_close(given, expected, atol=atol * share, rtol=0.02 * share)


def noise(dtype: torch.dtype, *shape: int, seed: int = 0, mean: float = 0.0) -> Tensor:
    """The channel innermost."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + mean
    return values.to(dtype).contiguous(memory_format=torch.channels_last)


def gradients(layer: nn.Module, images: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    leaf = images.clone(memory_format=torch.preserve_format).requires_grad_()
    output = layer(leaf * 1)
    output.backward(slopes)
    assert leaf.grad is not None
    return output.detach(), leaf.grad


def distance(values: Tensor, exact: Tensor) -> float:
    """Relative to the exact values' length."""
    return float((values.double() - exact.double()).norm() / exact.double().norm())


BEHIND = {
    Activation.NOTHING: nn.Identity,
    Activation.RELU: lambda: nn.ReLU(inplace=True),
    Activation.SILU: nn.SiLU,
    Activation.GELU: nn.GELU,
}
FUSED = {Activation.SILU: FusedSiLU, Activation.RELU: FusedReLU, Activation.GELU: FusedGELU}


def block(channels: int, activation: Activation = Activation.NOTHING, **settings: Any) -> nn.Sequential:
    """A norm with weights of its own, and what is behind it."""
    norm = nn.BatchNorm2d(channels, **settings)
    if norm.affine:
        with torch.no_grad():
            norm.weight.copy_(torch.linspace(-0.5, 2, channels))
            norm.bias.copy_(torch.linspace(1, -1, channels))
    return nn.Sequential(norm, BEHIND[activation]())


def by_loops(model: nn.Sequential, dtype: torch.dtype, *, together: bool = True) -> nn.Sequential:
    """A copy of a block that computes so, the activation in the same pass or by itself."""
    ours = copy.deepcopy(model)
    activation = next(each for each, kind in BEHIND.items() if type(kind()) is type(model[1]))
    ours[0].__class__, ours[0].dtype = FusedBatchNorm2d, dtype
    ours[0].activation = activation if together else Activation.NOTHING
    if activation is not Activation.NOTHING:
        ours[1].__class__ = FUSED[activation]
    if dtype == torch.bfloat16:
        rectify_by_integers(ours)
    return ours


@pytest.mark.parametrize("activation", list(Activation))
@pytest.mark.parametrize(
    "shape", [(4, 3, 5, 7), (8, 16, 9, 9), (2, 24, 14, 14), (64, 40, 1, 1), (3, 65, 11, 2), (16, 256, 7, 7)]
)
def test_values_and_gradients_are_as_exact_as_torchs(
    shape: tuple[int, ...], activation: Activation, dtype: torch.dtype
) -> None:
    theirs = block(shape[1], activation)
    ours = by_loops(theirs, dtype)
    exact = copy.deepcopy(theirs).double()
    images, slopes = noise(dtype, *shape, mean=2), noise(dtype, *shape, seed=1)
    expected, expected_grad = gradients(exact, images.double(), slopes.double())
    output, grad = gradients(ours, images, slopes)
    other, other_grad = gradients(theirs, images, slopes)
    assert output.dtype == grad.dtype == dtype
    assert output.is_contiguous(memory_format=torch.channels_last)
    times = 1.1 if dtype == torch.bfloat16 else 1.5  # of float32's last bits the order of sums decides
    assert distance(output, expected) < times * distance(other, expected) + 1e-6
    assert distance(grad, expected_grad) < times * distance(other_grad, expected_grad) + 1e-6
    for parameter, usual, truth in zip(ours.parameters(), theirs.parameters(), exact.parameters(), strict=True):
        assert distance(parameter.grad, truth.grad) < 1.5 * distance(usual.grad, truth.grad) + 1e-5
    for name, buffer in exact.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name).double(), buffer.double(), atol=1e-6, rtol=1e-5)


def test_a_mean_far_from_zero_costs_no_accuracy(dtype: torch.dtype) -> None:
    images = noise(dtype, 8, 16, 16, 16, mean=200)
    given = batch_norm.normalize(images, None, None, None, 0.0, 1e-5, Activation.NOTHING).images
    expected = F.batch_norm(images.double(), None, None, training=True)
    assert distance(given, expected) < (3e-3 if dtype == torch.bfloat16 else 3e-5)


def test_an_outlier_among_the_first_pixels_costs_no_accuracy(dtype: torch.dtype) -> None:
    images = noise(dtype, 64, 8, 32, 32)
    images[0, :, 0, 0] = 3e4
    ours = by_loops(block(8, momentum=1.0), dtype)
    ours(images)
    assert distance(ours[0].running_var, images.double().var((0, 2, 3))) < 1e-5


def test_statistics_of_one_batch_alone_keep_their_digits(dtype: torch.dtype) -> None:
    images = noise(dtype, 8, 8, 8, 8) * 1e-3
    ours = by_loops(block(8, momentum=None), dtype)
    ours(images)
    assert distance(ours[0].running_var, images.double().var((0, 2, 3))) < 1e-5


@pytest.mark.parametrize("settings", [{"affine": False}, {"momentum": None}, {"momentum": 0.3, "eps": 0.1}])
def test_other_kinds_of_batch_norm(settings: dict[str, Any], dtype: torch.dtype) -> None:
    theirs = block(20, **settings)
    ours = by_loops(theirs, dtype)
    for seed in range(3):
        images, slopes = noise(dtype, 4, 20, 6, 6, seed=seed), noise(dtype, 4, 20, 6, 6, seed=9)
        expected, expected_grad = gradients(theirs, images, slopes)
        output, grad = gradients(ours, images, slopes)
        close(output, expected)
        close(grad, expected_grad)
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), buffer)


def test_without_running_statistics(dtype: torch.dtype) -> None:
    theirs = block(20, track_running_stats=False)
    ours = by_loops(theirs, dtype)
    close(ours(noise(dtype, 4, 20, 6, 6)), theirs(noise(dtype, 4, 20, 6, 6)))


def test_frozen_parts_get_no_gradient(dtype: torch.dtype) -> None:
    layer = by_loops(block(16), dtype)
    layer[0].bias.requires_grad_(requires_grad=False)
    layer(noise(dtype, 4, 16, 6, 6)).sum().backward()
    assert layer[0].bias.grad is None
    assert layer[0].weight.grad is not None


def test_a_gradient_that_was_expanded(dtype: torch.dtype) -> None:
    layer = block(16, Activation.RELU)
    ours = by_loops(layer, dtype, together=False)
    slopes = torch.ones(1, 1, 1, 1, dtype=dtype).expand(4, 16, 6, 6)
    expected, expected_grad = gradients(layer, noise(dtype, 4, 16, 6, 6), slopes)
    output, grad = gradients(ours, noise(dtype, 4, 16, 6, 6), slopes)
    close(output, expected)
    close(grad, expected_grad, atol=0.05)


@pytest.mark.parametrize("activation", list(Activation))
def test_a_network_that_diverged_says_so(activation: Activation, dtype: torch.dtype) -> None:
    layer = by_loops(block(16, activation), dtype)
    images = noise(dtype, 4, 16, 6, 6)
    images[1, 3] = float("nan")
    output = layer(images)
    assert output[:, 3].isnan().all()
    assert not output[:, 4].isnan().any()


@pytest.mark.parametrize("activation", list(FUSED))
@pytest.mark.parametrize(
    "change",
    [
        lambda layer, images: (layer.eval(), images),
        lambda layer, images: (layer, images.to(OTHER[images.dtype])),
        lambda layer, images: (layer, images.contiguous()),
        lambda layer, images: (layer.bfloat16(), images.bfloat16()),
    ],
    ids=["in evaluation", "of another type", "the channel outermost", "weights in bfloat16"],
)
def test_otherwise_torch_computes(
    change: Callable[[nn.Module, Tensor], tuple[nn.Module, Tensor]], activation: Activation, dtype: torch.dtype
) -> None:
    theirs = block(16, activation)
    ours = by_loops(theirs, dtype)
    (ours, images), (theirs, _) = change(ours, noise(dtype, 4, 16, 6, 6)), change(theirs, noise(dtype, 4, 16, 6, 6))
    assert torch.equal(ours(images), theirs(images))


class Branching(nn.Module):
    """Norms whose results go to a ReLU alone, to a ReLU and elsewhere, twice to a ReLU, once of two times."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.alone, self.read_before, self.read_after, self.twice, self.once, self.last = (
            nn.BatchNorm2d(3) for _ in range(6)
        )
        self.inplace, self.apart = nn.ReLU(inplace=True), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.inplace(self.alone(self.conv(x))) + 1
        given = self.read_before(x)
        x = given.mean() + self.inplace(given)
        given = self.read_after(x)
        x = self.apart(given) + given
        x = self.apart(self.twice(self.inplace(self.twice(x))))
        x = self.once(self.apart(self.once(x)))
        return self.last(x)


def test_only_a_relu_that_alone_reads_the_result_is_taken_in(precision: str) -> None:
    ours = Branching()
    fuse_norms(ours, precision, 8)
    norms = {name: module for name, module in ours.named_modules() if isinstance(module, FusedBatchNorm2d)}
    assert len(norms) == 6
    assert {name for name, norm in norms.items() if norm.activation} == {"alone", "twice"}


@pytest.mark.parametrize(
    ("name", "activated", "norms"),
    [
        ("resnet20", 10, 19),
        ("vgg16_bn", 13, 13),
        ("wide_resnet28_10", 25, 25),
        ("efficientnet_b0", 33, 49),
        ("airbench94", 6, 6),
    ],
)
def test_activations_are_found_in_networks(name: str, activated: int, norms: int, precision: str) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=10, image_size=32)
    assert fuse_norms(model, precision, 32) == norms
    assert sum(getattr(module, "activation", 0) > 0 for module in model.modules()) == activated


def one_step(model: nn.Module, images: Tensor, precision: str) -> Tensor:
    with autocast(torch.device("cpu"), precision):
        loss = F.cross_entropy(model(images).float(), torch.arange(len(images)) % 10)
    loss.backward()
    return loss.detach()


def test_an_activation_twice_is_done_twice(dtype: torch.dtype) -> None:
    theirs = nn.Sequential(*block(16, Activation.SILU), nn.SiLU())
    ours = nn.Sequential(*by_loops(theirs[:2], dtype), FusedSiLU())
    images, slopes = noise(dtype, 4, 16, 6, 6), noise(dtype, 4, 16, 6, 6, seed=1)
    for given, expected in zip(gradients(ours, images, slopes), gradients(theirs, images, slopes), strict=True):
        close(given, expected)


def candidate(precision: str, *, fused: bool) -> Candidate:
    return Candidate(precision=precision, channels_last=True, fused_norms=fused)


def test_a_twin_without_values_is_not_read(precision: str) -> None:
    model = create_model("resnet20", num_classes=10, image_size=32).to(memory_format=torch.channels_last)
    before = training_memory(model, batch_size=4, image_size=32, precision=precision)
    settle_layers(model, candidate(precision, fused=True), 32)
    assert training_memory(model, batch_size=4, image_size=32, precision=precision).weights == before.weights


def flat_gradient(model: nn.Module) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


def flat_buffers(model: nn.Module) -> Tensor:
    """Running statistics, and how many batches they have seen."""
    return torch.cat([buffer.flatten().double() for buffer in model.buffers()])


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("name", ["resnet20", "efficientnet_b0", "airbench94"])
def test_a_network_learns_the_same(name: str, checkpointed: bool, precision: str) -> None:
    torch.manual_seed(0)
    plain = create_model(name, num_classes=10, image_size=32).to(memory_format=torch.channels_last)
    ours, exact = copy.deepcopy(plain), copy.deepcopy(plain)
    settle_layers(plain, candidate(precision, fused=False), 32)
    settle_layers(ours, candidate(precision, fused=True), 32)
    if checkpointed:
        checkpoint_activations(ours)
    images = torch.randn(8, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    F.cross_entropy(exact.double()(images.double()), torch.arange(8) % 10).backward()
    losses = [float(one_step(model, images, precision)) for model in (plain, ours)]
    assert losses[1] == pytest.approx(losses[0], abs=0.02)
    gradient = flat_gradient(exact)
    assert distance(flat_gradient(ours), gradient) < 1.2 * distance(flat_gradient(plain), gradient) + 1e-6
    assert distance(flat_buffers(ours), flat_buffers(plain)) < 0.02
    assert ours.state_dict().keys() == exact.state_dict().keys()


def test_the_same_bits_each_time(precision: str) -> None:
    torch.manual_seed(0)
    model = create_model("resnet20", num_classes=10, image_size=32).to(memory_format=torch.channels_last)
    images = torch.randn(8, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    grads = list[list[Tensor]]()
    for _ in range(2):
        twin = copy.deepcopy(model)
        settle_layers(twin, candidate(precision, fused=True), 32)
        one_step(twin, images, precision)
        grads.append([parameter.grad for parameter in twin.parameters() if parameter.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


def test_it_is_a_choice_with_the_channel_innermost(precision: str) -> None:
    network = Architecture(name="resnet20", num_classes=10, image_size=32)
    tried = candidates(network, torch.device("cpu"))
    assert {each.fused_norms for each in tried if each.precision == precision and each.channels_last} == {True}
    assert not any(each.fused_norms for each in tried if not each.channels_last)
    without = candidates(Architecture(name="vit_ti_16", num_classes=10, image_size=32), torch.device("cpu"))
    assert not any(each.fused_norms for each in without)


@pytest.mark.parametrize("settings", [{}, {"precision": "bf16"}, {"precision": "fp16", "channels_last": True}])
def test_what_it_needs_is_said(settings: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"train\.fused_norms is of channels_last, in float32 or bf16"):
        TrainConfig(fused_norms=True, **settings)


@pytest.mark.usefixtures("without_compiler")
def test_without_a_compiler_it_is_refused_and_not_tried(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model("resnet20", num_classes=10, image_size=32)
    with pytest.raises(RecipeError, match=r"train\.fused_norms needs a C compiler"):
        fuse_norms(model, precision, 32)
    network = Architecture(name="resnet20", num_classes=10, image_size=32)
    assert not any(each.fused_norms for each in candidates(network, torch.device("cpu")))
    monkeypatch.setattr(batch_norm, "fits", lambda _: False)
    with pytest.raises(RecipeError, match="a processor with AVX(2|-512 BF16), which"):
        fuse_norms(model, precision, 32)


@pytest.mark.usefixtures("without_compiler")
@pytest.mark.parametrize(
    ("precision", "name"),
    [("float32", "fused_norms"), ("bf16", "fused_norms"), ("bf16", "fused_attention"), ("float32", "packed_gradients")],
)
def test_a_recipe_that_this_machine_can_t_follow_is_refused_before_the_images(
    precision: str, name: str, tmp_path: Path, run_cli: Callable[..., tuple[int, str, str]]
) -> None:
    settings = ["train.fast=off", f"train.precision={precision}", "train.channels_last=true", f"train.{name}=true"]
    code, _, error = run_cli("train", tmp_path / "no-photos", "--out", tmp_path / "run", "--set", *settings)
    assert code == 2
    assert error.startswith(f"error: train.{name} needs ")  # a compiler, or a processor before it
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


class AsksForValues(nn.Module):
    """Reads what its norm gives once more, behind a question that shapes alone don't answer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.silu = nn.BatchNorm2d(3), nn.SiLU()

    def forward(self, images: Tensor) -> Tensor:
        values = self.norm(images)
        activated = self.silu(values)
        return activated + values if float(activated.float().abs().max()) < 1e9 else activated


def test_nothing_is_taken_for_granted_of_a_network_that_asks_for_values(precision: str) -> None:
    network = AsksForValues()
    assert fuse_norms(network, precision, 8) == 1
    assert isinstance(network.norm, FusedBatchNorm2d)
    assert network.norm.activation is Activation.NOTHING


class Block(nn.Module):
    """An activation, a convolution and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.silu, self.convolution, self.norm = nn.SiLU(), nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.convolution(self.silu(images)))


class Blocks(nn.Module):
    """Blocks of which each begins with the activation of the norm that ends the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.begin, self.first, self.second, self.last = nn.Conv2d(3, 16, 1), Block(), Block(), nn.Conv2d(16, 10, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.second(self.first(self.begin(images)))).mean((2, 3))


def test_an_activation_that_begins_a_block_is_found_done_the_second_time_too(precision: str) -> None:
    torch.manual_seed(0)
    plain = Blocks().to(memory_format=torch.channels_last)
    images = torch.randn(4, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    settle_layers(plain, candidate(precision, fused=True), 8)
    again = copy.deepcopy(plain)
    assert plain.first.norm.activation is Activation.SILU
    assert checkpoint_activations(again) == 2
    losses = [one_step(network, images, precision) for network in (plain, again)]
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(flat_gradient(plain), flat_gradient(again))
