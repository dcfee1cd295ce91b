"""The one size of image that a network with learned or precomputed positions takes."""

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
