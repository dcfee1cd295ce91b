"""Reading bodies: within a number of bytes for each, a number for all together, and a time."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import Message, Receive

from sightline.serving.limits import MEGABYTE, Limits
from sightline.serving.metrics import Metrics
from sightline.serving.problems import Problem, RequestError, refuse

LINGER_SECONDS = 2.0
"""For which the rest of a refused body is still read."""

LINGER_BYTES = 64 * MEGABYTE
"""Of a refused body that are still read: twice what a request may have by default."""


class ClientGoneError(Exception):
    """The connection ended; nobody reads an answer."""


class Arriving:
    """What a client sends for one request, and whether all of it has come."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False

    async def receive(self) -> Message:
        """The next message, as ASGI has it."""
        message = await self._receive()
        self._ended = not message.get("more_body", False)  # the client may also have gone
        return message

    async def discard(self) -> None:
        """Read what is left of a body and forget it, within LINGER_SECONDS and LINGER_BYTES.

        A connection that ends over bytes that nobody read is reset, and its client may never see the answer.
        """
        size = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while not self._ended and size < LINGER_BYTES:
                    size += len((await self.receive()).get("body", b""))


@dataclass(slots=True)
class _Held:
    """Bytes of one request."""

    size: int = 0


class Intake:
    """Keeps count of the bytes that are held for requests."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._held = 0
        self._gauge = metrics.held

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncGenerator[bytes]:
        """The whole body; its bytes count as held until the block ends. Raises RequestError, ClientGoneError."""
        stated = _stated_length(request) or 0
        if stated > self._limits.max_body_bytes:
            raise self._too_large()
        self._check_room(stated)
        held = _Held()
        try:
            yield await self._read(request, held)
        finally:
            self._hold(-held.size)

    async def _read(self, request: Request, held: _Held) -> bytes:
        """The bytes, counted as they arrive: a length that is stated costs its client nothing."""
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                more = True
                while more:
                    chunk, more = _chunk(await request.receive())
                    if held.size + len(chunk) > self._limits.max_body_bytes:
                        raise self._too_large()
                    self._check_room(len(chunk))
                    self._hold(len(chunk))
                    held.size += len(chunk)
                    chunks.append(chunk)
        except TimeoutError as error:
            seconds = self._limits.body_seconds
            raise refuse("body_timeout", f"The body didn't arrive in {seconds:g} seconds.", close=True) from error
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _check_room(self, count: int) -> None:
        """Raises RequestError where that many bytes more are more than may be held."""
        if self._held + count > self._limits.max_held_bytes:
            sentence = f"{self._held:,} bytes of requests are in hand; {self._limits.max_held_bytes:,} may be."
            raise RequestError(Problem("overloaded", sentence), {"retry-after": "1", "connection": "close"})

    def _hold(self, count: int) -> None:
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
