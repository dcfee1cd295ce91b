"""Images per second of training: `sightline train` beside the tutorial's loop, timm's train.py and fastai.

    python benchmarks/training_speed.py CIFAR10.zip IMAGENETTE.zip --peers FOLDER --timm-train TRAIN_PY [NETWORK ...]

Every contestant trains the same network (this package's) on the same JPEGs at the same batch, with crop, flip and SGD,
in a process of its own; what counts is its second epoch. They take turns, ROUNDS times, so that a busy machine is busy
for all. timm's runs as it is, with the channel last, and in bf16 with the channel last. Two are no contestants: `plain`
is the best that a tight loop on noise reaches in any of four plain settings (two where the CPU has no bf16), `peak`
what the network would reach if all of it ran as fast as the machine's fastest convolution.

All compute on --device, the CPU unless another is named; a GPU wants a larger --batch and --longer epochs.

FOLDER holds the peers' environments, `timm` and `fastai`; where one is missing it is made with uv. TRAIN_PY is train.py
of timm's repository, which its package doesn't contain. Results go, network by network, to results/training_speed.json
or where --results says.
"""

import argparse
import csv
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "training_speed.json"
ROUNDS = 3
MEAN, STD = "[0.485, 0.456, 0.406]", "[0.229, 0.224, 0.225]"
PEERS = {"timm": ["timm==1.0.31"], "fastai": ["fastai==2.8.12"]}
TOGETHER = ["torch==2.15.0", "torchvision==0.29.2", "safetensors", "pydantic", "pyyaml", "pillow", "simplejpeg"]
LAST_RATE = re.compile(r"\(\s*[\d.]+s,\s+([\d.]+)/s\)")


@dataclass(frozen=True)
class Case:
    """A network with the images it trains on."""

    network: str
    pixels: int
    batch: int
    images: int


CASES = {
    "resnet18 32": Case("resnet18_cifar", 32, 128, 1280),
    "resnet20 32": Case("resnet20", 32, 128, 10_240),
    "efficientnet_b0 32": Case("efficientnet_b0", 32, 128, 2560),
    "efficientnet_b0 224": Case("efficientnet_b0", 224, 16, 160),
    "swin_t 224": Case("swin_t", 224, 16, 160),
    "vit_s_16 224": Case("vit_s_16", 224, 16, 160),
    "resnet50 224": Case("resnet50", 224, 16, 160),
}


@dataclass(frozen=True)
class Ground:
    """Where the images and the peers are."""

    data: Path
    peers: Path
    timm_train: Path
    device: str

    def tutorial(self, case: Case) -> float:
        return self._printed(sys.executable, "tutorial.py", self.data, case.network, case.pixels, case.batch)

    def plain(self, case: Case) -> float:
        return self._printed(sys.executable, "plain.py", case.network, case.pixels, case.batch)

    def peak(self, case: Case) -> float:
        return self._printed(sys.executable, "peak.py", case.network, case.pixels)

    def fastai(self, case: Case) -> float:
        python = self.peers / "fastai/bin/python"
        return self._printed(python, "fastai_train.py", self.data, case.network, case.pixels, case.batch)

    def _printed(self, python: Path | str, script: str, *arguments: Any) -> float:
        lines = output([python, HERE / "peers" / script, *arguments, self.device]).splitlines()
        return float(json.loads([line for line in lines if line.startswith("{")][-1])["images_per_second"])

    def timm(self, case: Case) -> float:
        return self._timm(case)

    def timm_bf16(self, case: Case) -> float:
        return self._timm(case, "--amp", "--amp-dtype", "bfloat16", "--channels-last")

    def timm_last(self, case: Case) -> float:
        return self._timm(case, "--channels-last")

    def _timm(self, case: Case, *settings: str) -> float:
        with tempfile.TemporaryDirectory() as out:
            text = output(
                [
                    *(self.peers / "timm/bin/python", HERE / "peers/timm_train.py", self.timm_train),
                    *(case.network, case.pixels),
                    *("--data-dir", self.data, "--num-classes", 10, "--input-size", 3, case.pixels, case.pixels),
                    *("-b", case.batch, "--epochs", 2, "--opt", "sgd", "--lr", 0.05, "--weight-decay", 5e-4),
                    *("--workers", 2, "--device", self.device, "--color-jitter", 0, "--smoothing", 0, "--output", out),
                    *("--val-interval", 9, "--log-interval", 1, *settings),
                ]
            )
        return float(LAST_RATE.findall(text)[-1])

    def sightline(self, case: Case) -> float:
        small = case.pixels <= 64
        cut = "[{crop: {padding: 4}}, flip]" if small else "[random_resized_crop, flip]"
        with tempfile.TemporaryDirectory() as out:
            run = Path(out, "run")
            settings = {
                "model.name": case.network,
                "batch_size": case.batch,
                "epochs": 2,
                "data.image_size": case.pixels,
                "data.resize": case.pixels if small else round(case.pixels / 0.875),
                "data.mean": MEAN,
                "data.std": STD,
                "augment": cut,
                "loss.label_smoothing": 0,
                "optim.name": "sgd",
                "optim.lr": 0.05,
                "optim.weight_decay": 5e-4,
                "optim.warmup_epochs": 0,
                "train.fast": "auto",
                "train.device": self.device,
            }
            chosen = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
            output([Path(sys.executable).parent / "sightline", "train", self.data, "--out", run, *chosen])
            rows = list(csv.DictReader((run / "metrics.csv").open()))
        return float(rows[-1]["images_per_second"])


CONTESTANTS = ("sightline", "tutorial", "timm", "timm_last", "timm_bf16", "fastai", "plain", "peak")


def output(command: list[Any]) -> str:
    """What a command printed, on both streams. Raises SystemExit with its last lines when it failed."""
    environment = os.environ | {"PYTHONPATH": str(HERE.parent / "src")}
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout + done.stderr


def unpack(archive: Path, folder: Path, images: int) -> None:
    """As many images of ten classes, evenly, into folder/train, and 20 of each into folder/validation."""
    with zipfile.ZipFile(archive) as opened:
        names = [name for name in sorted(opened.namelist()) if name.lower().endswith((".jpg", ".jpeg"))]
        names = [name for name in names if "/test/" not in f"/{name}"]
        classes = sorted({Path(name).parent.name for name in names})
        for label in classes:
            members = [name for name in names if Path(name).parent.name == label]
            for number, name in enumerate(members[: images // len(classes) + 20]):
                split = "train" if number < images // len(classes) else "validation"
                target = folder / split / label / Path(name).name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(opened.read(name))


def environments(folder: Path) -> None:
    for peer, packages in PEERS.items():
        python = folder / peer / "bin/python"
        if not python.exists():
            uv = [sys.executable, "-m", "uv"]
            output([*uv, "venv", "--python", "3.11", folder / peer])
            output([*uv, "pip", "install", "-p", python, *packages, *TOGETHER])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("small", type=Path, help="CIFAR-10 as JPEGs, for 32 pixels")
    parser.add_argument("large", type=Path, help="photos in ten class folders, for 224 pixels")
    parser.add_argument("networks", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--timm-train", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--longer", type=int, default=1, help="times as many images, for a fast machine")
    parser.add_argument("--batch", type=int, help="images a step, in place of each network's own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--contestants", nargs="+", default=CONTESTANTS, choices=CONTESTANTS)
    chosen = parser.parse_args()
    environments(chosen.peers)
    kept = chosen.results
    results: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    for name in chosen.networks:
        case = CASES[name] if chosen.batch is None else replace(CASES[name], batch=chosen.batch)
        rates: dict[str, list[float]] = {contestant: [] for contestant in chosen.contestants}
        with tempfile.TemporaryDirectory() as folder:
            unpack(chosen.small if case.pixels <= 64 else chosen.large, Path(folder), case.images * chosen.longer)
            ground = Ground(Path(folder), chosen.peers, chosen.timm_train, chosen.device)
            for _ in range(chosen.rounds):
                for contestant in rates:
                    rates[contestant].append(getattr(ground, contestant)(case))
                    print(f"{name}: {contestant} {rates[contestant][-1]:,.1f} images/s", flush=True)
        results[name] = rates
        kept.write_text(json.dumps(results, indent=2) + "\n")
        for contestant, values in rates.items():
            spread = f"{min(values):,.1f} to {max(values):,.1f}"
            print(f"| {name} | {contestant} | {statistics.median(values):,.1f} | {spread} |")


if __name__ == "__main__":
    main()
