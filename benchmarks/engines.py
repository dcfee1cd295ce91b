"""How fast is each engine, against eager torch in float32, and does `--engine auto` find the fastest?

`python benchmarks/engines.py PHOTOS.zip [--networks resnet50 ...] [--batch 1 32] [--threads 2] [--seconds 20]` fills
each network with random values, has `bench` time every engine in float32 and bf16 on the photos at 224 pixels, and
asks for engine="auto" with the same batch size, precision and threads. What auto took is held against the fastest of
its precision in the bench: 1.00 is the very one. Networks that were measured before keep their rows.
"""

import argparse
import json
import sys
import tempfile
import zipfile
from dataclasses import asdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "models"))
from reference import fill_randomly

from sightline.benchmarking import Bench, Plan, bench
from sightline.benchmarking.figures import Row
from sightline.model_folder import Architecture, Calibration, ModelFolder, ModelSpec, Provenance
from sightline.models import create_model
from sightline.prediction import Predictor
from sightline.preprocess import Preprocess

NETWORKS = ("resnet50", "efficientnet_b0", "swin_t")
IMAGE_SIZE = 224
PRECISIONS = ("float32", "bf16")
RESULTS = Path(__file__).parent / "results" / "engines.json"


def unpacked(archive: Path, folder: Path) -> tuple[str, ...]:
    """The photos in a folder each, since images with labels are what `bench` takes; the labels' names."""
    with zipfile.ZipFile(archive) as photos:
        names = sorted(name for name in photos.namelist() if not name.endswith("/"))
        for name in names:
            place = folder / Path(name).stem
            place.mkdir(parents=True)
            (place / Path(name).name).write_bytes(photos.read(name))
    return tuple(sorted(Path(name).stem for name in names))


def filled_folder(path: Path, name: str, classes: tuple[str, ...]) -> ModelFolder:
    torch.manual_seed(0)
    model = create_model(name, num_classes=len(classes), image_size=IMAGE_SIZE)
    fill_randomly(model)
    spec = ModelSpec(
        architecture=Architecture(name=name, num_classes=len(classes), image_size=IMAGE_SIZE),
        classes=classes,
        preprocess=Preprocess(image_size=IMAGE_SIZE, resize=256),
        calibration=Calibration(),
        provenance=Provenance(command="", created="", data={}, versions={}),
    )
    return ModelFolder.write(path, spec, model.state_dict())


def autos(folder: ModelFolder, found: Bench, threads: int) -> list[dict]:
    """What auto takes for each batch size and precision, and how much slower that was in the bench than the best."""
    rows = []
    for group in found.groups():
        for precision in PRECISIONS:
            seconds = {row.engine: p50(row) for row in group if row.precision == precision and row.latency is not None}
            batch_size = group[0].batch_size
            predictor = Predictor(folder, engine="auto", precision=precision, threads=threads, batch_size=batch_size)
            best = min(seconds, key=seconds.__getitem__)
            slower = seconds.get(predictor.engine, float("nan")) / seconds[best]
            row = {"batch_size": batch_size, "precision": precision, "auto": predictor.engine, "best": best}
            rows.append(row | {"slower": slower})
    return rows


def p50(row: Row) -> float:
    assert row.latency is not None
    return row.latency.p50_seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("photos", type=Path)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--engines", nargs="+", default=(), help="all, unless some are named; auto tries all")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--batch", nargs="+", type=int, default=(1, 32))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    stored = json.loads(asked.results.read_text()) if asked.results.exists() else {}
    for name in asked.networks:
        with tempfile.TemporaryDirectory() as place:
            classes = unpacked(asked.photos, Path(place) / "photos")
            folder = filled_folder(Path(place) / name, name, classes)
            plan = Plan(
                engines=tuple(asked.engines),
                num_images=asked.images,
                precisions=PRECISIONS,
                batch_sizes=tuple(asked.batch),
                threads=(asked.threads,),
                seconds=asked.seconds,
                rounds=asked.rounds,
                data=str(Path(place) / "photos"),
            )
            found = bench([folder.path], plan=plan)
            chosen = autos(folder, found, asked.threads)
        stored[name] = {"bench": asdict(found), "auto": chosen}
        asked.results.write_text(json.dumps(stored, indent=2) + "\n")
        show(name, found, chosen)


def show(name: str, found: Bench, chosen: list[dict]) -> None:
    print(f"| {name} | times as fast as torch, float32 | p50, ms | start, s | memory, MB |\n|---|---|---|---|---|")
    for row in found.rows:
        start = f"| batch {row.batch_size}, {row.label} | "
        if row.latency is None or row.ratio is None or row.start_seconds is None:
            print(f"{start}{row.failure} |")
            continue
        ratio = f"{row.ratio.value:.2f} ({row.ratio.low:.2f} to {row.ratio.high:.2f})"
        print(f"{start}{ratio} | {p50(row) * 1e3:.1f} | {row.start_seconds:.1f} | {(row.memory or 0) / 1e6:.0f} |")
    for row in chosen:
        print(
            f"auto, batch {row['batch_size']}, {row['precision']}: {row['auto']}, {row['slower']:.2f} of {row['best']}"
        )


if __name__ == "__main__":
    main()
