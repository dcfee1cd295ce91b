"""The sizes of image that a network takes, where not all of them go through."""

from torch import Tensor

from sightline.errors import ModelError


def check_image_size(images: Tensor, image_size: int) -> None:
    """Raises ModelError unless images (B, C, H, W) have both sides `image_size` pixels."""
    height, width = images.shape[-2:]
    if (height, width) != (image_size, image_size):
        raise ModelError(
            f"This network was built for images of {image_size}x{image_size} pixels and got {height}x{width}. "
            "Resize them, or build it for square images of another size with image_size."
        )


def check_least_size(images: Tensor, least: int) -> None:
    """Raises ModelError unless images (B, C, H, W) have both sides `least` pixels or more."""
    height, width = images.shape[-2:]
    if min(height, width) < least:
        raise ModelError(
            f"This network was built for images of at least {least}x{least} pixels and got {height}x{width}. "
            "Resize them, or build it for small images with image_size."
        )
