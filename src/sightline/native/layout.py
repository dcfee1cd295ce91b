"""Which tensors the loops for float32 convolutions can read."""

import torch
from torch import Tensor


def is_readable(images: Tensor, weight: Tensor) -> bool:
    """Whether images are (B, C, H, W) float32 on the CPU, the channel innermost, and a weight is float32 there, too."""
    return (
        type(images) is Tensor  # a shape alone, which some subclasses are, has no values to read
        and images.dtype == weight.dtype == torch.float32
        and images.device.type == weight.device.type == "cpu"
        and images.ndim == 4
        and images.numel() > 0
        and images.is_contiguous(memory_format=torch.channels_last)
    )
