"""Depthwise convolutions' gradients by compiled loops are torch's but for rounding."""

import copy

import pytest
import torch
from exactness import distance, noise, step
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

from sightline.errors import RecipeError
from sightline.model_folder import Architecture
from sightline.models import create_model
from sightline.native import depthwise
from sightline.training.depthwise import DepthwiseConv2d
from sightline.training.fake_quantizing import fake_quantize
from sightline.training.fastest import Candidate, candidates
from sightline.training.layers import settle_layers
from sightline.training.packed_gradients import has_packable, pack_gradients

pytestmark = pytest.mark.skipif(not depthwise.available(), reason="needs AVX2 and a C compiler")

Pair = tuple[int, int]
PLAIN = Candidate(precision="float32", channels_last=True)
PACKED = Candidate(precision="float32", channels_last=True, packed_gradients=True)
CLOSE = 1e-6
"""Of a gradient's length."""


def both(images: Tensor, weight: Tensor, grad: Tensor, stride: Pair, padding: Pair) -> tuple[Tensor, Tensor]:
    """The gradients of images and weights by the loops."""
    assert depthwise.takes(images, weight)
    kernel = weight.shape[2:]
    return (
        depthwise.image_gradient(images.shape, weight, grad, stride, padding),
        depthwise.weight_gradient(images, grad, kernel, stride, padding),
    )


GEOMETRIES: list[tuple[Pair, Pair, Pair, Pair]] = [  # the plane, kernel, stride, padding
    ((8, 8), (3, 3), (1, 1), (1, 1)),
    ((9, 7), (3, 3), (2, 2), (1, 1)),
    ((8, 11), (5, 5), (2, 2), (2, 2)),
    ((7, 6), (7, 7), (1, 1), (3, 3)),
    ((13, 6), (3, 5), (2, 3), (1, 0)),
    ((10, 9), (2, 4), (3, 2), (0, 1)),
    ((5, 5), (3, 3), (1, 1), (3, 3)),  # padded by more than the kernel sees
    ((6, 4), (1, 1), (2, 2), (0, 0)),  # pixels that nothing sees
    ((4, 5), (9, 6), (1, 1), (4, 3)),
    ((1, 1), (3, 3), (2, 2), (1, 1)),
    ((3, 2), (3, 3), (5, 5), (1, 1)),  # a stride beyond the plane
]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("plane", "kernel", "stride", "padding"), GEOMETRIES)
@pytest.mark.parametrize(("batch", "channels"), [(2, 16), (3, 5), (70, 8), (2, 45)])
def test_they_are_torchs_but_for_rounding(
    plane: Pair, kernel: Pair, stride: Pair, padding: Pair, batch: int, channels: int, threads: int
) -> None:
    images, weight = noise(batch, channels, *plane), noise(channels, 1, *kernel, seed=1)
    output = torch.conv2d(images, weight, None, stride, padding, groups=channels)
    grad = noise(*output.shape, seed=2)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        of_images, of_weight = both(images, weight, grad, stride, padding)
    finally:
        torch.set_num_threads(before)
    settings = (stride, padding, 1, channels)
    truth = conv2d_input(images.shape, weight.double(), grad.double(), *settings)
    assert distance(of_images, truth) < CLOSE
    assert of_images.is_contiguous(memory_format=torch.channels_last)
    assert distance(of_weight, conv2d_weight(images.double(), weight.shape, grad.double(), *settings)) < CLOSE


def test_of_any_number_of_threads_the_same_bits() -> None:
    images, weight, grad = noise(9, 40, 9, 9), noise(40, 1, 5, 5, seed=1), noise(9, 40, 5, 5, seed=2)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 16):
            torch.set_num_threads(threads)
            results.append(both(images, weight, grad, (2, 2), (2, 2)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(*pair) for given in results[1:] for pair in zip(given, results[0], strict=True))


def test_nothing_outside_of_the_tensors_is_read_or_written() -> None:
    around = float("nan")
    images, grad = (
        torch.full((4, 19, side, side), around).contiguous(memory_format=torch.channels_last) for side in (9, 5)
    )
    inner, slopes, weight = noise(2, 19, 9, 9), noise(2, 19, 5, 5, seed=1), noise(19, 1, 3, 3, seed=2)
    images[1:3], grad[1:3] = inner, slopes
    given = both(images[1:3], weight, grad[1:3], (2, 2), (1, 1))
    expected = both(inner, weight, slopes, (2, 2), (1, 1))
    assert all(torch.equal(*pair) for pair in zip(given, expected, strict=True))
    assert images[0].isnan().all()
    assert grad[3].isnan().all()


@pytest.mark.parametrize(
    ("images", "weight"),
    [
        (noise(2, 16, 8, 8).contiguous(), noise(16, 1, 3, 3)),
        (noise(2, 16, 8, 8).double(), noise(16, 1, 3, 3).double()),
        (noise(2, 16, 8, 8).bfloat16(), noise(16, 1, 3, 3).bfloat16()),
        (noise(2, 16, 8, 8), noise(16, 1, 3, 9)),
    ],
    ids=["NCHW", "double", "bfloat16", "a wide kernel"],
)
def test_other_images_are_left_to_torch(images: Tensor, weight: Tensor) -> None:
    assert not depthwise.takes(images, weight)
    theirs = nn.Conv2d(16, 16, weight.shape[2:], padding=(1, weight.shape[3] // 2), groups=16, bias=False)
    theirs.weight.data = weight
    theirs.__class__ = DepthwiseConv2d
    ours = copy.deepcopy(theirs)
    assert pack_gradients(ours) == 1
    for layer in (ours, theirs):
        layer(images).square().sum().backward()
    assert ours.weight.grad is not None
    assert theirs.weight.grad is not None
    assert torch.equal(ours.weight.grad, theirs.weight.grad)


@pytest.mark.parametrize("rounded", [False, True])
def test_a_network_learns_the_same_with_the_same_bits_each_time(rounded: bool) -> None:
    torch.manual_seed(0)
    plain = create_model("efficientnet_b0", num_classes=10, image_size=32, dropout=0.0, drop_path=0.0)
    plain.to(memory_format=torch.channels_last)
    ours, again, exact = (copy.deepcopy(plain) for _ in range(3))
    settle_layers(plain, PLAIN, 32)
    for model in (ours, again):
        settle_layers(model, PACKED, 32)
        assert sum(isinstance(module, DepthwiseConv2d) and module.by_loops for module in model.modules()) == 16
    if rounded:
        for model in (ours, again):
            fake_quantize(model)
        assert torch.equal(step(ours), step(again))
        return
    gradient = step(ours)
    truth = torch.autograd.grad(
        F.cross_entropy(exact.double()(noise(8, 3, 32, 32).double()), torch.arange(8) % 10), list(exact.parameters())
    )
    flat = torch.cat([part.flatten() for part in truth])
    assert distance(gradient, flat) < 1.5 * distance(step(plain), flat) + 1e-7
    assert torch.equal(gradient, step(again))


def test_a_network_of_depthwise_convolutions_is_tried_with_and_without() -> None:
    tried = candidates(Architecture(name="efficientnet_b0", num_classes=10, image_size=32), torch.device("cpu"))
    both = {each.packed_gradients for each in tried if each.precision == "float32" and each.channels_last}
    assert both == {False, True}


@pytest.mark.usefixtures("without_compiler")
def test_without_a_compiler_it_is_refused() -> None:
    layer = nn.Conv2d(16, 16, 3, groups=16)
    assert not has_packable(layer)
    with pytest.raises(RecipeError, match=r"train\.packed_gradients needs a C compiler"):
        pack_gradients(layer)
