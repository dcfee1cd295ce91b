"""Worker: a network that is timed, seen from the process that compares."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from sightline.errors import SightlineError
from sightline.measuring.job import Job

START_SECONDS = 300.0
"""Opening, converting, compiling and the first answer may take this long."""
_REPLY_SECONDS = 600.0


class Worker:
    """A process that holds an open network; a context, which ends it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.start_seconds: float | None = None
        """From starting the process to its first answer; known after `wait`."""
        self._began = time.monotonic()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._unread = b""
        threads = {} if job.threads is None else {"OMP_NUM_THREADS": str(job.threads)}
        command = [sys.executable, "-P", "-m", "sightline.measuring.worker", job.to_json()]
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=os.environ | threads
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait(self, limit: float = START_SECONDS) -> float:
        """Seconds from the start to the first answer. Raises SightlineError with the reason when there is none."""
        if self.start_seconds is None:
            self._reply(limit)
            self.start_seconds = time.monotonic() - self._began
        return self.start_seconds

    def run(self, seconds: float) -> list[float]:
        """Seconds of each call of the network, for so long, at least one. Raises SightlineError."""
        return self._ask({"run": seconds})["seconds"]

    def answer(self, pixels: Path, logits: Path) -> None:
        """Let it write the logits of the pixels (N, 3, image_size, image_size) as .npy. Raises SightlineError."""
        self._ask({"answer": [str(pixels), str(logits)]})

    def memory(self) -> tuple[int | None, int]:
        """Bytes it has held at most, and bytes of a GPU's memory. Raises SightlineError."""
        answer = self._ask({"memory": True})
        return answer["memory"], answer["gpu_memory"]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(OSError):  # what was not read any more
                stream.close()
        self._log.close()

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:  # it has ended; what it left says why
            pass
        return self._reply(_REPLY_SECONDS)

    def _reply(self, limit: float) -> dict[str, Any]:
        answer = json.loads(self._line(limit))
        if "error" in answer:
            raise SightlineError(answer["error"])
        return answer

    def _line(self, limit: float) -> bytes:
        assert self._process.stdout is not None
        descriptor, end = self._process.stdout.fileno(), time.monotonic() + limit
        while b"\n" not in self._unread:
            if not select.select([descriptor], [], [], max(0.0, end - time.monotonic()))[0]:
                raise SightlineError(f"no answer in {limit:.0f} seconds")
            part = os.read(descriptor, 1 << 16)
            if not part:
                raise SightlineError(self._last_words())
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _last_words(self) -> str:
        code = self._process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            return f"its process ended with {name}" + (", most often for want of memory" if code == -9 else "")
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"its process ended with exit code {code}"
