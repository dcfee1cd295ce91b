"""Whether a search beats random search and the shipped recipe at the same budget, and what a trial costs.

    python benchmarks/search.py CIFAR10.zip --work FOLDER search overhead

- search: ResNet-20, three epochs a trial, for each seed by the search as it ships (`gp`) and at random, until as many
  epochs were trained; the winners and the recipe as it was are then trained with seeds that no trial saw (--fresh of
  them), and compared on the test images, which no trial saw either.
- overhead: seconds of `sightline train`'s and of a trial's whole life beyond those of training.

FOLDER keeps every run: the same command goes on where one was stopped. Results go to results/search.json.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from scipy.stats import t

from sightline.evaluation import evaluate
from sightline.model_folder import ModelFolder
from sightline.recipe import Recipe
from sightline.recipe_text import override, to_yaml
from sightline.recipes import find_recipe
from sightline.training import resume, train
from sightline.tuning.results import read_curve
from sightline.tuning.search import tune
from sightline.tuning.searches import Sampler, Search
from sightline.tuning.space import space_of

RESULTS = Path(__file__).parent / "results" / "search.json"
SPACE = (
    "optim.name=sgd,adamw,muon,lion optim.lr=log:1e-5..10 batch_size=16,32,64,128,256,512 "
    "optim.weight_decay=log:1e-6..1 loss.label_smoothing=0..0.3 optim.warmup_epochs=0..2 augment.crop.padding=0..8"
)
"""What somebody asks who knows nothing of the settings beforehand."""
SAMPLERS: tuple[Sampler, ...] = ("gp", "random")


def recipe_of(images: int, seed: int) -> Recipe:
    settings = ("model.name=resnet20", "epochs=3", f"data.max_train_images={images}", "data.num_workers=0")
    settings += ("data.val_fraction=0.05",)
    settings += ("train.fast=off", "train.precision=float32", "train.channels_last=true")  # the same on every machine
    settings += ("optim.momentum=null",)  # which is SGD's 0.9, and leaves every other optimiser its own
    return override(find_recipe("resnet18_cifar10"), [*settings, f"seed={seed}"])


def searched(asked: argparse.Namespace, seed: int, sampler: Sampler) -> dict[str, Any]:
    """One trial more at a time, until the budget of epochs is spent."""
    recipe, out = recipe_of(asked.images, seed), asked.work / f"{sampler}-{seed}"
    search = Search(recipe=recipe, space=space_of([SPACE], recipe), sampler=sampler, trials=1)
    while True:
        found = tune(search, asked.data, out=out, confirm=0)
        spent = sum(trial.epochs for trial in found.trials)
        if spent >= asked.budget or found.best is None:
            break
        search = replace(search, trials=len(found.trials) + 1)
    assert found.best is not None
    return {
        "sampler": sampler,
        "seed": seed,
        "epochs": spent,
        "trials": [trial.state for trial in found.trials],
        "best": found.best.settings,
        "value": found.best.value,
    }


def fresh(asked: argparse.Namespace, name: str, settings: Sequence[str], seed: int) -> float:
    """Test accuracy of a training with settings and a seed of its own."""
    out = asked.work / "fresh" / f"{name}-{seed}"
    recipe = override(recipe_of(asked.images, seed), settings)
    if not (out / "model.json").exists():
        run = resume if (out / "recipe.yaml").exists() else train
        run(recipe=recipe, data=asked.data, out=out, measure=("test",))
    if "test" not in ModelFolder.read(out).spec.figures:
        evaluate(out, split="test", num_workers=0)
    return ModelFolder.read(out).spec.figures["test"]["accuracy"]["value"]


def fresh_seeds(seed: int, count: int) -> list[int]:
    """Seeds that no trial saw; those of a smaller count come first, so that more can be asked for later."""
    return [100 * (1 + number // 2) + 2 * seed + number % 2 for number in range(count)]


def compared(asked: argparse.Namespace) -> list[dict[str, Any]]:
    rows = [searched(asked, seed, sampler) for seed in asked.seeds for sampler in SAMPLERS]
    seeds = {seed: fresh_seeds(seed, asked.fresh) for seed in asked.seeds}
    for row in rows:
        name = f"{row['sampler']}-{row['seed']}"
        row["test"] = mean(fresh(asked, name, row["best"], seed) for seed in seeds[row["seed"]])
    for seed in asked.seeds:
        test = mean(fresh(asked, "recipe", (), each) for each in seeds[seed])
        rows.append({"sampler": "recipe", "seed": seed, "epochs": 0, "trials": [], "test": test})
    by = {name: [row["test"] for row in rows if row["sampler"] == name] for name in (*SAMPLERS, "recipe")}
    for row in rows:
        print(f"| {row['sampler']}, seed {row['seed']} | {len(row['trials'])} | {row['epochs']} | {row['test']:.2%} |")
    for other in ("random", "recipe"):
        print(f"gp minus {other}: {interval([a - b for a, b in zip(by['gp'], by[other], strict=True)])}")
    print(f"random minus recipe: {interval([a - b for a, b in zip(by['random'], by['recipe'], strict=True)])}")
    return rows


def interval(differences: Sequence[float]) -> str:
    if len(differences) < 2:
        return f"{differences[0] * 100:+.1f} points (one pair)"
    half = float(t.ppf(0.975, len(differences) - 1)) * stdev(differences) / sqrt(len(differences))
    middle = mean(differences)
    return f"{middle * 100:+.1f} points ({(middle - half) * 100:+.1f} to {(middle + half) * 100:+.1f})"


def overhead(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds beyond training: of the command alone, and of a trial in a search of several; three times, in turn."""
    rows: list[dict[str, Any]] = []
    place = asked.work / "overhead"
    recipe = override(recipe_of(asked.images, 0), ["epochs=1"])
    for turn in range(3):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        (place / "recipe.yaml").write_text(to_yaml(recipe))
        began = time.monotonic()
        command = [sys.executable, "-m", "sightline", "train", asked.data, "--recipe", str(place / "recipe.yaml")]
        subprocess.run([*command, "--out", str(place / "plain")], check=True, capture_output=True)
        plain = time.monotonic() - began - trained(place / "plain")
        began = time.monotonic()
        search = Search(recipe=recipe, space=space_of(["optim.lr=log:0.05..0.2"], recipe), trials=4, prune=False)
        tune(search, asked.data, out=place / "search", confirm=0)
        whole = time.monotonic() - began
        each = (whole - sum(trained(run) for run in (place / "search" / "runs").glob("trial-????"))) / search.trials
        rows.append({"turn": turn, "plain": plain, "trial": each})
    for name in ("plain", "trial"):
        found = sorted(row[name] for row in rows)
        print(f"{name}: {median(found):.1f} s beyond training ({found[0]:.1f} to {found[-1]:.1f})")
    return rows


def trained(run: Path) -> float:
    return sum(row["seconds"] or 0.0 for row in read_curve(run / "metrics.csv"))


def main() -> None:
    stages = {"search": compared, "overhead": overhead}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("stages", nargs="+", choices=stages)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--images", type=int, default=4000, help="training images of each trial")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--fresh", type=int, default=6, help="runs of each winner with seeds that no trial saw")
    parser.add_argument("--budget", type=int, default=60, help="epochs of each search")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    for stage in asked.stages:
        found = stages[stage](asked)
        stored = json.loads(asked.results.read_text()) if asked.results.exists() else {}
        stored[stage] = found
        asked.results.write_text(json.dumps(stored, indent=2) + "\n")


if __name__ == "__main__":
    main()
