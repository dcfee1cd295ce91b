"""What is held for requests while they arrive, and what is read of those that are refused."""

import asyncio
from collections.abc import AsyncGenerator, Iterable

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Message

from sightline.model_folder import ModelFolder
from sightline.serving import intake
from sightline.serving.app import App
from sightline.serving.intake import Arriving, Intake
from sightline.serving.limits import Limits, Settings
from sightline.serving.metrics import Metrics
from sightline.serving.problems import RequestError


def request(chunks: Iterable[bytes], stated: int | None = None) -> Request:
    """A request whose body is those chunks; after them nothing comes any more."""
    remaining = list(chunks)

    async def receive() -> Message:
        if not remaining:
            await asyncio.Event().wait()
        chunk = remaining.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(remaining)}

    headers = [] if stated is None else [(b"content-length", b"%d" % stated)]
    return Request({"type": "http", "headers": headers}, receive)


def held(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("sightline_held_bytes")


@pytest.mark.parametrize("stated", [None, 60])
def test_a_body_is_held_until_its_request_is_answered(stated: int | None) -> None:
    async def main() -> None:
        metrics = Metrics()
        bodies = Intake(Limits(max_held_bytes=100), metrics)
        async with bodies.body(request([b"x" * 30] * 2, stated)) as body:
            assert (len(body), held(metrics)) == (60, 60)
            with pytest.raises(RequestError, match="bytes of requests are in hand; 100 may be"):
                async with bodies.body(request([b"x" * 30] * 2, stated)):
                    pass
            assert held(metrics) == 60
        assert held(metrics) == 0

    asyncio.run(main())


def test_a_length_that_is_stated_and_not_sent_takes_no_room() -> None:
    async def main() -> None:
        bodies = Intake(Limits(max_held_bytes=100), Metrics())
        silent = [asyncio.create_task(bodies.body(request([], stated=100)).__aenter__()) for _ in range(8)]
        await asyncio.sleep(0)
        async with bodies.body(request([b"x" * 100], stated=100)) as body:
            assert len(body) == 100
        for task in silent:
            task.cancel()
        await asyncio.gather(*silent, return_exceptions=True)

    asyncio.run(main())


def test_a_heat_map_counts_from_when_its_image_is_there(served_model: ModelFolder, photo: bytes) -> None:
    async def main() -> None:
        app = App(Settings(models=(str(served_model.path),), watch_seconds=0, access_log=False))
        await app.open()
        begun, ended = asyncio.Semaphore(0), asyncio.Event()

        async def slowly() -> AsyncGenerator[bytes]:
            begun.release()
            await ended.wait()
            yield b""

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            most = app.settings.limits.max_explanations
            waiting = [asyncio.create_task(client.post("/v1/explain", content=slowly())) for _ in range(most)]
            for _ in waiting:
                await begun.acquire()
            assert (await client.post("/v1/explain", content=photo)).status_code == 200
            ended.set()
            assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {400}
        await app.close()

    asyncio.run(main())


def test_what_is_left_of_a_body_is_discarded_to_its_end() -> None:
    async def main() -> None:
        arriving = Arriving(request([b"x"] * 5).receive)
        await arriving.receive()
        await arriving.discard()
        await arriving.discard()  # nothing is waited for behind the end

    asyncio.run(asyncio.wait_for(main(), 1))


def test_a_refused_body_is_discarded_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "LINGER_SECONDS", 0.01)
    asyncio.run(asyncio.wait_for(Arriving(request([]).receive).discard(), 1))


def test_a_refused_body_is_discarded_up_to_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "LINGER_BYTES", 25)
    read: list[int] = []

    async def endless() -> Message:
        read.append(10)
        return {"type": "http.request", "body": b"x" * 10, "more_body": True}

    asyncio.run(Arriving(endless).discard())
    assert len(read) == 3
