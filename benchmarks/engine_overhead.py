"""What training costs beside the network's own steps: a run through Lightning against the bare loop, same batches.

`python benchmarks/engine_overhead.py` takes turns, ROUNDS times, with a network so small that its own milliseconds,
which differ from turn to turn on a busy machine, can't hide what is looked for: a third of ResNet-20, half as wide, on
4 images of 8 pixels. It keeps the median of a run's seconds from one step to the next in results/engine_overhead.json,
and says how much of a step of 20 milliseconds the differences would be. The bare loop augments and normalises, too:
once the batches that it has read before, once reading them as training does. What the last leaves is Lightning's, the
counting and the progress bar's; Lightning's own is measured beside them, with a network of one number.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from PIL import Image
from torch import nn

from sightline import train
from sightline.augmentations import augment
from sightline.augmentations.crop import Crop
from sightline.augmentations.flip import Flip
from sightline.data.loader import Batches, Pixels
from sightline.data.packed import Packed
from sightline.data.prepare import prepare
from sightline.models import create_model
from sightline.randomness import Draws
from sightline.recipe import DataConfig, ModelConfig, OptimConfig, Recipe, TrainConfig
from sightline.training import task
from sightline.training.allocator import keep_pages
from sightline.training.engine import Module, run_quietly, trainer_for
from sightline.training.labels import build_loss
from sightline.training.optimizers import build_optimizer, set_rates
from sightline.training.order import training_order

ROUNDS = 15
IMAGES = 1000
PIXELS = 8
EPOCHS = 4
ONES = 2000
"""Steps of a network of one number."""
TRAIN, BARE, READING, ALONE, LOOP = "train", "bare loop", "bare loop that reads", "Lightning alone", "loop alone"
STEP = 0.02
"""Seconds of the step that the difference is compared with."""
RESULTS = Path(__file__).parent / "results" / "engine_overhead.json"
RECIPE = Recipe(
    epochs=EPOCHS,
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


class Steps:
    """When each began. Every loop here seeds torch before a batch, as training does, and is looked at there."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self._seed = task.seed_torch
        task.seed_torch = self.seed

    def seed(self, seed: int, *place: int | str) -> None:
        self.began.append(time.perf_counter())
        self._seed(seed, *place)

    def median(self, skipped: int = 0) -> float:
        """Seconds from one to the next, without the first `skipped`; they are forgotten here."""
        seconds = statistics.median([after - before for before, after in pairwise(self.began[skipped:])])
        self.began.clear()
        return seconds


STEPS = Steps()


class One(Module):
    """A network of one number, which is its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.zeros(()))

    def training_step(self, batch: int, batch_idx: int) -> torch.Tensor:
        del batch
        STEPS.seed(0, batch_idx, "network")
        return self.number * 2

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Ones:
    """Batches of no images."""

    def __len__(self) -> int:
        return ONES

    def __iter__(self) -> Iterator[int]:
        return iter(range(ONES))


class Asked(lightning.Callback):
    """Asked for what a run's callback is asked for."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None: ...
    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None: ...
    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None: ...
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None: ...


def lightning_alone() -> float:
    """Seconds per step of a network of one number through Lightning, with as many callbacks as a run has."""
    with run_quietly():
        trainer = trainer_for(RECIPE, torch.device("cpu"), [Asked(), Asked()])
        trainer.fit(One(), train_dataloaders=Ones())
    return STEPS.median()


def loop_alone() -> float:
    """Seconds per step of the same without Lightning."""
    module = One()
    optimizer = module.configure_optimizers()
    for number in Ones():
        loss = module.training_step(number, number)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return STEPS.median()


def engine(data: Path, folder: Path) -> float:
    """Seconds per step of `train`, after its first epoch."""
    train(RECIPE, data, out=folder / str(time.monotonic_ns()))
    return STEPS.median(skipped=steps(data))


def steps(data: Path) -> int:
    prepared = prepare(data, RECIPE.data, RECIPE.seed)
    return training_order(RECIPE, prepared.table, prepared.splits.train).batches_per_epoch


def bare(data: Path, *, reads: bool) -> float:
    """Seconds per step of the loop that a reader would write; `reads`: its batches, too, from the cache."""
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
    for epoch in range(2):
        for number, batch in enumerate(islice(batches, len(first)) if reads else first):
            STEPS.seed(RECIPE.seed, number, "network")
            images = augment(batch, RECIPE.augment, Draws(0, epoch, batch.samples), PIXELS).images
            logits = model(RECIPE.data.preprocess().normalize(images, channels_last=True))
            set_rates(optimizer, RECIPE.optim, 0.05, 0.9)
            loss = loss_of(logits, batch.targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return STEPS.median(skipped=len(first))


def main() -> None:
    torch.set_num_threads(1)
    keep_pages()
    rows: dict[str, list[float]] = {route: [] for route in (TRAIN, BARE, READING, ALONE, LOOP)}
    with tempfile.TemporaryDirectory() as name:
        data = make_images(Path(name))
        for _ in range(ROUNDS):
            rows[BARE].append(bare(data, reads=False))
            rows[TRAIN].append(engine(data, Path(name)))
            rows[READING].append(bare(data, reads=True))
            rows[ALONE].append(lightning_alone())
            rows[LOOP].append(loop_alone())
            print({route: f"{values[-1] * 1000:.2f} ms" for route, values in rows.items()}, flush=True)
    result: dict[str, Any] = {route: {"median": statistics.median(v), "all": v} for route, v in rows.items()}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    for longer, route in ((TRAIN, BARE), (TRAIN, READING), (ALONE, LOOP)):
        more = [slow - quick for slow, quick in zip(rows[longer], rows[route], strict=True)]
        median = statistics.median(more)
        print(
            f"{longer}: {median * 1e3:.2f} ms a step more ({min(more) * 1e3:.2f} to {max(more) * 1e3:.2f}) than the "
            f"{route}'s {result[route]['median'] * 1e3:.2f}: {median / STEP:.1%} of {STEP * 1e3:.0f} ms"
        )


if __name__ == "__main__":
    main()
