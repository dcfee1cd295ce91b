"""The degradation problem: without shortcuts a deeper network is harder to train.

Deep Residual Learning (He et al., 2015), Figures 1 and 6, on CIFAR-10: the training error of plain networks rises
with depth, that of residual ones falls. `python benchmarks/degradation.py CIFAR10.zip` trains each depth with and
without shortcuts on 5,000 images for 4 epochs, 3 seeds each, all else the same; it prints the mean training loss of the
last epoch with its spread.
"""

import csv
import json
import statistics
import sys
import tempfile
from pathlib import Path

from subset import write_subset

from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.training import train

NETWORKS = ("plain20", "resnet20", "plain56", "resnet56")
SEEDS = (0, 1, 2)
SETTINGS = [
    "epochs=4", "batch_size=64", "data.image_size=32", "data.resize=32", "augment=[{crop: {padding: 4}}, flip]",
    "optim.name=sgd", "optim.lr=0.1", "optim.weight_decay=1e-4", "train.precision=bf16", "train.channels_last=true",
    "train.validate_every=4", "train.select=last",
]  # fmt: skip
RESULTS = Path(__file__).parent / "results" / "degradation.json"


def main() -> None:
    losses: dict[str, list[float]] = {name: [] for name in NETWORKS}
    with tempfile.TemporaryDirectory() as folder:
        data = write_subset(Path(sys.argv[1]), Path(folder) / "cifar", {"train": 500, "val": 10, "test": 10})
        for seed in SEEDS:
            for name in NETWORKS:
                recipe = override(Recipe(seed=seed), [*SETTINGS, f"model.name={name}"])
                trained = train(recipe, data, out=Path(folder) / f"{name}-{seed}")
                with (trained.path / "metrics.csv").open(newline="") as file:
                    losses[name].append(float(list(csv.DictReader(file))[-1]["train_loss"]))
                print(seed, name, f"{losses[name][-1]:.4f}", flush=True)
    for name, values in losses.items():
        print(f"| {name} | {statistics.mean(values):.3f} | {statistics.stdev(values):.3f} |")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(losses, indent=2) + "\n")


if __name__ == "__main__":
    main()
