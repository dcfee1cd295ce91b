"""A client for a server that `sightline serve` runs, with nothing but Python's own library.

    with Client("http://127.0.0.1:8000") as client:
        print(client.predict(["cat.jpg"])[0].guesses)

A request that the server turns away because it is full is sent again when it says so.
"""

import http.client
import json
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from sightline.errors import SightlineError, UnreadableImageError, check_whole, given

if TYPE_CHECKING:
    from sightline.prediction import Prediction

Kind = TypeVar("Kind")

Content = bytes | str | Path | UnreadableImageError
"""A file's bytes, its path here, or why it could not be read."""

BATCH = 16
"""Images in one request."""

MAX_BYTES = 16 * 2**20
"""Of one request's images; a larger image goes alone."""

FULL = 429
"""The status of a server whose queue is full."""

TOO_LARGE = 413
"""The status of a request with more bytes, or images, than the server takes."""


class _TooLargeError(SightlineError):
    """A request that the server takes in parts, or not at all."""


class Client:
    """One connection to a server, opened when it is needed and kept; threads that share it take turns."""

    def __init__(
        self, address: str, *, model: str | None = None, token: str | None = None, timeout_seconds: float = 60.0
    ) -> None:
        parts = _parts(address)
        self.address = f"{parts.scheme}://{parts.netloc}"
        self.model = model
        self._prefix = quote(parts.path.rstrip("/"), safe="/%")
        self._token = (token or os.environ.get("SIGHTLINE_TOKEN", "")).strip()
        if not (self._token.isascii() and self._token.isprintable()):
            raise SightlineError("The token isn't printable ASCII, and can't be sent to a server.")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        try:
            self._connection = kind(parts.hostname or "", parts.port, timeout=timeout_seconds)
        except (ValueError, http.client.InvalidURL) as error:
            raise SightlineError(f"{address!r} is no server's address: {error}.") from error
        self._patience = timeout_seconds
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def predict(self, images: Sequence[bytes | str | Path], *, top_k: int | None = None) -> "list[Prediction]":
        """One Prediction for each image, in order, as `Predictor.predict` gives them.

        Raises SightlineError when the server can't be reached or refuses the request.
        """
        if isinstance(images, str | bytes | Path):
            raise SightlineError("predict() takes a list of images; put a single one in a list.")
        named = (
            (f"image {number}" if isinstance(image, bytes) else str(image), image)
            for number, image in enumerate(images, 1)
        )
        return list(self.predict_stream(named, top_k=top_k))

    def predict_stream(
        self, images: Iterable[tuple[str, Content]], *, top_k: int | None = None, batch_size: int = BATCH
    ) -> "Iterator[Prediction]":
        """One Prediction for each (name, image) as answers come; never holds more than a request. See `predict`.

        `batch_size` is the number of images in a request at most.
        """
        check_whole(batch_size=batch_size)
        remaining = iter(images)
        while chunk := list(islice(remaining, batch_size)):
            yield from self._predict_some(chunk, top_k)

    def models(self) -> list[dict[str, Any]]:
        """The models that the server has."""
        return self._listed(self._ask("GET", "/v1/models"), "models")

    def describe(self, model: str | None = None) -> dict[str, Any]:
        """A model's whole trail; the first one's if left out."""
        name = model or self.model or self._first()
        told = self._ask("GET", f"/v1/models/{quote(name, safe='')}")
        self._part(told, "task", str)
        return told

    def explain(self, image: bytes | str | Path, *, label: str | None = None) -> dict[str, Any]:
        """The heat map of one image: label, probability, grid, window, and the picture as a data URI."""
        content = _content(image)
        return self._ask("POST", "/v1/explain", {"label": label, "model": self.model}, content, "image/*")

    def reload(self, model: str) -> dict[str, Any]:
        """Let the server open a model's folder anew."""
        return self._ask("POST", f"/v1/models/{quote(model, safe='')}/reload")

    def _first(self) -> str:
        """The name of the server's first model."""
        for model in self.models():
            return self._part(model, "name", str)
        raise self._stranger()

    def _predict_some(self, chunk: list[tuple[str, Content]], top_k: int | None) -> "Iterator[Prediction]":
        from sightline.prediction import Prediction

        contents: dict[int, bytes] = {}
        answers: dict[int, Prediction] = {}
        for place, (name, image) in enumerate(chunk):
            try:
                contents[place] = _content(image)
            except UnreadableImageError as error:
                answers[place] = Prediction(name, error=str(error))
        for group in _groups(contents):
            told = self._ask_about([contents[place] for place in group], top_k)
            for place, image in zip(group, told, strict=True):
                answers[place] = self._prediction(chunk[place][0], image)
        yield from (answers[place] for place in range(len(chunk)))

    def _prediction(self, name: str, image: dict[str, Any]) -> "Prediction":
        from sightline.prediction import Guess, Prediction

        if "error" in image:
            return Prediction(name, error=self._part(self._part(image, "error", dict), "message", str))
        listed = [
            Guess(self._part(guess, "label", str), self._part(guess, "probability", float, int))
            for guess in self._listed(image, "predictions")
        ]
        return Prediction(name, tuple(listed))

    def _ask_about(self, contents: list[bytes], top_k: int | None) -> list[dict[str, Any]]:
        """What the server says of each image. What is too large for one request is sent in two, down to one image."""
        form, kind = _form(contents)
        try:
            told = self._ask("POST", "/v1/predict", {"top_k": top_k, "model": self.model}, form, kind)
        except _TooLargeError:
            if len(contents) == 1:
                return [{"error": {"message": f"{len(contents[0]):,} bytes are more than the server takes"}}]
            half = len(contents) // 2
            return self._ask_about(contents[:half], top_k) + self._ask_about(contents[half:], top_k)
        images = self._listed(told, "images")
        if len(images) != len(contents):
            raise self._stranger()
        return images

    def _listed(self, content: dict[str, Any], key: str) -> list[dict[str, Any]]:
        """The objects that an answer lists under `key`. Raises SightlineError where there is no such list."""
        listed: list[Any] = self._part(content, key, list)
        if not all(isinstance(each, dict) for each in listed):
            raise self._stranger()
        return listed

    def _part(self, content: dict[str, Any], key: str, *kinds: type[Kind]) -> Kind:
        """What an answer has under `key`. Raises SightlineError where that is missing or of another kind."""
        part = content.get(key)
        if not isinstance(part, kinds):
            raise self._stranger()
        return part

    def _stranger(self) -> SightlineError:
        return SightlineError(f"What answers at {self.address} is no Sightline server.")

    def _ask(
        self,
        method: str,
        path: str,
        query: dict[str, object] | None = None,
        body: bytes | None = None,
        kind: str | None = None,
    ) -> dict[str, Any]:
        given = {key: value for key, value in (query or {}).items() if value is not None}
        target = f"{self._prefix}{path}?{urlencode(given)}" if given else f"{self._prefix}{path}"
        headers = {} if kind is None else {"content-type": kind}
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        give_up = time.monotonic() + self._patience
        while True:
            with self._turn:
                status, waits, content = self._exchange(method, target, body, headers)
            if status != FULL or time.monotonic() + waits > give_up:
                break
            time.sleep(waits)
        if status < 400 or "images" in content:
            return content
        told = content.get("error", {})
        sentence = told.get("message", f"status {status}") if isinstance(told, dict) else str(told)
        kind_of_error = _TooLargeError if status == TOO_LARGE else SightlineError
        raise kind_of_error(f"The server at {self.address} refused: {sentence}")

    def _exchange(
        self, method: str, target: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, float, dict[str, Any]]:
        """Status, seconds to wait where it is full, and content. A kept connection that has ended is opened anew."""
        kept = self._connection.sock is not None
        try:
            self._send(method, target, body, headers)
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            if kept and isinstance(error, ConnectionError | http.client.RemoteDisconnected):
                return self._exchange(method, target, body, headers)
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise SightlineError(f"The server at {self.address} can't be reached: {reason}.") from error
        try:
            content = json.loads(text)
        except ValueError as error:
            raise self._stranger() from error
        if not isinstance(content, dict):
            raise self._stranger()
        after = answer.headers.get("retry-after", "1")
        return answer.status, float(after) if after.isdigit() else 1.0, content

    def _send(self, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> None:
        """Send a request, or as much of it as the server takes: one that refuses it early has answered by then."""
        try:
            self._connection.request(method, target, body, headers)
        except (BrokenPipeError, ConnectionResetError):
            if self._connection.sock is None:
                raise


def _parts(address: str) -> SplitResult:
    """Raises SightlineError for what is no address of a server."""
    if not isinstance(address, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers needn't check types
        raise SightlineError(f"A server's address is text, got {given(address)}.")
    refused = SightlineError(f"{address!r} is no server's address; it looks like http://127.0.0.1:8000.")
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        (parts.hostname or "").encode("idna")  # as looking it up will do
    except ValueError as error:
        raise refused from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise refused
    return parts


def _content(image: Content) -> bytes:
    if isinstance(image, UnreadableImageError):
        raise image
    if isinstance(image, bytes):
        return image
    if not isinstance(image, str | Path):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers needn't check types
        raise UnreadableImageError(f"expected a path or a file's bytes, got {given(image)}")
    return _read(Path(image))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(error.strerror or str(error)) from error


def _groups(contents: dict[int, bytes]) -> Iterator[list[int]]:
    """Places of images that go in one request."""
    group: list[int] = []
    size = 0
    for place, content in contents.items():
        if group and size + len(content) > MAX_BYTES:
            yield group
            group, size = [], 0
        group.append(place)
        size += len(content)
    if group:
        yield group


def _form(contents: list[bytes]) -> tuple[bytes, str]:
    """multipart/form-data and its content type; names stay here."""
    boundary = secrets.token_hex(16)
    pieces: list[bytes] = []
    for number, content in enumerate(contents, 1):
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="images"; filename="image {number}"\r\n\r\n'
        pieces += [head.encode(), content, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    return b"".join(pieces), f"multipart/form-data; boundary={boundary}"
