"""The data path alone, from a data set to normalised training batches, beside torchvision's ImageFolder route.

`python benchmarks/data_path.py CIFAR10.zip IMAGENETTE.zip` takes turns (ours, theirs, ours, theirs), prints images per
second, and times ImageFolder's of the same round, and keeps them in results/data_path.json. Two tables:

- 32 pixels, crop with padding 4, flip, normalisation: one thread, no worker, packed cache filled, seconds of the
  processor, so that other work on the machine counts little.
- 224 pixels, random resized crop, flip, normalisation, batches of 64: both with two threads or two workers, wall clock.
  Ours from an empty cache (first epoch) and again (second epoch); theirs reads files that were unpacked beforehand.

With --device cuda our batches of the second table are augmented and normalised there, theirs on the CPU and then moved;
name other --results then.

Theirs is torchvision.transforms.v2 on PIL images, as in torchvision's own training reference.
"""

import argparse
import json
import statistics
import tempfile
import time
import zipfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from sightline.augmentations import augment
from sightline.augmentations.crop import Crop
from sightline.augmentations.flip import Flip
from sightline.augmentations.random_resized_crop import RandomResizedCrop
from sightline.data.loader import Batches, Pixels
from sightline.data.packed import Packed
from sightline.data.scan import scan
from sightline.data.table import ImageTable
from sightline.preprocess import IMAGENET_MEAN, IMAGENET_STD
from sightline.randomness import Draws
from sightline.recipe import DataConfig, Recipe
from sightline.training.allocator import keep_pages
from sightline.training.order import training_order

ROUNDS = 3
LARGE_ROUNDS = 9
RESULTS = Path(__file__).parent / "results" / "data_path.json"
SMALL = Recipe(
    batch_size=128,
    epochs=1000,
    data=DataConfig(image_size=32, resize=32, num_workers=0),
    augment=(Crop(padding=4), Flip()),
)
LARGE = Recipe(
    batch_size=64,
    epochs=1000,
    data=DataConfig(image_size=224, resize=256, num_workers=2),
    augment=(RandomResizedCrop(), Flip()),
)


@dataclass(frozen=True)
class Ours:
    """Training batches of a table, as a run gets them."""

    table: ImageTable
    places: np.ndarray[Any, np.dtype[np.int64]]
    recipe: Recipe
    store: Packed
    targets: np.ndarray[Any, np.dtype[np.int64]]
    device: str = "cpu"

    def epoch(self, number: int) -> Iterator[Tensor]:
        pixels = Pixels(self.table, self.recipe.data.preprocess(), canvas=True, store=self.store)
        order = training_order(self.recipe, self.table, self.places)
        order = replace(order, start=number * order.batches_per_epoch)
        batches = Batches(pixels, order, self.targets, 10, self.recipe.data.num_workers)
        for batch, _ in zip(batches, range(order.batches_per_epoch), strict=False):
            drawn = Draws(0, number, batch.samples)
            moved = replace(batch, images=batch.images.to(self.device, non_blocking=True))
            images = augment(moved, self.recipe.augment, drawn, self.recipe.data.image_size).images
            yield self.recipe.data.preprocess().normalize(images, channels_last=True)


def theirs(
    folder: Path, places: np.ndarray[Any, np.dtype[np.int64]], crop: v2.Transform, batch: int, workers: int
) -> DataLoader[Any]:
    steps = [crop, v2.RandomHorizontalFlip(), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
    images = ImageFolder(folder, v2.Compose([*steps, v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]))
    return DataLoader(Subset(images, places.tolist()), batch, shuffle=True, num_workers=workers, drop_last=True)


def rate(batches: Any, clock: Any, device: str = "cpu") -> float:
    """Images per second of one pass, on the device in the end."""
    seen, began = 0, clock()
    for batch in batches:
        images = (batch if isinstance(batch, Tensor) else batch[0]).to(device)
        seen += len(images)
    if device != "cpu":
        torch.accelerator.synchronize()
    return seen / (clock() - began)


def small(archive: Path, folder: Path, _: str) -> dict[str, list[float]]:
    torch.set_num_threads(1)
    table = scan(archive)
    places = np.flatnonzero([split == "train" for split in table.splits])[:10_000]
    unpack(archive, folder, "train/")
    ours = Ours(table, places, SMALL, Packed(folder / "packed", len(table), 32), table.targets)
    loader = theirs(
        folder / next(folder.glob("**/train")).relative_to(folder), places, v2.RandomCrop(32, padding=4), 128, 0
    )
    rate(ours.epoch(0), time.process_time)
    rows: dict[str, list[float]] = {"sightline, one thread": [], "ImageFolder, no worker": []}
    for number in range(1, ROUNDS + 1):
        rows["sightline, one thread"].append(rate(ours.epoch(number), time.process_time))
        rows["ImageFolder, no worker"].append(rate(loader, time.process_time))
    return rows


def large(archive: Path, folder: Path, device: str) -> dict[str, list[float]]:
    torch.set_num_threads(2)
    table = scan(archive)
    places = np.arange(len(table))[:: max(1, len(table) // 2048)]
    root = unpack(archive, folder, "")
    rows: dict[str, list[float]] = {
        "sightline, first epoch": [],
        "sightline, second epoch": [],
        "ImageFolder, 2 workers": [],
    }
    loader = theirs(root, places, v2.RandomResizedCrop(224), 64, 2)
    for number in range(LARGE_ROUNDS):
        store = Packed(folder / f"packed{number}", len(table), 256)
        ours = Ours(table, places, LARGE, store, table.targets, device)
        rows["sightline, first epoch"].append(rate(ours.epoch(0), time.perf_counter, device))
        rows["sightline, second epoch"].append(rate(ours.epoch(1), time.perf_counter, device))
        rows["ImageFolder, 2 workers"].append(rate(loader, time.perf_counter, device))
    return rows


def unpack(archive: Path, folder: Path, under: str) -> Path:
    """Unpack the images of an archive; the folder of class folders."""
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder, [name for name in opened.namelist() if under in name])
    first = next(path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg"))
    return first.parent.parent


@contextmanager
def temporary() -> Generator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def spread(values: list[float], form: str) -> str:
    """Median (range)."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("small", type=Path, help="CIFAR-10 as JPEGs, for 32 pixels")
    parser.add_argument("large", type=Path, help="photos in class folders, for 224 pixels")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    keep_pages()
    results: dict[str, Any] = json.loads(chosen.results.read_text()) if chosen.results.exists() else {}
    for name, measure, archive in (("32 pixels", small, chosen.small), ("224 pixels", large, chosen.large)):
        with temporary() as folder:
            rows = measure(archive, folder, chosen.device)
        results[name] = rows
        folder_rates = next(rates for route, rates in rows.items() if route.startswith("ImageFolder"))
        for route, rates in rows.items():
            times = [own / other for own, other in zip(rates, folder_rates, strict=True)]  # of the same round
            print(f"| {name} | {route} | {spread(rates, ',.0f')} | {spread(times, '.2f')} |")
    chosen.results.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
