"""Reading bodies: within a number of bytes for each, a number for all together, and a time."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.requests import Request
from starlette.types import Message

from sightline.serving.limits import Limits
from sightline.serving.metrics import Metrics
from sightline.serving.problems import Problem, RequestError, refuse


class ClientGoneError(Exception):
    """The connection ended; nobody reads an answer."""


class Intake:
    """Keeps count of the bytes that are held for requests."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._held = 0
        self._gauge = metrics.held

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncGenerator[bytes]:
        """The whole body; its bytes count as held until the block ends. Raises RequestError, ClientGoneError."""
        stated = _stated_length(request)
        if stated is not None and stated > self._limits.max_body_bytes:
            raise self._too_large()
        reserved = stated or 0
        self._hold(reserved)
        try:
            yield await self._read(request, reserved)
        finally:
            self._hold(-reserved)

    async def _read(self, request: Request, reserved: int) -> bytes:
        """The bytes; more than `reserved`, of a body whose length isn't stated, are counted while they arrive."""
        chunks: list[bytes] = []
        size, extra = 0, 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                more = True
                while more:
                    chunk, more = _chunk(await request.receive())
                    size += len(chunk)
                    if size > self._limits.max_body_bytes:
                        raise self._too_large()
                    if size > reserved + extra:
                        self._hold(size - reserved - extra)
                        extra = size - reserved
                    chunks.append(chunk)
        except TimeoutError as error:
            seconds = self._limits.body_seconds
            raise refuse("body_timeout", f"The body didn't arrive in {seconds:g} seconds.", close=True) from error
        finally:
            self._hold(-extra)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _hold(self, count: int) -> None:
        if count > 0 and self._held + count > self._limits.max_held_bytes:
            sentence = f"{self._held:,} bytes of other requests are in hand; {self._limits.max_held_bytes:,} may be."
            raise RequestError(Problem("overloaded", sentence), {"retry-after": "1", "connection": "close"})
        self._held += count
        self._gauge.set(self._held)

    def _too_large(self) -> RequestError:
        sentence = f"A request may have {self._limits.max_body_bytes:,} bytes; send the images in several."
        return refuse("body_too_large", sentence, close=True)


def _stated_length(request: Request) -> int | None:
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise refuse("invalid_request", f"Content-Length is no number: {text[:40]!r}.", close=True)
    return int(text)


def _chunk(message: Message) -> tuple[bytes, bool]:
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    return message.get("body", b""), message.get("more_body", False)
