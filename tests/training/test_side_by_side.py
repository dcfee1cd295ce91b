"""Weight gradients of images laid side by side: torch's, for every geometry that allows it."""

import pytest
import torch
from torch import Tensor
from torch.nn.grad import conv2d_weight

from sightline.training import side_by_side
from sightline.training.side_by_side import weight_gradient

Pair = tuple[int, int]


def inputs(count: int, height: int, width: int, *, kernel: Pair, padding: Pair) -> tuple[Tensor, torch.Size, Tensor]:
    torch.manual_seed(0)
    images = torch.randn(count, 5, height, width, dtype=torch.float64).to(memory_format=torch.channels_last)
    weight = torch.randn(7, 5, *kernel, dtype=torch.float64)
    output = torch.conv2d(images, weight, padding=padding)
    return images, weight.shape, torch.randn_like(output)


@pytest.mark.parametrize(
    ("kernel", "padding"), [((3, 3), (1, 1)), ((5, 5), (2, 2)), ((1, 7), (0, 3)), ((3, 3), (0, 1)), ((2, 3), (1, 1))]
)
@pytest.mark.parametrize("count", [1, 2, 7, 12, 40])
def test_it_is_torchs(count: int, kernel: Pair, padding: Pair) -> None:
    images, shape, grad = inputs(count, 6, 4, kernel=kernel, padding=padding)
    ours = weight_gradient(images, shape, grad, (1, 1), padding)
    assert ours is not None
    expected = conv2d_weight(images, list(shape), grad, 1, padding)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("count", [0, 3])
def test_no_images_and_images_without_a_pixel_of_their_neighbours(count: int) -> None:
    images, shape, grad = inputs(count, 1, 1, kernel=(3, 3), padding=(1, 1))
    ours = weight_gradient(images, shape, grad, (1, 1), (1, 1))
    assert ours is not None
    edges = ours.clone()
    edges[:, :, 1, 1] = 0
    assert not edges.any()  # one pixel meets the kernel's centre alone


def test_rows_are_made_wide_and_no_wider(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = list[int]()

    def note(images: Tensor, *others: object) -> Tensor:
        widths.append(images.shape[3])
        return conv2d_weight(images, *others)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(side_by_side, "conv2d_weight", note)
    for count, expected in ((500, 32), (128, 32), (6, 48), (7, 56), (2, 16)):
        images, shape, grad = inputs(count, 2, 7, kernel=(3, 3), padding=(1, 1))
        weight_gradient(images, shape, grad, (1, 1), (1, 1))
        assert widths.pop() == expected


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [((3, 3), (2, 2), (1, 1)), ((3, 3), (1, 1), (0, 0)), ((3, 3), (1, 1), (2, 2)), ((7, 1), (1, 1), (3, 0))],
    ids=["stride", "no padding", "more padding", "one column"],
)
def test_what_cannot_lie_so(kernel: Pair, stride: Pair, padding: Pair) -> None:
    images, shape, grad = inputs(4, 8, 8, kernel=kernel, padding=padding)
    assert weight_gradient(images, shape, grad, stride, padding) is None
