"""engine=auto: which engine answers fastest on this machine, by trying, or remembered from the last time.

An engine that answers differently is left out, and what is left out is said with its reason.
"""

import hashlib
import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline.conversion import farthest, noise, within
from sightline.devices import cores
from sightline.engines import Folder, Settings, check_engine, engines_for, find_engine
from sightline.errors import SightlineError
from sightline.exported_folder import ExportedFolder
from sightline.files import cache_folder, write_json
from sightline.formats import BF16, FLOAT32
from sightline.measuring import in_turns
from sightline.measuring.job import Job
from sightline.measuring.machine import instructions, processor, versions
from sightline.measuring.process import Worker
from sightline.progress import track

log = logging.getLogger("sightline")

_VERSION = 2
_ROUNDS = 8
_TURN_SECONDS = 0.25
_HOPELESS = 2.0
"""An engine this many times slower than the best is not timed again."""
_LIMIT_SECONDS = 20.0
"""After so long three rounds are enough, of a network whose calls take seconds."""
_START_SECONDS = 180.0
"""For all of them together, to open, convert or compile, and to answer once."""
_NUM_IMAGES = 4
_DAY_SECONDS = 86400


@dataclass(frozen=True)
class Tried:
    """What trying the engines found."""

    seconds: dict[str, float]
    """A call's median, by engine; the first is what runs the folder unless asked otherwise."""
    left_out: dict[str, str]
    """Why, by engine."""
    failed: bool = False
    """Whether one of these did not answer, which may pass: it is tried again after a day."""


def choose(folder: Folder, settings: Settings, batch_size: int) -> str:
    """The name of the fastest engine for batches of that size. Raises SightlineError when none can run the folder."""
    settings = _with_device(folder, settings)
    names, left_out = _candidates(folder, settings)
    if len(names) == 1 and not left_out:
        log.info(f"engine: {names[0]}, the only one that can run {str(folder.path)!r}.")
        return names[0]
    memory = _cache_file(folder, settings, batch_size, names)
    tried = _remembered(memory)
    known = tried is not None
    if tried is None:
        patience = "; torch's compiler may take a minute" if "compiled" in names else ""
        log.info(f"Trying {', '.join(names)} on batches of {batch_size}, once{patience}.")
        tried = _try_all(folder, settings, batch_size, names)
        _remember(memory, tried)
    best = min(tried.seconds, key=tried.seconds.__getitem__)
    log.info(_sentence(best, tried, batch_size, left_out | tried.left_out) + " Measured before." * known)
    return best


def _with_device(folder: Folder, settings: Settings) -> Settings:
    """With the device named: an exported folder runs on the CPU, and asking torch takes its import."""
    if settings.device != "auto":
        return settings
    if isinstance(folder, ExportedFolder):
        device = "cpu"
    else:
        from sightline.devices import pick_device

        device = pick_device("auto").type
    return replace(settings, device=device)


def _candidates(folder: Folder, settings: Settings) -> tuple[list[str], dict[str, str]]:
    """The engines to try, and why not the others. Raises SightlineError where the first of all can't run."""
    first, *others = engines_for(folder)
    check_engine(folder, first, settings)
    names, left_out = [first], dict[str, str]()
    for name in others:
        try:
            check_engine(folder, name, settings)
        except SightlineError as error:
            left_out[name] = str(error).split(". ")[0].rstrip(".")
            continue
        missing = find_engine(name).missing
        if missing is None:
            names.append(name)
        else:
            left_out[name] = f"{missing} is not installed"
    return names, left_out


def _try_all(folder: Folder, settings: Settings, batch_size: int, names: list[str]) -> Tried:
    left_out: dict[str, str] = {}
    with ExitStack() as stack, tempfile.TemporaryDirectory() as place:
        workers = {
            name: stack.enter_context(Worker(_job(folder, settings, batch_size, name)))
            for name in names  # all at once: opening takes far longer than measuring
        }
        opened = _opened(workers, left_out)
        answers = _answers(opened, folder, Path(place), left_out)
        strange = _strangers(answers, names[0], settings.precision, left_out)
        opened = {name: worker for name, worker in opened.items() if name in answers and name not in strange}
        found = in_turns(opened, rounds=_ROUNDS, seconds=_TURN_SECONDS, hopeless=_HOPELESS, limit=_LIMIT_SECONDS)
        turns = track(found, total=len(opened) * (_ROUNDS + 1), label="Trying engines", unit="turns")
        measured = list(turns)[-1]
    left_out |= {name: rounds.failure for name, rounds in measured.items() if rounds.failure is not None}
    seconds = {name: rounds.median for name, rounds in measured.items() if rounds.rounds}
    if not seconds:
        raise SightlineError(f"No engine could run {str(folder.path)!r}: {_listed(left_out)}.")
    return Tried(seconds, left_out, failed=not left_out.keys() <= set(strange))


def _job(folder: Folder, settings: Settings, batch_size: int, name: str) -> Job:
    return Job(path=str(folder.path), engine=name, batch_size=batch_size, **asdict(settings))


def _opened(workers: Mapping[str, Worker], left_out: dict[str, str]) -> dict[str, Worker]:
    """Those that answered in time; the others are added to `left_out`. Raises SightlineError without the first."""
    opened: dict[str, Worker] = {}
    end = time.monotonic() + _START_SECONDS
    for name, worker in track(workers.items(), total=len(workers), label="Opening", unit="engines"):
        try:
            worker.wait(max(1.0, end - time.monotonic()))
            opened[name] = worker
        except SightlineError as error:
            if not opened:
                raise
            left_out[name] = str(error).rstrip(".")
    return opened


def _answers(
    workers: Mapping[str, Worker], folder: Folder, place: Path, left_out: dict[str, str]
) -> dict[str, NDArray[np.float32]]:
    """Logits of noise; engines that fail are added to `left_out`. Raises SightlineError without the first's."""
    pixels = place / "pixels.npy"
    np.save(pixels, noise(folder.spec, _NUM_IMAGES))
    answers: dict[str, NDArray[np.float32]] = {}
    for name, worker in workers.items():
        try:
            worker.answer(pixels, place / f"{name}.npy")
            answers[name] = np.load(place / f"{name}.npy")
        except SightlineError as error:
            if not answers:
                raise
            left_out[name] = str(error).rstrip(".")
    return answers


def _strangers(
    answers: Mapping[str, NDArray[np.float32]], first: str, precision: str, left_out: dict[str, str]
) -> list[str]:
    """Engines whose logits of noise are too far from the first one's; the reasons are added to `left_out`."""
    distances = {name: farthest(answers[first], logits) for name, logits in answers.items()}
    strange = [name for name, far in distances.items() if not within(far, BF16 if precision == "bf16" else FLOAT32)]
    for name in strange:
        left_out[name] = f"its logits are off by {distances[name]:.2g} of their spread"
    return strange


def _sentence(best: str, tried: Tried, batch_size: int, left_out: Mapping[str, str]) -> str:
    first = next(iter(tried.seconds))
    times = {name: f"{name} {seconds * 1e3:.3g} ms" for name, seconds in tried.seconds.items()}
    faster = f", {tried.seconds[first] / tried.seconds[best]:.2f} times as fast as {first}" if best != first else ""
    said = f"engine: {best}{faster} on batches of {batch_size} ({', '.join(times.values())})."
    return f"{said} Left out: {_listed(left_out)}." if left_out else said


def _listed(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{name} ({reason})" for name, reason in reasons.items())


def _cache_file(folder: Folder, settings: Settings, batch_size: int, names: list[str]) -> Path:
    artefact = folder.artefact if isinstance(folder, ExportedFolder) else None
    model = (folder.spec.fingerprint, artefact and artefact.files)
    machine = (platform.node(), processor(), instructions(), cores(), os.environ.get("OMP_NUM_THREADS"), versions())
    parts = (_VERSION, model, asdict(settings), batch_size, names, machine)
    return cache_folder() / "engines" / f"auto-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}.json"


def _remembered(path: Path) -> Tried | None:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        seconds = {str(name): float(value) for name, value in stored["seconds"].items()}
        is_old = stored["failed"] and time.time() - path.stat().st_mtime > _DAY_SECONDS
        return Tried(seconds, dict(stored["left_out"]), stored["failed"]) if seconds and not is_old else None
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return None


def _remember(path: Path, tried: Tried) -> None:
    with suppress(SightlineError, OSError):  # measured again the next time
        write_json(path, asdict(tried))
