"""HTTP/1.1 with a bounded head: uvicorn bounds neither its size nor the time it takes to arrive."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 65_536


class Bounded(HttpToolsProtocol):
    """Ends a connection whose next request's head isn't whole after `header_seconds`, or is too long."""

    header_seconds = 10.0
    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True
    _in_hand = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The clock starts."""
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """The clock stops."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """What came before a head is whole is counted; with no request in hand the clock runs, whatever came."""
        super().data_received(data)
        if self._timer is None and not self._in_hand:
            self._start_clock()  # uvicorn's own, of an idle connection, ends with any byte: an empty line, a late body
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The request's head is too long.")

    def on_message_begin(self) -> None:
        """The next request on this connection; most heads are whole at once and need no clock."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """The clock stops; the body has one of its own."""
        self._in_head = False
        self._in_hand += 1
        self._stop_clock()
        super().on_headers_complete()

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


def bounded_by(header_seconds: float) -> type[asyncio.Protocol]:
    """The protocol with that bound."""
    return type("BoundedBy", (Bounded,), {"header_seconds": header_seconds})
