"""A request's body and query become images and options. Nothing in them names a file or an address to read.

Four ways to send images: one as the body itself; several as multipart files; base64 in JSON; and, in `v2`, tensors.
What a body is, its Content-Type says; what an image is, its content says.
"""

import asyncio
import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from starlette.requests import Request

from sightline.errors import unknown_name
from sightline.serving.limits import Limits
from sightline.serving.multipart import parts_of
from sightline.serving.problems import refuse

LARGE_BODY = 262_144
"""Bytes; a longer body is taken apart beside the event loop, which others wait for."""

MARKS_PER_IMAGE = 256
"""Brackets and commas in JSON, and as many braces and quotes, for each image that a request may have. Base64 holds
none and a name a few; each one more becomes an object of many times its size."""

RAW = ("application/octet-stream", "")
ACCEPTED = "image/*, application/octet-stream, multipart/form-data or application/json"


_Parse: TypeAlias = "Callable[[bytes, str, Options, Limits, frozenset[str]], Payload]"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a client may ask for besides."""

    model: str | None = None
    top_k: int | None = None
    probabilities: bool = False
    """Whether every class's probability is given too."""
    label: str | None = None
    """Of a heat map: the class that it is for."""
    name: str | None = None
    """What the only image of a request is called in the answer, whatever its file is called."""


@dataclass(frozen=True)
class Payload:
    """What was sent."""

    images: tuple[tuple[str, bytes], ...]
    """Each image's name and content."""
    options: Options = field(default_factory=Options)


async def read_payload(request: Request, body: bytes, limits: Limits, *, known: frozenset[str]) -> Payload:
    """Take a request apart; `known` names the options that it may have. Raises RequestError."""
    asked = request.query_params.multi_items() if request.scope["query_string"] else ()
    options = _with(Options(), asked, known)
    kind = request.headers.get("content-type", "")
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise refuse("unsupported_media_type", f"A body packed by {encoding[:40]!r} isn't read; send it as it is.")
    media = kind.partition(";")[0].strip().lower()
    if media.startswith("image/") or media in RAW:
        if not body:
            raise refuse("invalid_request", "The body is empty; it should be an image.")
        return _named(Payload((("image 1", body),), options))
    if media == "multipart/form-data":
        parse: _Parse = _from_multipart
    elif media == "application/json":
        parse = _from_json
    else:
        hint = " With curl, add -H 'Content-Type: image/jpeg'." if media == "application/x-www-form-urlencoded" else ""
        raise refuse("unsupported_media_type", f"The Content-Type is {media[:80]!r}; send {ACCEPTED}.{hint}")
    arguments = (body, kind, options, limits, known)
    payload = await asyncio.to_thread(parse, *arguments) if len(body) > LARGE_BODY else parse(*arguments)
    if not payload.images:
        raise refuse("invalid_request", "There are no images in the request.")
    return _named(payload)


def check_count(count: int, limits: Limits) -> None:
    """Raises RequestError for more images than a request may have."""
    if count > limits.max_images:
        raise refuse("too_many_images", f"A request may have {limits.max_images} images; send them in several.")


def read_json(body: bytes, limits: Limits, *, tensor_marks: int = 0) -> dict[str, Any]:
    """A JSON object. Raises RequestError, before anything is built, for more marks than images need.

    `tensor_marks` is how many brackets and commas more it may have, for a tensor of numbers.
    """
    marks = MARKS_PER_IMAGE * (limits.max_images + 1)
    _check_marks(body, (b"[", b","), marks + tensor_marks)
    _check_marks(body, (b"{", b'"'), marks)
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deeply
        raise refuse("invalid_request", f"The body is no JSON: {str(error)[:200]}.") from error
    if not isinstance(content, dict):
        raise refuse("invalid_request", "The body must be a JSON object.")
    return content


def _check_marks(body: bytes, marks: tuple[bytes, ...], allowed: int) -> None:
    """Raises RequestError where those characters are more than allowed."""
    if sum(map(body.count, marks)) > allowed:
        listed = " and ".join(mark.decode() for mark in marks)
        sentence = f"The JSON has more than {allowed:,} of {listed}; send images in base64, a large tensor as binary."
        raise refuse("invalid_request", sentence)


def from_base64(text: object, name: str) -> bytes:
    """The bytes. Raises RequestError."""
    if not isinstance(text, str):
        raise refuse("invalid_request", f"An image's data must be text in base64, got {_kind(text)}.", file=name)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise refuse("invalid_request", f"The data is no base64: {error}.", file=name) from error


def _from_multipart(body: bytes, kind: str, options: Options, limits: Limits, known: frozenset[str]) -> Payload:
    images: list[tuple[str, bytes]] = []
    for part in parts_of(body, kind, max_parts=limits.max_images + 8):
        if part.is_file:
            images.append((part.filename or f"image {len(images) + 1}", part.content))
            check_count(len(images), limits)
        else:
            text = part.content[:200].decode("utf-8", "replace")
            options = _with(options, [(part.name, text)], known)
    return Payload(tuple(images), options)


def _from_json(body: bytes, kind: str, options: Options, limits: Limits, known: frozenset[str]) -> Payload:
    del kind  # it says JSON
    content = read_json(body, limits)
    listed = content.pop("images", None)
    if not isinstance(listed, list):
        raise refuse("invalid_request", f"'images' must be a list, got {_kind(listed)}.")
    check_count(len(listed), limits)
    options = _with(options, content.items(), known)
    return Payload(tuple(_json_image(item, number) for number, item in enumerate(listed, 1)), options)


def _json_image(item: object, number: int) -> tuple[str, bytes]:
    name = f"image {number}"
    if isinstance(item, Mapping):
        unknown = set(item) - {"name", "data"}
        if unknown:
            raise refuse(
                "invalid_request", f"An image has 'data' and 'name', not {sorted(map(str, unknown))[0][:80]!r}."
            )
        stated = item.get("name", name)
        if not isinstance(stated, str):
            raise refuse("invalid_request", f"An image's name must be text, got {_kind(stated)}.")
        return stated, from_base64(item.get("data"), stated)
    return name, from_base64(item, name)


def _named(payload: Payload) -> Payload:
    """With the option `name` as its image's name. Raises RequestError where it has several."""
    name = payload.options.name
    if not name:
        return payload
    count = len(payload.images)
    if count > 1:
        sentence = f"name is for a request of one image; {count} were sent. Name each file, or each image in the JSON."
        raise refuse("invalid_request", sentence)
    return replace(payload, images=((name, payload.images[0][1]),))


def _with(options: Options, given: Iterable[tuple[str, Any]], known: frozenset[str]) -> Options:
    """The options with those changed. Raises RequestError for one that is unknown or wrong."""
    for key, value in given:
        if key not in known:
            sentence = unknown_name("option", key[:80], known, listing="/openapi.json")
            raise refuse("invalid_request", sentence)
        options = replace(options, **{key: _READERS[key](key, value)})
    return options


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise refuse("invalid_request", f"{key} must be text, got {_kind(value)}.")
    return value[:200]


def _count(key: str, value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise refuse("invalid_request", f"{key} must be a whole number of at least 1, got {str(value)[:40]!r}.")
    return value


def _flag(key: str, value: object) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    if isinstance(value, str) and value.lower() in known:
        return known[value.lower()]
    if not isinstance(value, bool):
        raise refuse("invalid_request", f"{key} must be true or false, got {str(value)[:40]!r}.")
    return value


def _kind(value: object) -> str:
    """What JSON calls it."""
    names: dict[type, str] = {
        dict: "an object",
        list: "a list",
        str: "text",
        int: "a number",
        float: "a number",
        bool: "a truth value",
    }
    return "nothing" if value is None else names.get(type(value), type(value).__name__)


_READERS = {"model": _text, "top_k": _count, "probabilities": _flag, "label": _text, "name": _text}
