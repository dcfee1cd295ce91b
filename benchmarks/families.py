"""One epoch of every family on 2,000 CIFAR-10 images: does the loss fall, how fast, in how much memory?

`python benchmarks/families.py CIFAR10.zip [NETWORK ...]` prints a table and keeps it in results/families.json.
Each network trains in a process of its own, by the recipe below.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from subset import write_subset

NETWORKS = (
    "alexnet", "zfnet", "vgg11_bn", "googlenet", "inception_v3", "inception_v4", "inception_resnet_v2", "resnet20",
    "resnet18_cifar", "wide_resnet16_8", "densenet_bc_100_12", "efficientnet_b0", "vit_ti_16", "swin_t", "airbench94",
)  # fmt: skip
SETTINGS = [
    "epochs=1", "batch_size=50", "data.image_size=32", "data.resize=32", "data.num_workers=0", "optim.name=adamw",
    "optim.lr=3e-4", "optim.warmup_epochs=0.25", "augment=flip", "train.select=last", "train.precision=bf16",
    "train.channels_last=true",
]  # fmt: skip
RESULTS = Path(__file__).parent / "results" / "families.json"


def one(name: str, data: str) -> dict[str, float | str]:
    """Train one network in this process."""
    from sightline.evaluation import read_evaluation
    from sightline.recipe import Recipe
    from sightline.recipe_text import override
    from sightline.training import train
    from sightline.training.task import ClassificationTask

    losses: list[float] = []
    step = ClassificationTask.training_step

    def recording(task: ClassificationTask, batch: object, batch_idx: int) -> object:
        loss = step(task, batch, batch_idx)
        losses.append(loss.item())
        return loss

    ClassificationTask.training_step = recording
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        recipe = override(Recipe(), [*SETTINGS, f"model.name={name}"])
        folder = train(recipe, data, out=Path(out) / "run")
        row = (folder.path / "metrics.csv").read_text().splitlines()[1].split(",")
        evaluation = read_evaluation(folder, "test")
        return {
            "network": name,
            "first_loss": sum(losses[:8]) / 8,
            "last_loss": sum(losses[-8:]) / 8,
            "test_accuracy": str(evaluation.accuracy),
            "images_per_second": float(row[-1]),
            "seconds": time.perf_counter() - began,
            "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def main() -> None:
    if sys.argv[1] == "--one":
        print(json.dumps(one(sys.argv[2], sys.argv[3])))
        return
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        data = write_subset(Path(sys.argv[1]), Path(folder) / "cifar")
        for name in sys.argv[2:] or NETWORKS:
            command = [sys.executable, __file__, "--one", name, str(data)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows[name] = row = json.loads(done.stdout.splitlines()[-1])
            RESULTS.write_text(json.dumps(rows, indent=2) + "\n")
            print(
                f"| {name} | {row['first_loss']:.2f} | {row['last_loss']:.2f} | {row['test_accuracy']} | "
                f"{row['images_per_second']:.0f} | {row['peak_megabytes']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
