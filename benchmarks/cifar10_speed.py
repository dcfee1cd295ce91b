"""What the recipe `cifar10_speed` reaches, and how soon.

    python benchmarks/cifar10_speed.py CIFAR10.zip --work FOLDER

Each of --seeds is a whole `sightline train` in a process and with a cache of its own: starting, decoding, training,
measuring on the test split and the report all count. Then the test images are seen mirrored, too (--tta flip). With
--set further settings are passed on, such as epochs=40 for what a longer run gives: name other --results then.

FOLDER keeps the runs: one that is finished is not run again. Results go to results/cifar10_speed.json.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

RESULTS = Path(__file__).parent / "results" / "cifar10_speed.json"
SIGHTLINE = str(Path(sys.executable).with_name("sightline"))


def one(data: str, out: Path, seed: int, settings: Sequence[str]) -> dict[str, Any]:
    """Train and measure; the whole command's seconds are kept beside the run."""
    kept = out.with_suffix(".json")
    if kept.exists():
        return json.loads(kept.read_text())
    shutil.rmtree(out, ignore_errors=True)  # a run that was stopped: its seconds would be wrong
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        chosen = [word for setting in (f"seed={seed}", *settings) for word in ("--set", setting)]
        command = [SIGHTLINE, "train", data, "--recipe", "cifar10_speed", "--out", str(out), *chosen]
        subprocess.run(command, check=True, env=os.environ | {"SIGHTLINE_CACHE": cache})
    seconds = time.monotonic() - began
    mirrored = [SIGHTLINE, "evaluate", str(out), "--tta", "flip", "--json"]
    with (out / "metrics.csv").open() as rows:
        accuracies = [float(row["val_accuracy"]) for row in csv.DictReader(rows)]
    found = {
        "seed": seed,
        "seconds": seconds,
        "validation": accuracies,
        "accuracy": json.loads((out / "evaluation" / "test.json").read_text())["accuracy"]["value"],
        "mirrored": json.loads(subprocess.check_output(mirrored, text=True))["accuracy"]["value"],
    }
    kept.write_text(json.dumps(found, indent=2) + "\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    runs = [one(asked.data, asked.work / f"seed-{seed}", seed, asked.settings) for seed in asked.seeds]
    asked.results.write_text(json.dumps({"settings": asked.settings, "runs": runs}, indent=2) + "\n")
    for run in runs:
        shown = " ".join(f"{value:.3f}" for value in run["validation"])
        print(f"seed {run['seed']}: {run['accuracy']:.2%}, mirrored {run['mirrored']:.2%}, {run['seconds']:.0f} s")
        print(f"  validation: {shown}")
    for name in ("accuracy", "mirrored"):
        values = [run[name] for run in runs]
        spread = f" (standard deviation {stdev(values):.2%})" if len(values) > 1 else ""
        print(f"{name}: mean {mean(values):.2%}{spread}")


if __name__ == "__main__":
    main()
