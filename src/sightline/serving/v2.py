"""The Open Inference Protocol, version 2, as KServe's and Triton's clients speak it.

Input `images`: UINT8 (N, H, W, 3), decoded images of any size, or BYTES (N,), files (in JSON as base64). Outputs:
`probabilities`, FP32 (N, K), and `labels`, BYTES (N,), the most probable class of each image. Tensors are JSON, or
binary behind it as the binary tensor data extension says.
Source: https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md, and
https://github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md
"""

import asyncio
import json
import time
from collections.abc import Sequence
from importlib.metadata import version
from itertools import chain
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from sightline.serving.answers import JSON
from sightline.serving.decoding import Source
from sightline.serving.endpoints import Endpoints, answered
from sightline.serving.limits import Limits
from sightline.serving.payloads import LARGE_BODY, check_count, from_base64, read_json
from sightline.serving.problems import Problem, RequestError, refuse
from sightline.serving.served import Loaded
from sightline.serving.work import Answer

INPUT = "images"
OUTPUTS = ("probabilities", "labels")
HEAD_LENGTH = "inference-header-content-length"
"""Bytes of JSON at the beginning of a body with binary tensors behind it."""

TENSOR_MARKS = 2**22
"""Brackets and commas of a tensor in JSON: a million pixels, each a list. A larger one is sent as binary."""


class Inference:
    """The handlers."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints

    async def server(self, _request: Request) -> Response:
        """GET /v2."""
        return JSON({"name": "sightline", "version": version("sightline"), "extensions": ["binary_tensor_data"]})

    async def model(self, request: Request) -> Response:
        """GET /v2/models/{model}[/versions/{version}]."""
        loaded = self._find(request)
        num_classes = len(loaded.predictor.spec.classes)
        return JSON(
            {
                "name": loaded.name,
                "versions": [_version(loaded)],
                "platform": "sightline",
                "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, -1, -1, 3]}],
                "outputs": [
                    {"name": "probabilities", "datatype": "FP32", "shape": [-1, num_classes]},
                    {"name": "labels", "datatype": "BYTES", "shape": [-1]},
                ],
            }
        )

    async def ready(self, request: Request) -> Response:
        """GET /v2/models/{model}[/versions/{version}]/ready."""
        loaded = self._find(request)
        return JSON({"name": loaded.name, "ready": True})

    async def infer(self, request: Request) -> Response:
        """POST /v2/models/{model}[/versions/{version}]/infer."""
        endpoints = self._endpoints
        deadline = time.monotonic() + endpoints.limits.deadline_seconds
        async with endpoints.intake.body(request) as body:
            head_length = request.headers.get(HEAD_LENGTH)
            arguments = (body, head_length, endpoints.limits)
            parse = asyncio.to_thread(_parse, *arguments) if len(body) > LARGE_BODY else None
            content, sources = _parse(*arguments) if parse is None else await parse
            wanted = _wanted(content)
            loaded = self._find(request)  # at the last moment: it may be swapped
            request.scope["note"] |= {"model": loaded.name, "images": len(sources), "bytes": len(body)}
            ticket = loaded.batcher.submit(sources, deadline=deadline)
            rows = await answered(request, loaded.batcher, ticket)
        endpoints.count(loaded, rows)
        return _respond(loaded, rows, content, wanted)

    def _find(self, request: Request) -> Loaded:
        """The model that the path names. Raises RequestError, also where a version is named that it hasn't."""
        loaded = self._endpoints.served.find(request.path_params["model"])
        wanted = request.path_params.get("version", _version(loaded))
        if wanted != _version(loaded):
            raise refuse("unknown_model", f"{loaded.name!r} has the version {_version(loaded)!r}, not {wanted[:40]!r}.")
        return loaded


def _version(loaded: Loaded) -> str:
    return loaded.fingerprint[:12]


def _parse(body: bytes, head_length: str | None, limits: Limits) -> tuple[dict[str, Any], list[Source]]:
    """The request's JSON, and its images. Raises RequestError."""
    length = len(body)
    if head_length is not None:
        if not (head_length.isascii() and head_length.isdigit()) or len(head_length) > 18 or int(head_length) > length:
            raise refuse("invalid_request", f"Inference-Header-Content-Length must be 0 to {length}.")
        length = int(head_length)
    content = read_json(body[:length], limits, tensor_marks=TENSOR_MARKS if length == len(body) else 0)
    inputs = content.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise refuse("invalid_request", f"'inputs' must be a list of one tensor, {INPUT!r}.")
    tensor = cast("dict[str, Any]", inputs[0])
    if tensor.get("name") != INPUT:
        raise refuse("invalid_request", f"The input is called {INPUT!r}, not {str(tensor.get('name'))[:40]!r}.")
    shape = _shape(tensor.get("shape"))
    size = _parameters(tensor).get("binary_data_size")
    binary = None
    if size is not None:
        binary = body[length:]
        if not isinstance(size, int) or size != len(binary):
            raise refuse("invalid_request", f"binary_data_size is {size!r:.40}; {len(binary)} bytes follow the JSON.")
    if tensor.get("datatype") == "UINT8":
        pixels = _pixels(shape, tensor.get("data"), binary)
        check_count(len(pixels), limits)
        return content, list(pixels)
    if tensor.get("datatype") == "BYTES":
        check_count(shape[0], limits)
        return content, _files(shape, tensor.get("data"), binary)
    raise refuse("invalid_request", f"The datatype must be UINT8 or BYTES, got {str(tensor.get('datatype'))[:40]!r}.")


def _shape(value: object) -> list[int]:
    if not isinstance(value, list) or not value or not all(type(side) is int and 1 <= side < 2**31 for side in value):
        raise refuse("invalid_request", "'shape' must be a list of whole numbers of at least 1.")
    return cast("list[int]", value)


def _pixels(shape: list[int], data: object, binary: bytes | None) -> NDArray[np.uint8]:
    """(N, H, W, 3)."""
    if len(shape) != 4 or shape[3] != 3:
        raise refuse("invalid_request", f"UINT8 images have the shape [N, H, W, 3], got {str(shape)[:80]}.")
    values = np.frombuffer(binary, np.uint8) if binary is not None else _numbers(data)
    count = 1
    for side in shape:
        count *= side
    if values.size != count:
        raise refuse("invalid_request", f"The shape {shape} holds {count} values; {values.size} were sent.")
    return values.reshape(shape)


def _numbers(data: object) -> NDArray[np.uint8]:
    """Flat or nested lists of 0 to 255. NumPy isn't given them: every text among them would take the longest's room."""
    values: list[Any] = [data] if not isinstance(data, list) else data
    while values and isinstance(values[0], list):
        if len({len(part) if isinstance(part, list) else -1 for part in values}) > 1:
            raise refuse("invalid_request", "'data' must be whole numbers, flat or nested as the shape says.")
        values = list(chain.from_iterable(values))
    if not all(type(value) is int and 0 <= value <= 255 for value in values):
        raise refuse("invalid_request", "'data' of UINT8 must be whole numbers of 0 to 255.")
    return np.frombuffer(bytes(values), np.uint8)


def _files(shape: list[int], data: object, binary: bytes | None) -> list[Source]:
    """(N,) or (N, 1) files."""
    if len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
        raise refuse("invalid_request", f"BYTES images have the shape [N], got {str(shape)[:80]}.")
    if binary is not None:
        return list(_length_prefixed(binary, shape[0]))
    if not isinstance(data, list):
        raise refuse("invalid_request", "'data' of BYTES must be a list of text in base64.")
    listed = cast("list[Any]", data)
    if len(listed) != shape[0]:
        raise refuse("invalid_request", f"The shape {shape} holds {shape[0]} images; {len(listed)} were sent.")
    flat = [item[0] if isinstance(item, list) and len(item) == 1 else item for item in listed]
    return [from_base64(item, f"image {number}") for number, item in enumerate(flat, 1)]


def _length_prefixed(binary: bytes, count: int) -> list[bytes]:
    """That many elements, each behind its length in four bytes, little endian. Raises RequestError."""
    files: list[bytes] = []
    place = 0
    while place < len(binary) and len(files) < count:
        length = int.from_bytes(binary[place : place + 4], "little")
        place += 4
        if place + length > len(binary):
            raise refuse("invalid_request", "The binary tensor ends within an element.")
        files.append(binary[place : place + length])
        place += length
    if len(files) < count or place < len(binary):
        raise refuse("invalid_request", f"The shape holds {count} images; the binary tensor has more or fewer.")
    return files


def _parameters(part: dict[str, Any]) -> dict[str, Any]:
    found = part.get("parameters", {})
    if not isinstance(found, dict):
        raise refuse("invalid_request", "'parameters' must be an object.")
    return cast("dict[str, Any]", found)


def _wanted(content: dict[str, Any]) -> dict[str, bool]:
    """The outputs to give, each with whether as binary. Raises RequestError."""
    binary = _parameters(content).get("binary_data_output", False) is True
    outputs = content.get("outputs") or [{"name": name} for name in OUTPUTS]
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise refuse("invalid_request", "'outputs' must be a list of objects.")
    wanted: dict[str, bool] = {}
    for output in cast("list[dict[str, Any]]", outputs):
        name = output.get("name")
        if name not in OUTPUTS:
            raise refuse("invalid_request", f"The outputs are {' and '.join(OUTPUTS)}, not {str(name)[:40]!r}.")
        wanted[str(name)] = _parameters(output).get("binary_data", binary) is True
    return wanted


def _respond(loaded: Loaded, rows: Sequence[Answer], content: dict[str, Any], wanted: dict[str, bool]) -> Response:
    """Raises RequestError for the first image without an answer: a tensor has no place for it."""
    answers: list[NDArray[np.float64]] = []
    for number, row in enumerate(rows, 1):
        if isinstance(row, Problem):
            raise RequestError(Problem(row.code, row.message, f"image {number}"))
        answers.append(row)
    table = np.stack(answers)
    labels = [loaded.predictor.spec.classes[place] for place in table.argmax(axis=1).tolist()]
    outputs: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for name, binary in wanted.items():
        if name == "probabilities":
            output: dict[str, Any] = {"name": name, "datatype": "FP32", "shape": list(table.shape)}
            plain: list[Any] = [round(value, 6) for value in table.ravel().tolist()]
            packed = table.astype("<f4").tobytes()
        else:
            output = {"name": name, "datatype": "BYTES", "shape": [len(labels)]}
            plain = labels
            packed = b"".join(len(coded := label.encode()).to_bytes(4, "little") + coded for label in labels)
        if binary:
            tail.append(packed)
            output["parameters"] = {"binary_data_size": len(packed)}
        else:
            output["data"] = plain
        outputs.append(output)
    answer: dict[str, Any] = {"model_name": loaded.name, "model_version": _version(loaded), "outputs": outputs}
    if isinstance(content.get("id"), str):
        answer["id"] = content["id"]
    if not tail:
        return JSON(answer)
    head = json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace")
    return Response(head + b"".join(tail), media_type="application/octet-stream", headers={HEAD_LENGTH: str(len(head))})
