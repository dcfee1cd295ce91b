"""Windows of a batch's images, and changes to some of its images, without touching the rest.

Loaded batches hold a pixel's three bytes side by side, and stay so. On a CPU compiled loops copy whole rows of such
pixels where the machine has them, and else NumPy, where torch's indexing goes value by value: NumPy is 3 to 20 times as
fast (docs/log.md has the figures). The values are the same.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sightline.native import pixels as native
from sightline.operations import beside

Layout = tuple[int, int, int, int]

_ONE_LAYOUT: Layout = (0, 1, 2, 3)
_CHANNEL_INNERMOST: Layout = (0, 2, 3, 1)
_BACK: dict[Layout, Layout] = {_ONE_LAYOUT: _ONE_LAYOUT, _CHANNEL_INNERMOST: (0, 3, 1, 2)}


def cut(images: Tensor, tops: Tensor, lefts: Tensor, side: int, padding: int = 0) -> Tensor:
    """(B, C, H, W) -> (B, C, side, side): each image's window, from its corner in `tops` and `lefts`, (B,) int64.

    Corners are counted from that of `padding` black pixels on every side of the image.
    """
    as_they_are = torch.zeros(len(images), dtype=torch.bool)
    ours = native.cut(images, tops, lefts, as_they_are, (side, side), padding=padding)
    if ours is not None:
        return ours
    images = F.pad(images, [padding] * 4)
    if not _on_host(images):
        every = torch.arange(len(images), device=images.device)
        views = images.unfold(2, side, 1).unfold(3, side, 1)  # (B, C, H', W', side, side)
        return views[every, :, beside(tops, images), beside(lefts, images)]
    array, layout = _memory(images)
    across = (1, 2) if layout == _CHANNEL_INNERMOST else (2, 3)
    views = sliding_window_view(array, (side, side), axis=across)  # the window's own axes come last
    places = (0, 1, 2, 4, 5, 3) if layout == _CHANNEL_INNERMOST else (0, 2, 3, 1, 4, 5)
    windows = views.transpose(places)[np.arange(len(array)), tops.numpy(), lefts.numpy()]
    return _tensor(windows, layout, images.dtype)


def mirror(images: Tensor, chosen: Tensor) -> Tensor:
    """Images (B, C, H, W), those of `chosen`, (B,) bool, turned left to right; the others are copied."""
    corners = torch.zeros(len(images), dtype=torch.int64)
    ours = native.cut(images, corners, corners, chosen, (images.shape[2], images.shape[3]))
    return ours if ours is not None else change_some(images, chosen, lambda images: images.flip(3))


def change_some(images: Tensor, chosen: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Images (B, C, H, W) with `change` applied to those of `chosen`, (B,) bool; the others are copied."""
    if not _on_host(images):
        mask = beside(chosen, images)[:, None, None, None]
        return torch.where(mask, change(images), images)
    places = np.flatnonzero(chosen.numpy())
    array, layout = _memory(images)
    result = array.copy()
    if len(places):
        changed = change(_tensor(array[places], layout, images.dtype))
        result[places] = _array(changed).transpose(layout)
    return _tensor(result, layout, images.dtype)


def _on_host(images: Tensor) -> bool:
    return images.device.type == "cpu"


def _memory(images: Tensor) -> tuple[NDArray[Any], Layout]:
    """The images' array with its axes in the order they have in memory, and that order."""
    innermost = images.stride(1) == 1 and images.shape[1] > 1
    layout = _CHANNEL_INNERMOST if innermost else _ONE_LAYOUT
    return _array(images).transpose(layout), layout


def _array(images: Tensor) -> NDArray[Any]:
    # NumPy has no bfloat16; these functions only copy, so that any type of two bytes will do.
    return (images.view(torch.int16) if images.dtype == torch.bfloat16 else images).numpy()


def _tensor(array: NDArray[Any], layout: Layout, dtype: torch.dtype) -> Tensor:
    tensor = torch.from_numpy(array.transpose(_BACK[layout]))
    return tensor.view(dtype) if dtype == torch.bfloat16 else tensor
