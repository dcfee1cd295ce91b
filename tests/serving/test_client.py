import json
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

import pytest
import uvicorn

from sightline.client import Client
from sightline.errors import SightlineError
from sightline.model_folder import ModelFolder
from sightline.prediction import Predictor
from sightline.serving.app import App
from sightline.serving.limits import Limits, Settings

Cli = Callable[..., tuple[int, str, str]]


@contextmanager
def listening(model: ModelFolder, **settings: Any) -> Generator[str]:
    """The address of a server in a thread, at a free port."""
    app = App(Settings(models=(str(model.path),), watch_seconds=0, access_log=False, **settings))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="on", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def address(served_model: ModelFolder) -> Generator[str]:
    with listening(served_model, token="t0ken") as at:
        yield at


@pytest.fixture
def client(address: str) -> Generator[Client]:
    with Client(address, token="t0ken") as opened:
        yield opened


def rounded(predictions: object) -> list[object]:
    return [
        (prediction.error, [(guess.label, round(guess.probability, 6)) for guess in prediction.guesses])
        for prediction in predictions  # type: ignore[attr-defined]
    ]


def test_a_client_gives_what_the_predictor_gives(client: Client, served_model: ModelFolder, photos: Path) -> None:
    files: list[Path | bytes] = [*sorted(photos.rglob("*.jpg"))[:20], b"no image"]
    there, here = client.predict(files), Predictor(served_model).predict(files)
    assert rounded(there) == rounded(here)
    assert [answer.name for answer in there] == [answer.name for answer in here]


def test_a_file_that_is_not_there_fails_alone(client: Client, photos: Path) -> None:
    answers = client.predict([photos / "red" / "000.jpg", photos / "none.jpg"])
    assert [answer.error for answer in answers] == [None, "No such file or directory"]


def test_images_of_nothing_are_answered_each(client: Client) -> None:
    assert [answer.error for answer in client.predict([b"", b"x"])] == [
        "the file is empty",
        "not an image in a known format",
    ]


def test_threads_that_share_a_client_get_their_own_answers(client: Client, photos: Path) -> None:
    files = [photos / colour / "000.jpg" for colour in ("red", "green", "blue")] * 2
    alone = [rounded(client.predict([file])) for file in files]
    with ThreadPoolExecutor(len(files)) as pool:
        together = list(pool.map(lambda file: [rounded(client.predict([file])) for _ in range(8)], files))
    assert together == [[answer] * 8 for answer in alone]


def test_what_is_no_file_fails_alone(client: Client, photos: Path) -> None:
    answers = client.predict([photos / "red" / "000.jpg", object()])  # type: ignore[list-item]
    said = "expected a path or a file's bytes, got an object of type object"
    assert [answer.error for answer in answers] == [None, said]
    with pytest.raises(SightlineError, match="A server's address is text, got None"):
        Client(None)  # type: ignore[arg-type]


def test_requests_of_no_images_are_refused(client: Client) -> None:
    with pytest.raises(SightlineError, match="batch_size must be at least 1, got 0"):
        next(client.predict_stream([("a", b"x")], batch_size=0))


def test_a_client_describes_explains_and_reloads(client: Client, photos: Path) -> None:
    assert [model["name"] for model in client.models()] == ["photos"]
    assert client.describe()["classes"] == ["blue", "green", "red"]
    assert client.explain(photos / "red" / "000.jpg", label="red")["label"] == "red"
    assert client.reload("photos")["model"] == "photos"


def test_a_refusal_is_the_server_s_sentence(client: Client, address: str) -> None:
    with pytest.raises(SightlineError, match="refused: Unknown model 'nix'"):
        client.describe("nix")
    with Client(address, token="wrong") as other, pytest.raises(SightlineError, match="Send the server's token"):
        other.models()


def test_a_refusal_is_heard_while_a_large_image_is_sent(address: str) -> None:
    with Client(address, token="wrong") as client, pytest.raises(SightlineError, match="Send the server's token"):
        client.predict([bytes(20_000_000)])


def test_an_image_that_is_too_large_fails_alone(client: Client, photo: bytes) -> None:
    answers = client.predict([photo, bytes(34_000_000), photo])
    assert [answer.error for answer in answers] == [None, "34,000,000 bytes are more than the server takes", None]


def test_images_that_are_too_many_for_one_request_go_in_several(served_model: ModelFolder, photos: Path) -> None:
    files = sorted(photos.rglob("*.jpg"))[:7]
    with listening(served_model, limits=Limits(max_images=2)) as address, Client(address) as client:
        assert rounded(client.predict(files)) == rounded(Predictor(served_model).predict(files))


class _Refusing(BaseRequestHandler):
    """Answers before a body has come, and closes."""

    def handle(self) -> None:
        self.request.recv(65536)
        told = b'{"error": {"message": "not you"}}'
        self.request.sendall(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: %d\r\n\r\n%b" % (len(told), told))


def test_a_refusal_is_read_from_a_connection_that_has_ended() -> None:
    with ThreadingTCPServer(("127.0.0.1", 0), _Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with (
            Client(f"http://127.0.0.1:{server.server_address[1]}") as client,
            pytest.raises(SightlineError, match="refused: not you"),
        ):
            client.predict([bytes(15_000_000)])
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "wrong",
    ["", "ftp://x", "http://", "http://x:port", "http://[::1", "http://my..host", "http://a b", f"http://{'x' * 64}"],
)
def test_what_is_no_address_is_refused(wrong: str) -> None:
    with pytest.raises(SightlineError, match="is no server's address"):
        Client(wrong)


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(SightlineError, match="The server at http://127.0.0.1:9 can't be reached: Connection refused"):
        Client("127.0.0.1:9").models()


class _Full(BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        full = type(self).asked < 3
        self.send_response(429 if full else 200)
        self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(b'{"error": {"message": "full"}}' if full else b'{"models": []}')

    def log_message(self, *_: object) -> None: ...


def test_a_full_server_is_asked_again() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Full) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with Client(f"http://127.0.0.1:{server.server_port}") as client:
            assert client.models() == []
        server.shutdown()
        thread.join()
    assert _Full.asked == 3


class _Stranger(BaseHTTPRequestHandler):
    answer: object

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        told = json.dumps(type(self).answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None: ...


@contextmanager
def strange(answer: object) -> Generator[str]:
    """The address of a server that answers everything with the same JSON."""
    _Stranger.answer = answer
    with ThreadingHTTPServer(("127.0.0.1", 0), _Stranger) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"images": "x", "models": "x"},
        {"images": [], "models": []},
        {"images": [1], "models": [1]},
        {"images": [{}], "models": [{}]},
        {"images": [{"error": "x"}], "models": [{"name": 1}]},
        {"images": [{"predictions": [{}]}], "models": [{"name": "x"}]},
        {"images": [{"predictions": [{"label": "x", "probability": "y"}]}], "models": None},
    ],
)
def test_an_answer_of_another_server_is_one_sentence(answer: object) -> None:
    sentence = "What answers at http://127.0.0.1:.* is no Sightline server"
    with strange(answer) as address, Client(address) as client:
        with pytest.raises(SightlineError, match=sentence):
            client.predict([b"x"])
        with pytest.raises(SightlineError, match=sentence):
            client.describe()


def test_the_command_tells_another_server_in_one_line(photos: Path, run_cli: Cli) -> None:
    with strange({"status": "ok"}) as address:
        sentence = f"error: What answers at {address} is no Sightline server.\n"
        assert run_cli("predict", "photos", photos, "--server", address) == (2, "", sentence)


def test_the_command_prints_the_server_s_answers(
    address: str, served_model: ModelFolder, photos: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGHTLINE_TOKEN", "t0ken")
    assert run_cli("predict", "photos", photos, "--server", address) == run_cli("predict", served_model.path, photos)
    code, _, err = run_cli("predict", "photos", photos, "--server", address, "--threads", "2")
    assert (code, err) == (2, "error: --threads is the server's to choose; leave it out with --server.\n")


@pytest.mark.parametrize("wrong", ["http://[::1", "http://my..host"])
def test_the_command_refuses_what_is_no_address_in_one_line(wrong: str, photos: Path, run_cli: Cli) -> None:
    sentence = f"error: {wrong!r} is no server's address; it looks like http://127.0.0.1:8000.\n"
    assert run_cli("predict", "photos", photos, "--server", wrong) == (2, "", sentence)


def test_the_command_goes_on_after_an_image_that_is_too_large(
    address: str, photos: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGHTLINE_TOKEN", "t0ken")
    (photos / "blue" / "000.jpg").write_bytes(bytes(34_000_000))
    code, out, err = run_cli("predict", "photos", photos, "--server", address)
    assert (code, len(out.splitlines())) == (1, 35)
    assert "34,000,000 bytes are more than the server takes" in err
