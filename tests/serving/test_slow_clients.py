"""Clients that send slowly, or leave: a server in a thread, with short patience."""

import socket
import threading
import time
from collections.abc import Generator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import uvicorn
from numpy.typing import NDArray
from running import until

from sightline.model_folder import ModelFolder
from sightline.serving.app import App
from sightline.serving.decoding import Source
from sightline.serving.limits import Batching, Limits, Settings
from sightline.serving.protocol import bounded_by


@pytest.fixture(scope="module")
def app(served_model: ModelFolder) -> App:
    limits = Limits(body_seconds=0.3, header_seconds=0.3)
    batching = Batching(decode_threads=2)  # on a single core, too
    models = (str(served_model.path),)
    return App(Settings(models=models, watch_seconds=0, access_log=False, limits=limits, batching=batching))


@pytest.fixture(scope="module")
def port(app: App) -> Generator[int]:
    config = uvicorn.Config(app, port=0, http=bounded_by(0.3), log_config=None, access_log=False, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.02)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(20)


def answer_to(port: int, *packets: bytes) -> bytes:
    """What comes back until the connection ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for packet in packets:
            connection.sendall(packet)
            time.sleep(0.02)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return received


def head(length: int) -> bytes:
    return b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/jpeg\r\ncontent-length: %d\r\n\r\n" % length


def test_a_body_that_takes_too_long_is_given_up(port: int) -> None:
    answer = answer_to(port, head(100) + b"x" * 10)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body_timeout"' in answer
    assert b"connection: close" in answer


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nx: ", b"POST"])
def test_a_head_that_takes_too_long_is_given_up(port: int, sent: bytes) -> None:
    start = time.monotonic()
    assert answer_to(port, sent) == b""
    assert time.monotonic() - start < 10


ALIVE = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"


def answers(connection: socket.socket, count: int) -> bytes:
    """What comes back until so many answers are whole."""
    received = b""
    while received.count(b'{"live":true}') < count:
        piece = connection.recv(65536)
        assert piece, received
        received += piece
    return received


@pytest.mark.parametrize(
    "sent", [b"\r\n", b"\n", b"G"], ids=["an empty line", "a line feed", "the beginning of a request"]
)
def test_a_kept_connection_with_less_than_a_head_is_given_up(port: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=4) as connection:
        connection.sendall(ALIVE)
        answers(connection, 1)
        connection.sendall(sent)
        assert connection.recv(100) == b""


def test_a_body_that_goes_on_after_its_answer_is_given_up(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=4) as connection:
        connection.sendall(ALIVE.replace(b"host: x", b"host: x\r\ncontent-length: 100"))
        answers(connection, 1)
        connection.sendall(b"x")
        assert connection.recv(100) == b""


def test_an_idle_connection_and_requests_in_line_are_not(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=4) as connection:
        for count in (1, 3):
            connection.sendall(ALIVE * count)
            answers(connection, count)
            time.sleep(0.6)
        connection.sendall(b"\r\n" + ALIVE[:10])
        time.sleep(0.1)
        connection.sendall(ALIVE[10:] + b"\r\n")
        answers(connection, 1)
        time.sleep(0.6)
        connection.sendall(ALIVE)
        answers(connection, 1)


def test_an_empty_line_after_a_request_does_not_end_it(port: int, app: App, photo: bytes) -> None:
    batcher = next(iter(app.served)).batcher
    model = batcher._model

    def decode(source: Source) -> NDArray[np.uint8]:
        time.sleep(0.8)
        return model.decode(source)

    batcher._model = replace(model, decode=decode)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head(len(photo)) + photo)
        time.sleep(0.1)
        connection.sendall(b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    batcher._model = model


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"], ids=["begun", "whole"])
def test_a_head_that_is_too_long_is_refused(port: int, end: bytes) -> None:
    answer = answer_to(port, b"GET / HTTP/1.1\r\nx: " + b"x" * 70_000 + end)
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_what_isn_t_http_is_refused(port: int) -> None:
    assert answer_to(port, b"\x16\x03\x01\x02\x00 nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_a_body_that_is_too_large_is_refused_unread(port: int) -> None:
    answer = answer_to(port, head(10**12))
    assert answer.startswith(b"HTTP/1.1 413 ")
    for length in (b"-1", b"1e3", b"\xb2", b"9" * 30):
        sent = head(0).replace(b"content-length: 0", b"content-length: " + length)
        assert answer_to(port, sent)[9:12] in (b"400", b"413")


def test_a_refusal_reaches_a_client_that_sends_all_before_it_reads(port: int) -> None:
    length = 40 * 2**20
    answer = answer_to(port, head(length) + b"x" * length)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body_too_large"' in answer


def test_a_client_that_leaves_has_its_work_dropped(port: int, app: App, photo: bytes) -> None:
    batcher = next(iter(app.served)).batcher
    model = batcher._model
    may_decode, decoded = threading.Event(), list[Source]()

    def decode(source: Source) -> NDArray[np.uint8]:
        decoded.append(source)
        assert may_decode.wait(20)
        return model.decode(source)

    batcher._model = replace(model, decode=decode)
    busy = [photo + bytes([number]) for number in range(len(batcher._threads) - 1)]  # as many as threads that decode
    ask = [threading.Thread(target=answer_to, args=(port, closing(content))) for content in busy]
    for thread in ask:
        thread.start()
    until(lambda: len(decoded) == len(busy))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(closing(photo))
        until(lambda: batcher.waiting == len(busy) + 1)
    until(lambda: batcher.waiting == len(busy))
    may_decode.set()
    for thread in ask:
        thread.join(20)
    assert answer_to(port, closing(photo + b"last")).startswith(b"HTTP/1.1 200 ")
    assert sorted(map(bytes, decoded)) == sorted([*busy, photo + b"last"])
    batcher._model = model


def closing(content: bytes) -> bytes:
    return head(len(content)).replace(b"host: x", b"host: x\r\nconnection: close") + content


@pytest.mark.parametrize("name", [b"Upgrade", b"upgrade"])
@pytest.mark.parametrize("cut", [(), (30,), (-1,), (30, -1)])
def test_an_offer_of_another_protocol_is_passed_over(
    port: int, photo: bytes, name: bytes, cut: tuple[int, ...]
) -> None:
    """As Java's client makes it by default. -1 cuts between head and body."""
    offer = b"\r\nconnection: Upgrade, HTTP2-Settings, close\r\n" + name + b": h2c\r\ncontent-length"
    start = head(len(photo)).replace(b"\r\ncontent-length", offer)
    places = [0, *(len(start) if place < 0 else place for place in cut), len(start) + len(photo)]
    packets = [(start + photo)[begin:end] for begin, end in pairwise(places)]
    assert answer_to(port, *packets).startswith(b"HTTP/1.1 200 ")


def test_an_offer_that_is_found_too_late_is_refused_and_the_body_is_no_request(port: int) -> None:
    hidden = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"
    start = head(len(hidden)).replace(b"\r\nhost: x", b"\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c")
    place = start.index(b"grade: h2c")
    answer = answer_to(port, start[:place], start[place:], hidden)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
