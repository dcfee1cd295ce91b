"""Windows and partial changes of batches, for every layout and type of pixels."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.native import pixels as native
from sightline.native.building import Source
from sightline.operations.windows import change_some, cut, mirror

TYPES = [torch.uint8, torch.float32, torch.bfloat16]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def batch(dtype: torch.dtype, layout: torch.memory_format, count: int = 4) -> Tensor:
    return torch.randint(0, 256, (count, 3, 9, 7)).to(dtype).contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [1, 4])
def test_each_image_is_cut_at_its_own_place(dtype: torch.dtype, layout: torch.memory_format, count: int) -> None:
    images = batch(dtype, layout, count)
    tops, lefts = torch.tensor([0, 4, 2, 1])[:count], torch.tensor([2, 0, 1, 2])[:count]
    expected = [
        image[:, y : y + 5, x : x + 5] for image, y, x in zip(images, tops.tolist(), lefts.tolist(), strict=True)
    ]
    windows = cut(images, tops, lefts, 5)
    assert windows.dtype == dtype
    assert torch.equal(windows, torch.stack(expected))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("chosen", [[True, False, True, False], [False] * 4, [True] * 4])
def test_only_chosen_images_change(chosen: list[bool], dtype: torch.dtype, layout: torch.memory_format) -> None:
    images = batch(dtype, layout)
    before = images.clone()
    changed = change_some(images, torch.tensor(chosen), lambda some: some.flip(3))
    assert changed.dtype == dtype
    for row, original, was_chosen in zip(changed, before, chosen, strict=True):
        assert torch.equal(row, original.flip(2) if was_chosen else original)
    assert torch.equal(images, before)


def no_loops(source: Source) -> None:
    """As on a machine that can't have them."""
    del source


@pytest.fixture(params=["compiled", "by NumPy"])
def _each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "by NumPy":
        monkeypatch.setattr(native, "loops", no_loops)


@pytest.mark.usefixtures("_each_way")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("side", [1, 6, 13])
@pytest.mark.parametrize("padding", [0, 4, 20])
def test_windows_reach_into_the_padding(padding: int, side: int, layout: torch.memory_format) -> None:
    images = torch.randint(0, 256, (60, 3, 15, 17), dtype=torch.uint8).contiguous(memory_format=layout)
    tops, lefts = (torch.randint(0, extent + 2 * padding - side + 1, (60,)) for extent in (15, 17))
    padded = F.pad(images, [padding] * 4)
    expected = [
        image[:, y : y + side, x : x + side] for image, y, x in zip(padded, tops.tolist(), lefts.tolist(), strict=True)
    ]
    assert torch.equal(cut(images, tops, lefts, side, padding), torch.stack(expected))


@pytest.mark.usefixtures("_each_way")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [1, 5, 6, 7, 11, 16, 32])
def test_images_are_turned_left_to_right(width: int, dtype: torch.dtype, layout: torch.memory_format) -> None:
    images = torch.randint(0, 256, (8, 3, 4, width)).to(dtype).contiguous(memory_format=layout)
    chosen = torch.tensor([True, False] * 4)
    assert torch.equal(mirror(images, chosen), torch.where(chosen[:, None, None, None], images.flip(3), images))
    some = images[1:7:2]  # of a larger tensor: its images don't follow each other
    assert torch.equal(mirror(some, chosen[:3]), torch.stack([some[0].flip(2), some[1], some[2].flip(2)]))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pixels_keep_their_layout(layout: torch.memory_format) -> None:
    images = batch(torch.uint8, layout)
    places = torch.zeros(4, dtype=torch.int64)
    assert cut(images, places, places, 5).is_contiguous(memory_format=layout)
    assert change_some(images, torch.ones(4, dtype=torch.bool), torch.clone).is_contiguous(memory_format=layout)


def test_the_way_of_other_devices_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    images = batch(torch.uint8, torch.channels_last)
    tops, lefts, chosen = (
        torch.tensor([0, 4, 2, 1]),
        torch.tensor([2, 0, 1, 2]),
        torch.tensor([True, False, False, True]),
    )
    here = cut(images, tops, lefts, 5), change_some(images, chosen, lambda some: some.flip(2))
    monkeypatch.setattr("sightline.operations.windows._on_host", lambda _: False)
    monkeypatch.setattr(native, "loops", no_loops)
    there = cut(images, tops, lefts, 5), change_some(images, chosen, lambda some: some.flip(2))
    assert torch.equal(here[0], there[0])
    assert torch.equal(here[1], there[1])
