"""The images/s of training if each of a network's operations ran as fast as this machine's fastest convolution.

That is 3x3 on 256 channels, channels-last, forward only, in bf16 or float32, whichever is faster. Forward and backward
are three times the network's multiply-accumulates.
"""

import json
import sys
import time
from itertools import product
from statistics import median

import torch
from torch.nn import functional as F

from sightline.devices import emulates_bf16
from sightline.models import create_model
from sightline.summary import num_macs

CHANNELS = 256


def operations_per_second(device: str) -> float:
    """The best of two sizes in two precisions, each the median of 15 convolutions."""
    dtypes = (torch.float32,) if emulates_bf16(torch.device(device)) else (torch.float32, torch.bfloat16)
    rates: list[float] = []
    for dtype, (batch, side) in product(dtypes, ((16, 56), (64, 28))):
        images, weight = (
            torch.randn(shape, device=device, dtype=dtype).to(memory_format=torch.channels_last)
            for shape in ((batch, CHANNELS, side, side), (CHANNELS, CHANNELS, 3, 3))
        )
        seconds: list[float] = []
        with torch.inference_mode():
            for _ in range(17):
                began = time.perf_counter()
                F.conv2d(images, weight, padding=1)[0, 0, 0, 0].item()  # and wait for it
                seconds.append(time.perf_counter() - began)
        rates.append(2 * batch * side * side * 9 * CHANNELS**2 / median(seconds[2:]))
    return max(rates)


def main(network: str, pixels: int, device: str) -> None:
    macs = num_macs(create_model(network, num_classes=10, image_size=pixels), pixels)
    peak = operations_per_second(device)
    print(json.dumps({"images_per_second": peak / (6 * macs), "operations_per_second": peak}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
