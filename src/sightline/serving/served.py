"""The models that are served, by name, and how one is swapped for a newer one without losing a request.

A request holds on to the model that it began with: the newer one takes what comes after, and the older one ends
when it has answered everything it accepted.
"""

import asyncio
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from sightline.devices import cores
from sightline.errors import SightlineError, unknown_name
from sightline.exported_folder import open_folder
from sightline.model_folder import read_description
from sightline.prediction import Predictor
from sightline.serving.batching import Batcher
from sightline.serving.decoding import decoded
from sightline.serving.limits import Settings
from sightline.serving.metrics import Metrics
from sightline.serving.problems import RequestError, refuse
from sightline.serving.run_size import clock_of_runs, fastest_run
from sightline.serving.work import Model

Stamp: TypeAlias = tuple[tuple[str, int, int], ...]
"""Name, time of change and size of a folder's files."""

_log = logging.getLogger("sightline.serving")


@dataclass(frozen=True)
class Loaded:
    """One model as it answers now."""

    name: str
    path: Path
    predictor: Predictor
    batcher: Batcher
    description: dict[str, Any]
    """What model.json holds."""
    stamp: Stamp
    """Of its files when it was opened."""
    loaded: str
    """UTC, ISO 8601."""

    @property
    def fingerprint(self) -> str:
        """Names the model's answers."""
        return str(self.description["fingerprint"])


class Served:
    """All models of this process."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._paths = named_paths(settings.models)
        self._loaded: dict[str, Loaded] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._locks = {name: asyncio.Lock() for name in self._paths}
        self._next: dict[str, asyncio.Task[Loaded]] = {}  # reloads that have not looked at the folder yet
        self._reloading: set[asyncio.Task[Loaded]] = set()
        self._may_reload = True
        self._refused: dict[str, Stamp] = {}

    def __iter__(self) -> Iterator[Loaded]:
        return iter(self._loaded.values())

    @property
    def ready(self) -> bool:
        """Whether every model answers."""
        return len(self._loaded) == len(self._paths)

    @property
    def waiting(self) -> int:
        """Images accepted and not yet answered."""
        return sum(loaded.batcher.waiting for loaded in self)

    def find(self, name: str | None) -> Loaded:
        """The model of that name, or the first. Raises RequestError."""
        if name is None:
            return next(iter(self._loaded.values()))
        if name not in self._loaded:
            raise refuse("unknown_model", unknown_name("model", name, self._loaded, listing="/v1/models"))
        return self._loaded[name]

    async def open(self) -> None:
        """Open every model. Raises SightlineError for the first that can't be."""
        for name in self._paths:
            await self.reload(name)

    async def reload(self, name: str) -> Loaded:
        """Open the folder anew and let it answer from now on; whoever asks before it has begun shares the result.

        Raises RequestError (stopping) after `stop_reloading`, SightlineError or whatever else an engine raises for a
        folder that it can't open; the older one goes on.
        """
        task = self._next.get(name)
        if task is None:
            task = self._next[name] = asyncio.create_task(self._reload(name))
            self._reloading.add(task)
            task.add_done_callback(self._reloading.discard)
        return await asyncio.shield(task)

    def stop_reloading(self) -> None:
        """The server is stopping: no reload begins any more, not even one that waits to."""
        self._may_reload = False

    async def _reload(self, name: str) -> Loaded:
        async with self._locks[name]:
            del self._next[name]
            if not self._may_reload:
                raise refuse("stopping", "The server is stopping; no model is loaded anew.")
            path = self._paths[name]
            stamp = _stamp(path)
            try:
                predictor, description, size, run_seconds = await asyncio.to_thread(self._open, path)
            except Exception:
                self._refused[name] = stamp
                self._metrics.reloads.labels(name, "refused").inc()
                raise
            older = self._loaded.get(name)
            batching = replace(self._settings.batching, max_batch=size)
            model = self._model(name, predictor, run_seconds)
            batcher = Batcher(
                model, batching=batching, limits=self._settings.limits, metrics=self._metrics, cores=cores()
            )
            now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
            self._loaded[name] = Loaded(name, path, predictor, batcher, description, stamp, now)
            if older is not None:
                self._metrics.reloads.labels(name, "loaded").inc()
                self._retire(older)
            return self._loaded[name]

    async def watch(self) -> None:
        """Reload a model when its folder changes; one that can't be opened is logged, and tried once."""
        while True:
            await asyncio.sleep(self._settings.watch_seconds)
            for name, loaded in list(self._loaded.items()):
                stamp = _stamp(loaded.path)
                if not stamp or stamp in (loaded.stamp, self._refused.get(name)):
                    continue
                try:
                    await self.reload(name)
                    _log.info("model %r was loaded anew: %s", name, self._loaded[name].fingerprint[:12])
                except RequestError:  # the server is stopping
                    return
                except Exception as error:  # noqa: BLE001  # this task's outermost handler: engines raise what they like
                    _log.error("model %r changed and can't be opened; the one before goes on: %s", name, error)

    async def close(self) -> None:
        """Answer what was accepted, then end every thread."""
        for task in self._reloading:
            task.cancel()
        await asyncio.gather(*self._reloading, return_exceptions=True)
        await asyncio.gather(*(loaded.batcher.close() for loaded in self), *self._closing)

    def _open(self, path: Path) -> tuple[Predictor, dict[str, Any], int, float]:
        """Also how many images its runs should take, and the seconds of such a run."""
        settings = self._settings
        description = read_description(path)
        predictor = Predictor.open(
            path,
            device=settings.device,
            engine=settings.engine,
            precision=settings.precision,
            threads=settings.threads,
            batch_size=settings.batching.max_batch,
        )
        open_folder(path)  # its files are still those that model.json names
        if read_description(path) != description:
            raise SightlineError(f"{str(path)!r} changed while it was opened.")
        side = predictor.spec.preprocess.image_size
        most, clock = settings.batching.largest, clock_of_runs(settings.device)
        size, run_seconds = fastest_run(predictor.probabilities, side, most, clock=clock)
        return predictor, description, size, run_seconds

    def _model(self, name: str, predictor: Predictor, run_seconds: float) -> Model:
        max_pixels, preprocess = self._settings.limits.max_pixels, predictor.spec.preprocess
        return Model(
            name=name,
            decode=lambda source: decoded(source, preprocess, max_pixels),
            probabilities=predictor.probabilities,
            run_seconds=run_seconds,
        )

    def _retire(self, older: Loaded) -> None:
        task = asyncio.create_task(older.batcher.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def named_paths(models: tuple[str, ...]) -> dict[str, Path]:
    """Folders by the name they are served under. Raises SightlineError where two have the same."""
    paths: dict[str, Path] = {}
    for text in models:
        name, separator, location = text.partition("=")
        path = Path(location if separator and not Path(text).exists() else text)
        name = name if path != Path(text) else path.resolve().name
        if name in paths:
            raise SightlineError(f"Two models would be called {name!r}. Name one of them, as in other={path}.")
        if not name or "/" in name:
            raise SightlineError(f"A model can't be called {name!r}. Name it, as in photos={location or text}.")
        paths[name] = path
    return paths


def _stamp(path: Path) -> Stamp:
    """What changes when a file that a model is read from does; empty while there is no model.json."""
    try:
        with os.scandir(path) as entries:
            files = sorted(entry.name for entry in entries if entry.name.startswith(("model", "weights")))
        states = [(path / name).stat() for name in files]
    except OSError:
        return ()
    if "model.json" not in files:
        return ()
    return tuple(zip(files, (state.st_mtime_ns for state in states), (state.st_size for state in states), strict=True))
