"""What is done at each path of /v1, the health checks and the metrics. The Open Inference Protocol is in `v2`."""

import asyncio
import time
from contextlib import suppress
from functools import lru_cache
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from sightline.serving.answers import JSON, predicted
from sightline.serving.batching import Batcher
from sightline.serving.describing import card, line
from sightline.serving.intake import ClientGoneError, Intake
from sightline.serving.limits import Settings
from sightline.serving.metrics import Metrics
from sightline.serving.payloads import read_payload
from sightline.serving.problems import Problem, RequestError, refuse
from sightline.serving.protocol import CONNECTION
from sightline.serving.served import Loaded, Served
from sightline.serving.work import Answer, Ticket

PREDICT_OPTIONS = frozenset({"model", "top_k", "probabilities", "name"})


class Stops(Protocol):
    """What tells that the server is stopping."""

    draining: bool


class Endpoints:
    """The handlers, around what they share."""

    def __init__(self, served: Served, settings: Settings, metrics: Metrics) -> None:
        self.served = served
        self.limits = settings.limits
        self.intake = Intake(settings.limits, metrics)
        self.metrics = metrics
        self.stops: Stops | None = None
        """Who knows whether the server is stopping; set when the application is put together."""
        self._origins = settings.cors_origins
        self._images = lru_cache(metrics.images.labels)

    async def predict(self, request: Request) -> Response:
        """POST /v1/predict."""
        deadline = time.monotonic() + self.limits.deadline_seconds
        async with self.intake.body(request) as body:
            payload = await read_payload(request, body, self.limits, known=PREDICT_OPTIONS)
            loaded = self.served.find(payload.options.model)
            names = [name for name, _ in payload.images]
            note = request.scope["note"]
            note |= {"model": loaded.name, "images": len(names), "bytes": len(body)}
            del body
            ticket = loaded.batcher.submit([content for _, content in payload.images], deadline=deadline)
            rows = await answered(request, loaded.batcher, ticket)
        self.count(loaded, rows)
        return JSON(predicted(loaded, names, rows, payload.options))

    def count(self, loaded: Loaded, rows: list[Answer]) -> None:
        """Tell the metrics how a request's images ended."""
        for row in rows:
            outcome = row.code if isinstance(row, Problem) else "answered"
            self._images(loaded.name, outcome).inc()

    async def models(self, _request: Request) -> Response:
        """GET /v1/models."""
        return JSON({"models": [line(loaded) for loaded in self.served]})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{model}: the whole trail."""
        return JSON(card(self.served.find(request.path_params["model"])))

    async def reload(self, request: Request) -> Response:
        """POST /v1/models/{model}/reload."""
        self._check_origin(request)
        name = self.served.find(request.path_params["model"]).name
        before = self.served.find(name).fingerprint
        try:
            loaded = await self.served.reload(name)
        except RequestError:
            raise
        except Exception as error:  # engines raise what they like
            raise refuse("reload_failed", f"The model before goes on answering: {error}") from error
        return JSON({"model": name, "before": before, "fingerprint": loaded.fingerprint, "loaded": loaded.loaded})

    async def live(self, _request: Request) -> Response:
        """GET /v2/health/live: the process answers."""
        return JSON({"live": True})

    async def ready(self, _request: Request) -> Response:
        """GET /v2/health/ready: every model answers, and the server isn't stopping."""
        if not self.served.ready or (self.stops is not None and self.stops.draining):
            raise refuse("stopping", "The server is stopping, or its models are not loaded yet.")
        return JSON({"ready": True})

    async def figures(self, _request: Request) -> Response:
        """GET /metrics."""
        text, kind = self.metrics.text()
        return Response(text, headers={"content-type": kind})

    def _check_origin(self, request: Request) -> None:
        """A page of another site may send a POST without asking; it shall change nothing here. Raises RequestError."""
        origin = request.headers.get("origin")
        if origin is None or origin in self._origins or origin.partition("://")[2] == request.headers.get("host"):
            return
        raise refuse("forbidden", "Another site's page may not reload a model.")


async def answered(request: Request, batcher: Batcher, ticket: Ticket) -> list[Answer]:
    """A ticket's answers, in order.

    Raises RequestError when its deadline is over, ClientGoneError when the connection ends; its work is dropped then.
    """
    future = ticket.future
    client = _Client(request, future)
    timer = asyncio.get_running_loop().call_later(ticket.deadline - time.monotonic(), future.cancel)
    try:
        return await future
    except asyncio.CancelledError:
        batcher.drop(ticket)
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # the server itself gives up
            raise
        if client.has_left:
            raise ClientGoneError from None
        sentence = "The request was not answered in time; its work was dropped."
        raise RequestError(Problem("deadline_exceeded", sentence)) from None
    finally:
        timer.cancel()
        client.forget()


class _Client:
    """Who waits for a future, which is cancelled when the connection ends."""

    def __init__(self, request: Request, future: "asyncio.Future[list[Answer]]") -> None:
        self.has_left = False
        self._future = future
        self._connection = request.scope.get(CONNECTION)
        self._task: asyncio.Task[None] | None = None
        if self._connection is not None:
            self._connection.when_lost(self._leave)
        else:  # another ASGI server, which only tells who asks
            self._task = asyncio.ensure_future(_disconnected(request))
            self._task.add_done_callback(lambda _: self._leave())

    def forget(self) -> None:
        """The answer is there."""
        if self._task is None:
            assert self._connection is not None
            self._connection.when_lost(None)
            return
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            if self._task.done():
                self._task.exception()

    def _leave(self) -> None:
        self.has_left = True
        self._future.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
