"""Windows of images, each resized and mirrored or not: what is seen of an image, made in one go.

A batch's are made by compiled loops where the machine has them, which is two to four times as fast, and else
image by image. The values are the same: torch's own.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.native import pixels as native
from sightline.threads import mapped

_AT_A_TIME = 4
"""Images that a thread takes: few, so that all threads end together."""


@dataclass(frozen=True, eq=False)
class Mirror:
    """A change of single images: left to right."""

    mirrored: Tensor
    """(B,) bool: which of a batch's."""

    def __call__(self, image: Tensor, place: int) -> Tensor:
        """(1, 3, H, W), and its place in the batch -> the same shape."""
        return image.flip(3) if self.mirrored[place] else image


@dataclass(frozen=True, eq=False)
class Resize:
    """A change of single images: a window of each, made one size, bilinear and antialiased."""

    windows: Tensor
    """(B, 4) int64: top, left, height and width, in pixels."""
    side: int
    """Of the result, in pixels."""
    mirrored: Tensor
    """(B,) bool: which are turned left to right."""

    def then(self, mirror: Mirror) -> "Resize":
        """Both changes as one."""
        return replace(self, mirrored=self.mirrored ^ mirror.mirrored)

    def __call__(self, image: Tensor, place: int) -> Tensor:
        """(1, 3, H, W), and its place in the batch -> (1, 3, side, side)."""
        top, left, height, width = self.windows[place].tolist()
        # torch resizes uint8 fast where a pixel's channels lie side by side, which torchvision's own function undoes.
        cut = image[:, :, top : top + height, left : left + width]
        if cut.dtype != torch.uint8:
            cut = cut.float()  # torch resizes no half floats
        values = F.interpolate(cut, size=[self.side, self.side], mode="bilinear", antialias=True).to(image.dtype)
        return values.flip(3) if self.mirrored[place] else values

    def all(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) on the CPU -> (B, 3, side, side), the channel innermost in memory."""
        shape = (len(images), images.shape[1], self.side, self.side)
        result = torch.empty(shape, dtype=images.dtype, memory_format=torch.channels_last)

        def fill(begin: int) -> None:
            some = slice(begin, begin + _AT_A_TIME)
            done = native.resize(images[some], self.windows[some], self.mirrored[some], result[some])
            for place in range(len(images))[some][done:]:
                result[place : place + 1] = self(images[place : place + 1], place)

        mapped(fill, range(0, len(images), _AT_A_TIME))
        return result
