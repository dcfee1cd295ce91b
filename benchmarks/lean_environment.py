"""What it takes to predict with an exported model, without PyTorch: `python benchmarks/lean_environment.py`.

Builds the wheel, installs it with the extra `onnx` into a fresh environment, and predicts there with a ResNet-18 that
is exported here (random weights, 64 pixels). Prints the environment's size, then whole processes from start to answer,
warm and interleaved: the median and the range of 9 runs, in seconds; and the peak memory of a prediction. Needs Linux,
pip and the network.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from export_parity import filled_folder
from PIL import Image

from sightline.exporting import export

RUNS = 9
ROOT = Path(__file__).parent.parent
BASE = sys._base_executable  # the Python that this environment was made from: it has pip
API = "import sightline, sys; print(sightline.Predictor.open(sys.argv[1]).predict([sys.argv[2]])[0].guesses[0].label)"

PEAK = "; print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"


def make_environment(place: Path, extra: str = "onnx") -> Path:
    """A fresh environment with the wheel of this checkout; gives its Python."""
    subprocess.run([BASE, "-m", "pip", "wheel", "-q", "--no-deps", "-w", place / "wheel", ROOT], check=True)
    [wheel] = (place / "wheel").glob("*.whl")
    subprocess.run([BASE, "-m", "venv", "--without-pip", place / "env"], check=True)
    python = place / "env" / "bin" / "python"
    install = [BASE, "-m", "pip", "--python", python, "install", "-q", "--disable-pip-version-check"]
    compiled = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run([*install, f"{wheel}[{extra}]"], check=True, env=compiled)
    return python


def megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def timed(command: list[str | Path]) -> tuple[float, str]:
    """Seconds, and what was printed."""
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd="/", check=True)
    return time.perf_counter() - began, done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        model = filled_folder(place / "model", "resnet18", 64)
        exported = export(model, "onnx", pixels=True, data="digits", num_images=36).path
        photo = place / "photo.png"
        Image.effect_noise((200, 150), 80).convert("RGB").save(photo)
        python = make_environment(place)
        packages = python.parent.parent / "lib"
        print(f"environment: {megabytes(packages):.0f} MB")
        sizes = {
            folder.name: megabytes(folder) for folder in packages.glob("python*/site-packages/*") if folder.is_dir()
        }
        largest = sorted(sizes.items(), key=lambda item: -item[1])[:8]
        print("  " + ", ".join(f"{folder} {size:.0f}" for folder, size in largest))
        full, lean = Path(sys.executable), python
        cases: dict[str, list[str | Path]] = {
            "lean: sightline --help": [lean.with_name("sightline"), "--help"],
            "lean: import sightline.prediction": [lean, "-c", "import sightline; sightline.Predictor"],
            "lean: Predictor.open, predict": [lean, "-c", API, exported, photo],
            "lean: sightline predict": [lean.with_name("sightline"), "predict", exported, photo],
            "full: sightline predict, the same": [full.with_name("sightline"), "predict", exported, photo],
            "full: sightline predict MODEL, torch": [full.with_name("sightline"), "predict", model.path, photo],
        }
        measure(cases)
        for called, opened, runner in (("lean", exported, lean), ("full, torch", model.path, full)):
            print(f"{called}: peak memory {timed([runner, '-c', API + PEAK, opened, photo])[1].split()[-2]} kB")


def measure(cases: dict[str, list[str | Path]]) -> None:
    answers = {name: timed(command)[1].split()[-6:] for name, command in cases.items() if "sightline predict" in name}
    assert len({tuple(answer) for answer in answers.values()}) == 1, answers
    runs: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(RUNS):  # interleaved, so that a slow moment of the machine meets all of them
        for name, command in cases.items():
            runs[name].append(timed(command)[0])
    for name, seconds in runs.items():
        print(f"{name:<38} {statistics.median(seconds):6.2f}  ({min(seconds):.2f} to {max(seconds):.2f})")


if __name__ == "__main__":
    main()
