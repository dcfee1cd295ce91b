"""The application: models, routes and the door around them, as ASGI."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from sightline.serving.door import Door
from sightline.serving.endpoints import Endpoints
from sightline.serving.explaining import Explanations
from sightline.serving.limits import Settings
from sightline.serving.metrics import Metrics
from sightline.serving.pages import page_routes
from sightline.serving.served import Served
from sightline.serving.v2 import Inference


class App:
    """What an ASGI server runs."""

    def __init__(self, settings: Settings) -> None:
        metrics = Metrics()
        self.settings = settings
        self.served = Served(settings, metrics)
        self.endpoints = Endpoints(self.served, settings, metrics)
        router = Router([*_routes(self.endpoints), *page_routes()], redirect_slashes=False, lifespan=self._lifespan)
        self.door = Door(router, settings, metrics)
        self.endpoints.stops = self.door
        self._watching: asyncio.Task[None] | None = None
        self._asgi: ASGIApp = self.door
        if settings.cors_origins:
            self._asgi = CORSMiddleware(
                self.door,
                allow_origins=list(settings.cors_origins),
                allow_methods=["GET", "POST"],
                allow_headers=["authorization", "content-type", "x-request-id"],
                expose_headers=["x-request-id", "retry-after"],
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or open and close the models."""
        await self._asgi(scope, receive, send)

    async def open(self) -> None:
        """Open the models. Raises SightlineError for the first that can't be."""
        await self.served.open()
        if self.settings.watch_seconds:
            self._watching = asyncio.create_task(self.served.watch())

    async def close(self) -> None:
        """Answer what was accepted and end the models' threads."""
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        await self.served.close()

    @asynccontextmanager
    async def _lifespan(self, _router: object) -> AsyncGenerator[None]:
        """For servers that open applications themselves; `workers` does it before it listens."""
        await self.open()
        try:
            yield
        finally:
            await self.close()


def _routes(endpoints: Endpoints) -> list[Route]:
    """The busiest first: they are tried in order."""
    inference, explanations = Inference(endpoints), Explanations(endpoints)
    return [
        Route("/v1/predict", endpoints.predict, methods=["POST"]),
        Route("/v2/models/{model}/infer", inference.infer, methods=["POST"]),
        Route("/v1/explain", explanations.explain, methods=["POST"]),
        Route("/v1/models", endpoints.models),
        Route("/v1/models/{model}", endpoints.model),
        Route("/v1/models/{model}/reload", endpoints.reload, methods=["POST"]),
        Route("/v2/health/live", endpoints.live),
        Route("/v2/health/ready", endpoints.ready),
        Route("/v2", inference.server),
        Route("/v2/models/{model}", inference.model),
        Route("/v2/models/{model}/ready", inference.ready),
        Route("/v2/models/{model}/versions/{version}", inference.model),
        Route("/v2/models/{model}/versions/{version}/ready", inference.ready),
        Route("/v2/models/{model}/versions/{version}/infer", inference.infer, methods=["POST"]),
        Route("/metrics", endpoints.figures),
    ]
