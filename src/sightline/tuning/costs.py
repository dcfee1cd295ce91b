"""What a recipe's network costs an image: multiply-accumulates, or the time it takes on this machine."""

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from sightline import deps
from sightline.benchmarking import bench
from sightline.benchmarking.plan import Plan
from sightline.engines import find_engine
from sightline.errors import RecipeError, SightlineError
from sightline.model_folder import Calibration, ModelFolder, ModelSpec, Provenance
from sightline.recipe import Recipe
from sightline.training.job import architecture

Cost = Literal["macs", "latency"]

SECONDS = 1.0
"""Of calls that count, for each network: seconds enough to tell a tenth apart."""


def check_engine(cost: Cost | None, engine: str) -> None:
    """Raise SightlineError for an engine that is unknown or not installed, RecipeError where nothing is timed by it."""
    if cost == "latency":
        found = find_engine(engine)
        for module in found.modules:
            deps.require(module, extra=found.extra, purpose=f"Measuring latency with {found.title}")
    elif engine != "torch":
        raise RecipeError(f"--engine {engine} says what latency is measured with, and none is here. Leave it out.")


def costs(recipes: Sequence[Recipe], cost: Cost, *, num_classes: int, engine: str = "torch") -> list[float]:
    """For each recipe's network, with fresh weights: multiply-accumulates of an image, or seconds for a batch of one.

    Seconds are medians of calls taken in turns, by `engine` in float32 on as many threads as there are cores.
    Raises ModelError for a network that can't be built, SightlineError for one that the engine can't run.
    """
    if cost == "macs":
        return [float(_macs(recipe, num_classes)) for recipe in recipes]
    with tempfile.TemporaryDirectory() as place:
        folders = [_written(Path(place, f"{number}"), recipe, num_classes) for number, recipe in enumerate(recipes)]
        found = bench(folders, plan=Plan(engines=(engine,), batch_sizes=(1,), seconds=SECONDS, rounds=3))
    seconds: list[float] = []
    for number, recipe in enumerate(recipes):
        row = next(row for row in found.rows if row.model == f"{number}")
        if row.latency is None:
            raise SightlineError(f"{recipe.model.name} could not be timed with {engine}: {row.failure}")
        seconds.append(row.latency.p50_seconds)
    return seconds


def _macs(recipe: Recipe, num_classes: int) -> int:
    from sightline import summary

    model = architecture(recipe, num_classes).build()
    model.drop_auxiliary()
    return summary.num_macs(model, recipe.data.image_size)


def _written(path: Path, recipe: Recipe, num_classes: int) -> Path:
    """A model folder with fresh weights, for its time alone."""
    network = architecture(recipe, num_classes)
    model = network.build()
    model.drop_auxiliary()
    spec = ModelSpec(
        architecture=network,
        classes=tuple(f"class {number}" for number in range(num_classes)),
        preprocess=recipe.data.preprocess(),
        calibration=Calibration(),
        provenance=Provenance(command="", created=datetime.now(UTC).isoformat(), data={}, versions={}),
    )
    return ModelFolder.write(path, spec, model.state_dict()).path


def told(value: float, cost: Cost) -> str:
    """A cost in words: 41.6 M MACs, or 3.21 ms."""
    return f"{value / 1e6:.1f} M MACs" if cost == "macs" else f"{value * 1e3:.2f} ms"
