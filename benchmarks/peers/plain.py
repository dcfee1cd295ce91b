"""A tight loop on noise in memory, in float32 and bf16, NCHW and channels-last. Prints the best one's images/s.

bf16 is left out where the processor lacks it: it takes many times as long there.
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


def main(network: str, pixels: int, batch: int, device: str) -> None:
    rates: dict[str, float] = {}
    precisions = (False,) if emulates_bf16(torch.device(device)) else (False, True)
    for half, layout in product(precisions, (torch.contiguous_format, torch.channels_last)):
        model = create_model(network, num_classes=10, image_size=pixels).to(device, memory_format=layout)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        images = torch.randn(batch, 3, pixels, pixels, device=device).contiguous(memory_format=layout)
        labels = torch.arange(batch, device=device) % 10
        seconds: list[float] = []
        for _ in range(6):
            began = time.perf_counter()
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=half):
                loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            loss.item()  # a GPU's step has ended
            seconds.append(time.perf_counter() - began)
        rates[f"{'bf16' if half else 'float32'} {str(layout).removeprefix('torch.')}"] = batch / median(seconds[1:])
    best = max(rates, key=rates.__getitem__)
    print(json.dumps({"images_per_second": rates[best], "setting": best, "all": rates}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
