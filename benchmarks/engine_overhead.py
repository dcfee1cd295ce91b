"""What training costs beside the network's own steps: a run through Lightning against the bare loop, same batches.

`python benchmarks/engine_overhead.py` takes turns, ROUNDS times, with a network so small that its own milliseconds,
which differ from turn to turn on a busy machine, can't hide what is looked for: a third of ResNet-20, half as wide, on
4 images of 8 pixels. It keeps the seconds of the processor per step in results/engine_overhead.json, and says how much
of a step of 20 milliseconds the differences would be. The bare loop augments and normalises, too: once the batches that
it has read before, once reading them as training does. What the last leaves is Lightning's, the journal's, the
checkpoint's and the progress bar's. A run's start and its end (one validation, one checkpoint) are cut off by taking
the difference of a long run and one of one epoch.
"""

import json
import statistics
import tempfile
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sightline import train
from sightline.augmentations import augment
from sightline.augmentations.crop import Crop
from sightline.augmentations.flip import Flip
from sightline.data.loader import Batches, Pixels
from sightline.data.packed import Packed
from sightline.data.prepare import prepare
from sightline.models import create_model
from sightline.randomness import Draws, seed_torch
from sightline.recipe import DataConfig, ModelConfig, OptimConfig, Recipe, TrainConfig
from sightline.training.allocator import keep_pages
from sightline.training.labels import build_loss
from sightline.training.optimizers import build_optimizer, set_rates
from sightline.training.order import training_order

ROUNDS = 15
IMAGES = 1000
PIXELS = 8
LONG = 4
"""Epochs."""
BARE, READING = "bare loop", "bare loop that reads"
STEP = 0.02
"""Seconds of the step that the difference is compared with."""
RESULTS = Path(__file__).parent / "results" / "engine_overhead.json"
RECIPE = Recipe(
    epochs=LONG,
    batch_size=4,
    model=ModelConfig(name="resnet20", depth=1 / 3, width=0.5),
    data=DataConfig(image_size=PIXELS, resize=PIXELS, num_workers=0, val_fraction=0.01, test_fraction=0.01),
    augment=(Crop(padding=1), Flip()),
    optim=OptimConfig(name="sgd", lr=0.05),
    train=TrainConfig(channels_last=True, validate_every=1000, select="last"),
)


def make_images(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        label = folder / "images" / "ab"[number % 2]
        label.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (PIXELS, PIXELS, 3), dtype=np.uint8)).save(label / f"{number}.png")
    return folder / "images"


def engine(data: Path, folder: Path) -> float:
    """Processor seconds per step of `train`."""
    seconds: dict[int, float] = {}
    for epochs in (1, LONG):
        began = time.process_time()
        train(replace(RECIPE, epochs=epochs), data, out=folder / str(time.monotonic_ns()))
        seconds[epochs] = time.process_time() - began
    return (seconds[LONG] - seconds[1]) / ((LONG - 1) * steps(data))


def steps(data: Path) -> int:
    prepared = prepare(data, RECIPE.data, RECIPE.seed)
    return training_order(RECIPE, prepared.table, prepared.splits.train).batches_per_epoch


def bare(data: Path, *, reads: bool) -> float:
    """Processor seconds per step of the loop that a reader would write; `reads`: its batches, too, from the cache."""
    prepared = prepare(data, RECIPE.data, RECIPE.seed)
    table, places = prepared.table, prepared.splits.train
    order = training_order(RECIPE, table, places)
    store = Packed(data.parent / "packed", len(table), PIXELS)
    batches = Batches(Pixels(table, RECIPE.data.preprocess(), canvas=True, store=store), order, table.targets, 2, 0)
    first = list(islice(batches, order.batches_per_epoch))  # fills the cache
    model = create_model("resnet20", num_classes=2, image_size=PIXELS, depth=1 / 3, width=0.5)
    model = model.to(memory_format=torch.channels_last)
    model.train()
    optimizer = build_optimizer(model, RECIPE.optim)
    loss_of = build_loss(RECIPE.loss, table, places)
    began = 0.0
    for epoch in range(2):
        if epoch == 1:
            began = time.process_time()
        for number, batch in enumerate(islice(batches, len(first)) if reads else first):
            seed_torch(RECIPE.seed, number, "network")
            images = augment(batch, RECIPE.augment, Draws(0, epoch, batch.samples), PIXELS).images
            logits = model(RECIPE.data.preprocess().normalize(images, channels_last=True))
            set_rates(optimizer, RECIPE.optim, 0.05, 0.9)
            loss = loss_of(logits, batch.targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return (time.process_time() - began) / len(first)


def main() -> None:
    torch.set_num_threads(1)
    keep_pages()
    rows: dict[str, list[float]] = {"train": [], BARE: [], READING: []}
    with tempfile.TemporaryDirectory() as name:
        data = make_images(Path(name))
        for _ in range(ROUNDS):
            rows[BARE].append(bare(data, reads=False))
            rows["train"].append(engine(data, Path(name)))
            rows[READING].append(bare(data, reads=True))
            print({route: f"{values[-1] * 1000:.2f} ms" for route, values in rows.items()}, flush=True)
    result: dict[str, Any] = {route: {"median": statistics.median(v), "all": v} for route, v in rows.items()}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    for route in (BARE, READING):
        more = [train_s - bare_s for train_s, bare_s in zip(rows["train"], rows[route], strict=True)]
        median = statistics.median(more)
        print(
            f"{median * 1e3:.2f} ms a step ({min(more) * 1e3:.2f} to {max(more) * 1e3:.2f}) beside the {route}'s "
            f"{result[route]['median'] * 1e3:.2f}: {median / STEP:.1%} of {STEP * 1e3:.0f} ms"
        )


if __name__ == "__main__":
    main()
