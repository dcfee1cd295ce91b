"""How long the command takes to answer: `python benchmarks/startup.py`.

Whole processes, warm (one run before that isn't counted), side by side with an empty interpreter; the median and
the range of 15 runs each, in milliseconds.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 15
COMMAND = str(Path(sys.executable).with_name("sightline"))
CASES = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import sightline": [sys.executable, "-c", "import sightline"],
    "sightline --help": [COMMAND, "--help"],
    "sightline train --help": [COMMAND, "train", "--help"],
}


def milliseconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    for command in CASES.values():
        milliseconds(command)
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(RUNS):  # interleaved, so that a slow moment of the machine meets all of them
        for name, command in CASES.items():
            times[name].append(milliseconds(command))
    for name, values in times.items():
        print(f"{name:<24} {statistics.median(values):6.0f}  ({min(values):.0f} to {max(values):.0f})")


if __name__ == "__main__":
    main()
