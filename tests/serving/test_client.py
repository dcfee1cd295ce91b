import threading
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import uvicorn

from sightline.client import Client
from sightline.errors import SightlineError
from sightline.model_folder import ModelFolder
from sightline.prediction import Predictor
from sightline.serving.app import App
from sightline.serving.limits import Settings

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def address(served_model: ModelFolder) -> Generator[str]:
    """A server in a thread, at a free port."""
    app = App(Settings(models=(str(served_model.path),), watch_seconds=0, access_log=False, token="t0ken"))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="on", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(20)


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


@pytest.mark.parametrize("wrong", ["", "ftp://x", "http://", "http://x:port"])
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


def test_the_command_prints_the_server_s_answers(
    address: str, served_model: ModelFolder, photos: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGHTLINE_TOKEN", "t0ken")
    assert run_cli("predict", "photos", photos, "--server", address) == run_cli("predict", served_model.path, photos)
    code, _, err = run_cli("predict", "photos", photos, "--server", address, "--threads", "2")
    assert (code, err) == (2, "error: --threads is the server's to choose; leave it out with --server.\n")
