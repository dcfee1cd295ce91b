"""A batch's windows by two products are what torchvision makes of each window."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from sightline.augmentations import Batch, augment
from sightline.augmentations.random_resized_crop import RandomResizedCrop
from sightline.operations.resample import resample
from sightline.randomness import Draws

HEIGHT, WIDTH = 40, 56


def images(count: int, dtype: torch.dtype) -> Tensor:
    drawn = torch.randint(0, 256, (count, HEIGHT, WIDTH, 3), generator=torch.Generator().manual_seed(0))
    return drawn.to(dtype).permute(0, 3, 1, 2)


def reference(before: Tensor, windows: Tensor, side: int) -> Tensor:
    pairs = zip(before.double(), windows.tolist(), strict=True)
    return torch.stack([functional.resized_crop(one, *window, size=[side, side]) for one, window in pairs])


@pytest.mark.parametrize("side", [8, 24, 60])  # windows shrink, both, and grow
def test_windows_are_resized_as_torchvision_does(side: int) -> None:
    windows = RandomResizedCrop(scale=(0.01, 1)).windows(Draws(0, 0, torch.arange(50)), height=HEIGHT, width=WIDTH)
    windows[0] = torch.tensor([0, 0, HEIGHT, WIDTH])
    windows[1] = torch.tensor([HEIGHT - 1, WIDTH - 1, 1, 1])
    before = images(50, torch.float32)
    theirs = reference(before, windows, side)
    ours = resample(before, windows, side)
    assert ours.shape == (50, 3, side, side)
    assert (ours - theirs).abs().max() < 1e-3
    rounded = resample(before.to(torch.uint8), windows, side)
    assert rounded.dtype == torch.uint8
    assert (rounded - theirs).abs().max() < 0.5 + 1e-3


def test_mixed_precision_around_it_rounds_nothing() -> None:
    windows = RandomResizedCrop().windows(Draws(0, 0, torch.arange(4)), height=HEIGHT, width=WIDTH)
    before = images(4, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = resample(before, windows, 24)
    assert torch.equal(inside, resample(before, windows, 24))


def test_a_device_s_batch_is_cropped_by_it_and_not_image_by_image(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[tuple[Tensor, int]]()

    def note(before: Tensor, windows: Tensor, side: int) -> Tensor:
        asked.append((windows, side))
        return before[:, :, :side, :side]

    monkeypatch.setattr("sightline.augmentations.random_resized_crop.resample", note)
    method, draws = RandomResizedCrop(), Draws(0, 0, torch.arange(6))
    batch = Batch(images(6, torch.uint8).to("meta"), torch.eye(6), draws.samples)
    assert augment(batch, (method,), draws, 24).images.shape == (6, 3, 24, 24)
    [(windows, side)] = asked
    assert torch.equal(windows, method.windows(draws, height=HEIGHT, width=WIDTH))
    assert side == 24


def test_what_lies_beside_a_window_is_not_seen() -> None:
    before = torch.full((1, 3, 20, 20), 200, dtype=torch.uint8)
    before[:, :, 5:12, 6:15] = 10
    after = resample(before, torch.tensor([[5, 6, 7, 9]]), 16)
    assert after.unique().tolist() == [10]
