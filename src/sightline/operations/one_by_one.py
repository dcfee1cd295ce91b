"""Changes of large images, one at a time: what one change writes, the next still finds in the core's cache."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from sightline.operations.resize import Mirror, Resize
from sightline.threads import mapped

Change: TypeAlias = Callable[[Tensor, int], Tensor]
"""One image (1, 3, H, W), and its place in the batch -> (1, 3, H', W')."""

Size: TypeAlias = tuple[int, int]
"""Height and width in pixels."""


def one_by_one(images: Tensor, changes: Sequence[Change], size: Size) -> Tensor:
    """Images (B, 3, H, W) -> (B, 3, *size), the channel innermost in memory, each after all the changes."""
    first, second = changes[0], changes[1] if len(changes) > 1 else None
    if isinstance(first, Resize) and isinstance(second, Mirror):
        return one_by_one(images, [first.then(second), *changes[2:]], size)
    if isinstance(first, Resize) and second is None:
        return first.all(images)
    shape = (len(images), images.shape[1], *size)
    result = torch.empty(shape, dtype=images.dtype, device=images.device, memory_format=torch.channels_last)

    def change(place: int) -> None:
        image = images[place : place + 1]
        for step in changes:
            image = step(image, place)
        result[place : place + 1] = image

    mapped(change, range(len(images)))
    return result
