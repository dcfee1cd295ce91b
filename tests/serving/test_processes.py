"""What signals, sockets and processes do to a server: each test has one of its own."""

import http.client
import json
import os
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from formats.filled import make_filled
from running import Running, until

from sightline.model_folder import Calibration, ModelFolder

Run = Callable[..., Running]

pytestmark = pytest.mark.slow


def post(address: str, content: bytes, path: str = "/v1/predict") -> tuple[int, dict[str, object]]:
    request = urllib.request.Request(address + path, content, {"content-type": "image/jpeg"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


class Clients:
    """Threads that ask one after another, each on one connection for as long as it lasts, until told to stop."""

    def __init__(self, running: Running, photo: bytes, count: int = 4) -> None:
        self.statuses: list[int] = []
        self.lost: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(running.port, photo)) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self, port: int, photo: bytes) -> None:
        while not self._stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            asked = 0
            try:
                while not self._stop.is_set():
                    connection.request("POST", "/v1/predict", photo, {"content-type": "image/jpeg"})
                    answer = connection.getresponse()
                    answer.read()
                    self.statuses.append(answer.status)
                    asked += 1
                    if answer.headers.get("connection") == "close":
                        break
            except ConnectionError as error:
                if asked:
                    self.lost.append(repr(error))
                return  # a new connection that is refused, or reset in the system's queue, was never accepted
            finally:
                connection.close()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_stop_answers_what_it_accepted(
    run_server: Run, served_model: ModelFolder, photo: bytes, number: signal.Signals
) -> None:
    running = run_server(served_model.path)
    clients = Clients(running, photo)
    until(lambda: len(clients.statuses) > 20)
    running.process.send_signal(number)
    assert running.process.wait(20) == 0
    clients.end()
    assert clients.lost == []
    assert set(clients.statuses) == {200}


def test_a_reload_and_a_changed_folder_lose_no_request(run_server: Run, tmp_path: Path, photo: bytes) -> None:
    folder = make_filled(tmp_path / "photos")
    running = run_server(folder.path)
    clients = Clients(running, photo)
    until(lambda: len(clients.statuses) > 10)
    _, before = post(running.address, photo)
    for _ in range(3):
        assert post(running.address, b"", "/v1/models/photos/reload")[0] == 200
    spec = replace(folder.spec, calibration=Calibration(temperature=3.0, fitted_on="nothing"))
    ModelFolder.write(folder.path, spec, folder.model().state_dict())
    until(lambda: post(running.address, photo)[1]["fingerprint"] != before["fingerprint"])
    assert post(running.address, b"", "/v1/models/photos/reload")[0] == 200
    clients.end()
    assert clients.lost == []
    assert set(clients.statuses) == {200}


def test_a_folder_that_breaks_leaves_the_model_before(run_server: Run, tmp_path: Path, photo: bytes) -> None:
    folder = make_filled(tmp_path / "photos")
    running = run_server(folder.path)
    _, before = post(running.address, photo)
    (folder.path / "weights.safetensors").write_bytes(b"half")
    status, told = post(running.address, b"", "/v1/models/photos/reload")
    assert (status, told["error"]["code"]) == (409, "reload_failed")  # type: ignore[index]
    assert post(running.address, photo) == (200, before)


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [child for child in map(int, listed) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_a_killed_worker_comes_back_and_all_stop_together(
    run_server: Run, served_model: ModelFolder, photo: bytes
) -> None:
    running = run_server(served_model.path, "--workers", "2")
    until(lambda: len(children(running.process.pid)) == 2)
    first = children(running.process.pid)
    assert post(running.address, photo)[0] == 200
    os.kill(first[0], signal.SIGKILL)
    until(lambda: len(children(running.process.pid)) == 2 and children(running.process.pid) != first)
    until(lambda: post(running.address, photo)[0] == 200)
    text = urllib.request.urlopen(f"{running.address}/metrics").read().decode()
    assert re.search(r'sightline_requests_total\{endpoint="/v1/predict",status="200"\} [2-9]', text)
    workers = children(running.process.pid)
    running.process.terminate()
    assert running.process.wait(20) == 0
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_a_worker_that_can_t_open_a_damaged_model_leaves_the_others_alone(
    run_server: Run, tmp_path: Path, photo: bytes
) -> None:
    folder = make_filled(tmp_path / "photos")
    running = run_server(folder.path, "--workers", "2")
    until(lambda: len(children(running.process.pid)) == 2)
    assert post(running.address, photo)[0] == 200
    described = (folder.path / "model.json").read_bytes()
    (folder.path / "model.json").write_bytes(b"half")
    os.kill(children(running.process.pid)[0], signal.SIGKILL)
    log = tmp_path / "server.log"
    until(lambda: "ended with 2; another takes its place" in log.read_text())
    assert post(running.address, photo)[0] == 200
    (folder.path / "model.json").write_bytes(described)
    until(lambda: len(children(running.process.pid)) == 2)
    running.process.terminate()
    assert running.process.wait(20) == 0


def test_workers_end_when_their_parent_is_killed(run_server: Run, served_model: ModelFolder, photo: bytes) -> None:
    running = run_server(served_model.path, "--workers", "2")
    assert post(running.address, photo)[0] == 200
    workers = children(running.process.pid)
    running.process.kill()
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


def test_a_client_that_leaves_does_no_harm(run_server: Run, served_model: ModelFolder, photo: bytes) -> None:
    running = run_server(served_model.path)
    head = b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/jpeg\r\ncontent-length: %d\r\n\r\n" % len(
        photo
    )
    for sent in (head, head + photo[:50], head + photo):
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(sent)
    assert post(running.address, photo)[0] == 200


def test_a_head_without_end_is_cut_off(run_server: Run, served_model: ModelFolder) -> None:
    running = run_server(served_model.path)
    with socket.create_connection(("127.0.0.1", running.port), timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nx: ")
        sent = 0
        try:
            while sent < 10_000_000:
                connection.sendall(b"x" * 10_000)
                sent += 10_000
                time.sleep(0.001)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert sent < 2_000_000


def test_workers_that_can_t_open_the_model_end_the_command(run_server: Run, tmp_path: Path) -> None:
    folder = make_filled(tmp_path / "photos")
    (folder.path / "weights.safetensors").write_bytes(b"half")
    with pytest.raises(AssertionError, match="is not the file that model.json describes"):
        run_server(folder.path, "--workers", "2")
