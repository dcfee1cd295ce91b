"""HTTP/1.1 with a bounded head: uvicorn bounds neither its size nor the time it takes to arrive."""

import asyncio
import re
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 65_536
_TOO_LONG = "The request's head is too long."

_UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
_OF_A_BODY = frozenset({b"content-length", b"transfer-encoding"})
"""Headers of a request that has one."""

CONNECTION = "sightline.connection"
"""In a request's scope: this protocol, which tells of the connection's end without a task that waits for it."""


class _Joining:
    """A connection's transport that sends a response's head together with its body: one packet, one call of the system.

    uvicorn writes the two apart, and each packet costs what a small answer does.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._head = b""

    def write(self, content: bytes) -> None:
        """Send it, or, of a final head, wait for what is written next in this turn of the loop."""
        if not self._head and content.startswith(b"HTTP/1.1 ") and not content.startswith(b"HTTP/1.1 1"):
            self._head = content
            self._loop.call_soon(self._send_head)
            return
        head, self._head = self._head, b""
        self._transport.write(head + content if head else content)

    def close(self) -> None:
        """After what was written."""
        self._send_head()
        self._transport.close()

    def _send_head(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Bounded(HttpToolsProtocol):
    """Ends a connection whose next request's head isn't whole after `header_seconds`, or is too long."""

    header_seconds = 10.0
    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True
    _in_body = False
    _in_hand = 0
    _is_lost = False
    _on_lost: Callable[[], None] | None = None

    def when_lost(self, callback: Callable[[], None] | None) -> None:
        """Call that when the connection ends, at once where it has, instead of what was to be called before."""
        self._on_lost = callback
        if self._is_lost and callback is not None:
            callback()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The clock starts."""
        super().connection_made(transport)
        self.transport = cast(asyncio.Transport, _Joining(transport, self.loop))
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """The clock stops, and who waits for an answer is told."""
        self._stop_clock()
        super().connection_lost(exc)
        self._is_lost = True
        if self._on_lost is not None:
            self._on_lost()

    def data_received(self, data: bytes) -> None:
        """What came before a head is whole is counted; with no request in hand the clock runs, whatever came."""
        super().data_received(data if self._in_body else _without_upgrade(data))
        if self._timer is None and not self._in_hand:
            self._start_clock()  # uvicorn's own, of an idle connection, ends with any byte: an empty line, a late body
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response(_TOO_LONG)

    def on_message_begin(self) -> None:
        """The next request on this connection; most heads are whole at once and need no clock."""
        super().on_message_begin()
        self.scope[CONNECTION] = self  # type: ignore[typeddict-unknown-key]
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """The clock stops; the body has one of its own."""
        self._in_head, self._in_body = False, True
        self._in_hand += 1
        self._stop_clock()
        if self.parser and self.parser.should_upgrade() and not _OF_A_BODY.isdisjoint(name for name, _ in self.headers):
            self.send_400_response("A request with a body can't ask for another protocol.")
            return
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self.send_400_response(_TOO_LONG)  # one that came at once was parsed before its bytes were counted
            return
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """What comes now is the next head."""
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """A request less is in hand; uvicorn takes the next one, or starts its own clock."""
        self._in_hand -= 1
        super().on_response_complete()

    def _start_clock(self) -> None:
        self._timer = self.loop.call_later(self.header_seconds, self._end)

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


def _without_upgrade(data: bytes) -> bytes:
    """A head that asks for no other protocol, which a server may ignore (RFC 9110, section 7.8).

    The parser would take it for the message's end, and the body for the next request. A header whose name is spread
    over two packets, or in a head that follows another in its packet, is not found here; `on_headers_complete` is
    asked for those.
    """
    end = data.find(b"\r\n\r\n")
    head = data if end < 0 else data[:end]
    return _UPGRADE.sub(b"\r\nx-upgrade:", head) + data[len(head) :] if _UPGRADE.search(head) else data


def bounded_by(header_seconds: float) -> type[asyncio.Protocol]:
    """The protocol with that bound."""
    return type("BoundedBy", (Bounded,), {"header_seconds": header_seconds})
