"""Images a second of every augmentation, on one thread: 128 images of 32 pixels, and 32 images of 224 pixels.

`python benchmarks/augmentations.py [NAME ...]` prints a table and keeps it in results/augmentations.json. Each figure
is the median over REPEATS calls after one that isn't counted, on uint8 batches with other samples each time, in seconds
of the processor, so that other work on the machine counts little. Methods that cut get a canvas 1/0.875 times as
large; the others get the image itself. `none` copies the batch: what a call costs at least.
"""

import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sightline import catalog
from sightline.augmentations import Batch, augment, augmentation_class
from sightline.randomness import Draws

SIZES = ((32, 128), (224, 32))
"""Pixels a side, and images in a batch."""
REPEATS = 7
CUTTING = ("crop", "random_resized_crop")
RESULTS = Path(__file__).parent / "results" / "augmentations.json"


def images_per_second(name: str, side: int, batch_size: int) -> dict[str, float]:
    canvas = round(side / 0.875) if name in CUTTING else side
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch_size, 3, canvas, canvas), generator=generator).to(torch.uint8)
    batch = Batch(images, torch.eye(10)[torch.arange(batch_size) % 10], torch.arange(batch_size))
    settings: dict[str, Any] = {"start": side // 2} if name == "resize_progressively" else {}
    entries = [] if name == "none" else [augmentation_class(name)(**settings)]
    rates: list[float] = []
    for repeat in range(REPEATS + 1):
        shown = replace(batch, samples=batch.samples + repeat * batch_size)
        began = time.process_time()
        augmented = augment(shown, entries, Draws(0, 0, shown.samples), side)
        augmented.images.clone()
        rates.append(batch_size / (time.process_time() - began))
    rates = sorted(rates[1:])
    return {"median": statistics.median(rates), "slowest": rates[0], "fastest": rates[-1]}


def main() -> None:
    torch.set_num_threads(1)
    rows: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.parent.mkdir(exist_ok=True)
    for name in sys.argv[1:] or ["none", *catalog.names("sightline.augmentations")]:
        rows[name] = row = {
            f"{side} pixels, batch {count}": images_per_second(name, side, count) for side, count in SIZES
        }
        cells = [f"{size['median']:,.0f} ({size['slowest']:,.0f} to {size['fastest']:,.0f})" for size in row.values()]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
