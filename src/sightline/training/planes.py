"""The size of what a convolution puts out."""

from collections.abc import Sequence

Pair = tuple[int, int]


def pair(value: Sequence[int] | str) -> Pair:
    """A convolution's setting for height and width; padding by name ("same") has none."""
    assert not isinstance(value, str)
    return value[0], value[1]


def places(images: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> int:
    """Of the output's plane, H' x W', from the images' shape (B, C, H, W)."""
    sizes = zip(images[2:], kernel, stride, padding, strict=True)
    height, width = ((size + 2 * more - reach) // step + 1 for size, reach, step, more in sizes)
    return height * width
