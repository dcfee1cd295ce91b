"""What the connection does besides HTTP: answers in one piece, and news of its end."""

import asyncio
from typing import Any, cast

import pytest

from sightline.serving.protocol import Bounded, _Joining

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Transport:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def write(self, content: bytes) -> None:
        self.sent.append(content)

    def close(self) -> None:
        self.sent.append(b"(closed)")


async def written(*contents: bytes, close: bool = False) -> tuple[list[bytes], list[bytes]]:
    """What was sent at once, and by the next turn of the loop."""
    transport = Transport()
    joining = _Joining(cast(asyncio.Transport, transport), asyncio.get_running_loop())
    for content in contents:
        joining.write(content)
    if close:
        joining.close()
    at_once = list(transport.sent)
    await asyncio.sleep(0)
    return at_once, transport.sent


@pytest.mark.parametrize(
    ("contents", "at_once", "then"),
    [
        ([HEAD, b"{}"], [HEAD + b"{}"], []),
        ([HEAD, b"a", b"b"], [HEAD + b"a", b"b"], []),
        ([HEAD], [], [HEAD]),
        ([HEAD, HEAD], [HEAD + HEAD], []),
        ([b"HTTP/1.1 100 Continue\r\n\r\n"], [b"HTTP/1.1 100 Continue\r\n\r\n"], []),
    ],
)
def test_a_head_goes_with_its_body_and_never_waits_longer_than_a_turn(
    contents: list[bytes], at_once: list[bytes], then: list[bytes]
) -> None:
    assert asyncio.run(written(*contents)) == (at_once, at_once + then)


def test_a_head_is_sent_before_the_connection_is_closed() -> None:
    assert asyncio.run(written(HEAD, close=True)) == ([HEAD, b"(closed)"], [HEAD, b"(closed)"])


def test_who_asks_to_be_told_of_a_connection_that_has_ended_is_told_at_once() -> None:
    connection: Any = Bounded.__new__(Bounded)
    told: list[str] = []
    connection.when_lost(lambda: told.append("first"))
    assert told == []
    connection._is_lost = True
    connection.when_lost(None)
    assert told == []
    connection.when_lost(lambda: told.append("second"))
    assert told == ["second"]
