"""What compression costs and gains, on networks trained here: pruning, distillation, int8 and the whole chain.

    python benchmarks/compression.py CIFAR10.zip --work FOLDER prune distill int8 chain --models MODEL ...
    python benchmarks/compression.py PHOTOS.zip --work FOLDER speed

- prune: each of --networks, half its multiply-accumulates, trained on for a third of the epochs it had.
- distill: ResNet-20 taught by the last of --networks, beside ResNet-20 alone, three seeds each, the same epochs.
- int8: each model folder of --models by NNCF, on its own test images.
- chain: the last of --networks pruned to half its multiply-accumulates, taught by what it was for three quarters of the
  epochs it had, at half the rate, and quantised, with at most a point to lose.
- speed: each of --timed at 224 pixels with random weights, float32 and int8, batches of 1 and 32, two threads; the
  figures of networks that are not timed stay.

FOLDER keeps every model: the same command goes on where one was stopped. Results go to results/compression.json.
"""

import argparse
import json
import tempfile
import zipfile
from dataclasses import asdict
from pathlib import Path

from engines import filled_folder, p50

from sightline.benchmarking import Plan, bench
from sightline.compressing.judging import Row
from sightline.compression import Method, compress
from sightline.compression.distill import Distill
from sightline.compression.prune import Prune
from sightline.compression.quantize import Quantize
from sightline.model_folder import ModelFolder
from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.recipes import find_recipe
from sightline.studies import Factor, Level, Study
from sightline.training import resume, train
from sightline.tuning import study

RESULTS = Path(__file__).parent / "results" / "compression.json"
STUDENT = "resnet20"
SEEDS = 3


class Ground:
    """The images, and where models are kept."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.data, self.work, self.epochs, self.models = asked.data, asked.work, asked.epochs, asked.models
        self.networks, self.large, self.student_epochs = asked.networks, asked.networks[-1], asked.student_epochs
        self.timed = asked.timed

    def recipe(self, network: str, epochs: int) -> Recipe:
        settings = (f"model.name={network}", f"epochs={epochs}", "data.num_workers=0")
        return override(find_recipe("resnet18_cifar10"), settings)

    def trained(self, network: str) -> ModelFolder:
        path = self.work / network
        if (path / "model.json").exists():
            return ModelFolder.read(path)
        if (path / "checkpoints").exists():
            return resume(self.data, out=path)
        return train(self.recipe(network, self.epochs), self.data, out=path)

    def compressed(self, network: str, name: str, *methods: Method) -> list[Row]:
        return compress(self.trained(network), methods, data=self.data, out=self.work / f"{network}-{name}")

    def prune(self) -> list[dict[str, object]]:
        cut = Prune(target="macs", share=0.5, epochs=max(1, self.epochs // 3))
        return [asdict(row) for network in self.networks for row in self.compressed(network, "half", cut)]

    def distill(self) -> list[dict[str, object]]:
        taught = (f"distill.teacher={self.trained(self.large).path.resolve()}",)
        levels = (Level(label="alone", settings=()), Level(label=f"taught by {self.large}", settings=taught))
        question = Study(
            question=f"Does {STUDENT} learn more from {self.large} than from the labels alone?",
            recipe=self.recipe(STUDENT, self.student_epochs),
            factors=(Factor(name="teacher", levels=levels),),
            repeats=SEEDS,
        )
        return [asdict(arm) for arm in study(question, self.data, out=self.work / "distilled").arms]

    def quantised(self) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for model in self.models:
            rows += map(asdict, compress(model, [Quantize()], out=self.work / f"{model.resolve().name}-int8"))
        return rows

    def chain(self) -> list[dict[str, object]]:
        teacher = str(self.trained(self.large).path.resolve())
        methods: list[Method] = [
            Prune(target="macs", share=0.5, epochs=1),
            Distill(teacher=teacher, epochs=max(1, 3 * self.epochs // 4), settings=("optim.lr=0.05",)),
            Quantize(max_drop=1.0),
        ]
        return [asdict(row) for row in self.compressed(self.large, "chain", *methods)]

    def speed(self) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for network in self.timed:
            with tempfile.TemporaryDirectory() as place:
                photos = Path(place, "photos")
                folder = filled_folder(Path(place, network), network, divided(Path(self.data), photos))
                [_, small] = compress(folder, [Quantize()], data=photos, out=Path(place, "small"))
                plan = Plan(engines=("torch", "openvino"), threads=(2,), seconds=20, data=str(photos))
                found = bench([folder.path, Path(small.path)], plan=plan)
            rows += [{"network": network, **asdict(row)} for row in found.rows]
            for row in found.rows:
                if row.latency is not None and row.ratio is not None:
                    ratio = f"{row.ratio.value:.2f} ({row.ratio.low:.2f} to {row.ratio.high:.2f})"
                    print(
                        f"| {network}, batch {row.batch_size} | {row.label} | {p50(row) * 1e3:.1f} ms | {ratio} | "
                        f"{row.size / 1e6:.1f} MB |"
                    )
        return rows


def divided(archive: Path, folder: Path) -> tuple[str, ...]:
    """The photos in two folders, as if they had labels: `compress` splits what it calibrates on by class."""
    with zipfile.ZipFile(archive) as photos:
        for number, name in enumerate(sorted(name for name in photos.namelist() if not name.endswith("/"))):
            place = folder / "ab"[number % 2] / Path(name).name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(photos.read(name))
    return "a", "b"


def told(row: dict[str, object]) -> str:
    keys = (
        "name",
        "accuracy",
        "paired",
        "size",
        "macs",
        "seconds",
        "same_engine_seconds",
        "labels",
        "mean",
        "difference",
    )
    return "  ".join(f"{key} {row[key]}" for key in keys if row.get(key) is not None)


def main() -> None:
    stages = ("prune", "distill", "int8", "chain", "speed")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("stages", nargs="+", choices=stages)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", default=["resnet20", "resnet56"])
    parser.add_argument("--epochs", type=int, default=30, help="of the networks that are compressed")
    parser.add_argument("--student-epochs", type=int, default=30)
    parser.add_argument("--models", nargs="*", type=Path, default=[])
    parser.add_argument("--timed", nargs="+", default=["resnet18", "resnet50", "efficientnet_b0", "swin_t"])
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    ground = Ground(asked)
    made = dict(zip(stages, (ground.prune, ground.distill, ground.quantised, ground.chain, ground.speed), strict=True))
    for stage in asked.stages:
        stored = json.loads(asked.results.read_text()) if asked.results.exists() else {}
        rows = made[stage]()
        if stage == "speed":
            rows = [row for row in stored.get(stage, []) if row["network"] not in asked.timed] + rows
        stored[stage] = rows
        asked.results.write_text(json.dumps(stored, indent=2) + "\n")
        if stage != "speed":
            print("\n".join(told(row) for row in stored[stage]))


if __name__ == "__main__":
    main()
