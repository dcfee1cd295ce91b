"""Reloads that are asked for together, and engines that fail in ways of their own."""

import asyncio
import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from making import make_folder, make_photos
from running import Serving

from sightline.errors import SightlineError
from sightline.exporting import export
from sightline.model_folder import ModelFolder
from sightline.prediction import Predictor
from sightline.serving.limits import Settings
from sightline.serving.metrics import Metrics
from sightline.serving.problems import RequestError
from sightline.serving.served import Served

Opened = tuple[Predictor, dict[str, Any], int]


class EngineError(Exception):
    """As ONNX Runtime's: derived from nothing more particular."""


class Slow:
    """Opens a folder when it may, and counts."""

    def __init__(self, served: Served) -> None:
        self.begun = 0
        self.may_end = threading.Event()
        self._open: Callable[[Path], Opened] = served._open
        served._open = self  # type: ignore[method-assign]

    def __call__(self, path: Path) -> Opened:
        self.begun += 1
        assert self.may_end.wait(20)
        return self._open(path)


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not met():
            await asyncio.sleep(0.001)


async def opened(model: ModelFolder, *, watch_seconds: float = 0.0) -> Served:
    served = Served(Settings(models=(str(model.path),), watch_seconds=watch_seconds), Metrics())
    await served.open()
    return served


def test_all_who_ask_while_one_reload_is_running_share_the_next(served_model: ModelFolder) -> None:
    async def main() -> None:
        served = await opened(served_model)
        slow = Slow(served)
        first = asyncio.create_task(served.reload("photos"))
        await until(lambda: slow.begun == 1)
        others = [asyncio.create_task(served.reload("photos")) for _ in range(30)]
        await asyncio.sleep(0)
        others[0].cancel()  # whoever leaves takes it from nobody
        slow.may_end.set()
        before = await first
        after = await asyncio.gather(*others[1:])
        assert slow.begun == 2
        assert all(loaded is served.find(None) for loaded in after)
        assert before is not served.find(None)  # the files may have changed after the first one read them
        assert await served.reload("photos") is not after[0]
        await served.close()

    asyncio.run(main())


def test_a_reload_that_waits_when_the_server_stops_is_refused(served_model: ModelFolder) -> None:
    async def main() -> None:
        served = await opened(served_model)
        slow = Slow(served)
        first, second = (asyncio.create_task(served.reload("photos")) for _ in range(2))
        await until(lambda: slow.begun == 1)
        third = asyncio.create_task(served.reload("photos"))
        await asyncio.sleep(0)
        served.stop_reloading()
        slow.may_end.set()
        assert await first is await second
        with pytest.raises(RequestError, match="The server is stopping"):
            await third
        assert slow.begun == 1
        await served.close()

    asyncio.run(main())


def test_closing_leaves_a_reload_that_nobody_waits_for(served_model: ModelFolder) -> None:
    async def main() -> None:
        served = await opened(served_model)
        slow = Slow(served)
        asking = asyncio.create_task(served.reload("photos"))
        await until(lambda: slow.begun == 1)
        asking.cancel()
        async with asyncio.timeout(5):
            await served.close()
        slow.may_end.set()

    asyncio.run(main())


def test_the_watcher_survives_whatever_an_engine_raises(
    served_model: ModelFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        served = await opened(served_model, watch_seconds=0.01)
        before = served.find(None)
        watching = asyncio.create_task(served.watch())
        with monkeypatch.context() as patch:
            patch.setattr("sightline.serving.served.fastest_run", fail)
            (served_model.path / "model.json").touch()
            await until(lambda: "can't be opened; the one before goes on: no such kernel" in caplog.text)
            await asyncio.sleep(0.1)
            assert len(caplog.records) == 1  # tried once
            assert served.find(None) is before
        (served_model.path / "model.json").touch()
        await until(lambda: served.find(None) is not before)
        watching.cancel()
        await served.close()

    caplog.set_level(logging.ERROR, logger="sightline.serving")
    asyncio.run(main())


def test_a_reload_that_an_engine_fails_is_refused_with_its_sentence(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serving()
    monkeypatch.setattr("sightline.serving.served.fastest_run", fail)
    answer = client.post("/v1/models/photos/reload")
    told = answer.json()["error"]
    assert (answer.status_code, told["code"]) == (409, "reload_failed")
    assert told["message"].endswith("goes on answering: no such kernel")


def fail(*_: object, **__: object) -> int:
    raise EngineError("no such kernel")


@pytest.fixture(scope="module")
def two_exports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of other classes, and of images of another size."""
    place, found = tmp_path_factory.mktemp("exports"), list[Path]()
    for size, classes in ((16, ("blue", "green", "red")), (18, ("x", "y", "z"))):
        photos = make_photos(place / f"photos-{size}", classes=classes, count=2)
        found.append(export(make_folder(place / f"{size}", classes, image_size=size), "onnx", data=photos).path)
    return found[0], found[1]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["model.onnx", "model.json"], "changed while it was opened"),
        (["model.onnx"], "is not the file that model.json describes"),
    ],
)
def test_a_folder_that_changes_while_it_is_opened_is_refused(
    two_exports: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], sentence: str
) -> None:
    """An answer would name the newer model, and be the older one's."""
    older, newer = Path(shutil.copytree(two_exports[0], tmp_path / "photos")), two_exports[1]
    original: Callable[..., object] = Predictor.open

    def opening(path: Path, **settings: object) -> object:
        opened = original(path, **settings)
        for name in names:
            shutil.copy(newer / name, path)
        return opened

    async def main() -> None:
        served = Served(Settings(models=(str(older),), watch_seconds=0), Metrics())
        await served.open()
        monkeypatch.setattr(Predictor, "open", opening)
        before = served.find(None)
        with pytest.raises(SightlineError, match=sentence):
            await served.reload("photos")
        assert served.find(None) is before
        await served.close()

    asyncio.run(main())
