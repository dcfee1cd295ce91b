"""Several labels an image, from end to end, on data derived from CIFAR-10: two of its images side by side.

    python benchmarks/multilabel.py cifar10.zip /tmp/pairs

Each pair is one PNG, squeezed to a square, with both classes as its labels (one, where they are the same). No CIFAR
image is in two pairs; training and validation pairs come from CIFAR's train split, test pairs from its test split.
`sightline train` learns them from random weights, `sightline evaluate` measures them. Results go to
benchmarks/results/multilabel.json.
"""

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
import time
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

RESULTS = Path(__file__).parent / "results" / "multilabel.json"

SETTINGS = (
    "model.name=resnet20",
    'data.label_separator=";"',
    "data.num_workers=0",
    "data.mean=[0.4914, 0.4822, 0.4465]",
    "data.std=[0.2470, 0.2435, 0.2616]",
    "augment=[{crop: {padding: 4}}, flip]",
    "batch_size=64",
    "optim.name=adamw",
    "optim.lr=0.004",
    "optim.warmup_epochs=0.5",
    "train.channels_last=true",
    "train.select=last",
)


def write_pairs(archive: Path, folder: Path, counts: dict[str, int], *, side: int, seed: int) -> Path:
    """Write the pairs and their list; which images pair up depends on the seed alone."""
    folder.mkdir(parents=True)
    rows = [("path", "label", "split")]
    with zipfile.ZipFile(archive) as source:
        names = sorted(name for name in source.namelist() if name.endswith(".jpg"))
        for kept in ("train", "test"):
            own = [name for name in names if name.startswith(f"{kept}/")]
            order = np.random.default_rng(seed).permutation(len(own)).reshape(-1, 2).tolist()
            splits = [
                split for split, count in counts.items() if (split == "test") == (kept == "test") for _ in range(count)
            ]
            for number, (split, (left, right)) in enumerate(zip(splits, order, strict=False)):
                both = Image.new("RGB", (64, 32))
                for place, name in enumerate((own[left], own[right])):
                    both.paste(Image.open(BytesIO(source.read(name))), (32 * place, 0))
                path = f"{kept}_{number:05}.png"
                both.resize((side, side), Image.Resampling.BILINEAR).save(folder / path)
                labels = sorted({own[left].split("/")[1], own[right].split("/")[1]})
                rows.append((path, ";".join(labels), split))
    with (folder / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "pairs.csv"


def run(arguments: list[str]) -> float:
    """Run `sightline` and return its seconds."""
    print("sightline", shlex.join(arguments), flush=True)
    began = time.monotonic()
    subprocess.run([str(Path(sys.executable).with_name("sightline")), *arguments], check=True)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, help="cifar10.zip: train/CLASS/*.jpg and test/CLASS/*.jpg")
    parser.add_argument("folder", type=Path, help="a new folder for the pairs and the model")
    parser.add_argument("--train", type=int, default=6000, help="training pairs")
    parser.add_argument("--val", type=int, default=600)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--side", type=int, default=32, help="of a pair, in pixels")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    counts = {"train": chosen.train, "val": chosen.val, "test": chosen.test}
    data = write_pairs(chosen.archive, chosen.folder / "data", counts, side=chosen.side, seed=chosen.seed)
    model = chosen.folder / "model"
    sizes = (f"epochs={chosen.epochs}", f"data.image_size={chosen.side}", f"data.resize={chosen.side}")
    settings = [word for setting in (*SETTINGS, *sizes) for word in ("--set", setting)]
    train = ["train", str(data), "--out", str(model), "--seed", str(chosen.seed), *settings]
    train_seconds = run(train)
    evaluate_seconds = run(["evaluate", str(model)])
    spec = json.loads((model / "model.json").read_text())["spec"]
    result = {
        "command": shlex.join(["python", "benchmarks/multilabel.py", *(Path(word).name for word in sys.argv[1:])]),
        "pairs": counts,
        "side": chosen.side,
        "epochs": chosen.epochs,
        "seed": chosen.seed,
        "settings": list(SETTINGS),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "train_seconds": round(train_seconds, 1),
        "evaluate_seconds": round(evaluate_seconds, 1),
        "versions": spec["provenance"]["versions"],
        "thresholds": spec["thresholds"],
        "figures": spec["figures"],
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["figures"]["test"], indent=2))


if __name__ == "__main__":
    main()
