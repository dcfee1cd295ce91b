"""The process that a network is timed in: `python -m sightline.measuring.worker JOB`.

It opens the network, answers once and says so; then it does what each line of its standard input asks, and answers
with a line. It ends with its input, so that it never outlives whoever started it.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from sightline.errors import SightlineError
from sightline.measuring.job import Called, Job


def main() -> None:
    """Run the job that the command line names."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no reply
    try:
        job = Job.from_json(sys.argv[1])
        network, images = job.open()
        network(images)
        _reply(replies, {})
        for line in sys.stdin:
            _reply(replies, _obey(json.loads(line), network, images, job.batch_size))
    except SightlineError as error:
        _reply(replies, {"error": str(error)})


def _reply(replies: TextIO, answer: dict[str, Any]) -> None:
    replies.write(json.dumps(answer) + "\n")
    replies.flush()


def _obey(command: dict[str, Any], network: Called, images: NDArray[Any], batch_size: int) -> dict[str, Any]:
    if "run" in command:
        return {"seconds": _timed(network, images, command["run"])}
    if "answer" in command:
        source, destination = command["answer"]
        _answer(network, Path(source), Path(destination), batch_size)
        return {}
    return {"memory": _peak_memory(), "gpu_memory": _peak_gpu_memory()}


def _timed(network: Called, images: NDArray[Any], at_least: float) -> list[float]:
    """Seconds of each call; calls until so many seconds have passed, at least one."""
    seconds: list[float] = []
    end = time.perf_counter() + at_least
    while not seconds or time.perf_counter() < end:
        began = time.perf_counter()
        network(images)
        seconds.append(time.perf_counter() - began)
    return seconds


def _answer(network: Called, source: Path, destination: Path, batch_size: int) -> None:
    """Logits of the pixels stored at `source`, written to `destination`."""
    pixels = np.load(source, mmap_mode="r")
    parts = [network(np.array(pixels[start : start + batch_size])) for start in range(0, len(pixels), batch_size)]
    np.save(destination, np.concatenate(parts))


def _peak_memory() -> int | None:
    """Bytes this process has held at most; None where the system doesn't say.

    Not getrusage's figure: on Linux it begins with that of the process that started this one.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), None)


def _peak_gpu_memory() -> int:
    torch = sys.modules.get("torch")
    return int(torch.cuda.max_memory_allocated()) if torch is not None and torch.cuda.is_initialized() else 0


if __name__ == "__main__":
    main()
