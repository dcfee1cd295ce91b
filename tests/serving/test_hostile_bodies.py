"""Bodies of a few megabytes that would become many times as much: they are refused before that."""

import base64
import json
import tracemalloc

import numpy as np
import pytest
from starlette.testclient import TestClient

from sightline.serving.limits import Limits

PREDICT, INFER = "/v1/predict", "/v2/models/photos/infer"


def growth(client: TestClient, path: str, body: bytes, **headers: str) -> tuple[int, float]:
    """The answer's status, and the most memory that was used at once, in sizes of the body."""
    tracemalloc.start()
    try:
        answer = client.post(path, content=body, headers={"content-type": "application/json"} | headers)
        return answer.status_code, tracemalloc.get_traced_memory()[1] / len(body)
    finally:
        tracemalloc.stop()


def tensor(datatype: str, data: bytes, shape: bytes = b"[1, 1, 1, 3]") -> bytes:
    given = b'{"inputs": [{"name": "images", "datatype": "%s", "shape": %s, "data": [%s]}]}'
    return given % (datatype.encode(), shape, data)


@pytest.mark.parametrize("item", [b"[]", b"{}", b'"aa"', b"999", b'{"a":0}'])
def test_json_of_many_small_things_is_refused_before_it_is_built(client: TestClient, item: bytes) -> None:
    listed = b",".join([item] * 300_000)
    status, times = growth(client, PREDICT, b'{"images": [%s]}' % listed)
    assert (status, times < 10) == (400, True)


@pytest.mark.parametrize("item", [b"{}", b'"aa"', b'{"a":0}'])
@pytest.mark.parametrize("datatype", ["UINT8", "BYTES"])
def test_a_tensor_of_many_small_things_is_refused_before_it_is_built(
    client: TestClient, datatype: str, item: bytes
) -> None:
    status, times = growth(client, INFER, tensor(datatype, b",".join([item] * 300_000)))
    assert (status, times < 10) == (400, True)


def test_a_tensor_of_too_many_lists_is_refused_before_it_is_built(client: TestClient) -> None:
    status, times = growth(client, INFER, tensor("UINT8", b",".join([b"[]"] * 2_200_000)))
    assert (status, times < 10) == (400, True)


def test_texts_in_a_tensor_of_pixels_don_t_all_get_the_longest_one_s_room(client: TestClient) -> None:
    status, times = growth(client, INFER, tensor("UINT8", b'"%s"' % (b"x" * 300_000) + b',""' * 100))
    assert (status, times < 10) == (400, True)


@pytest.mark.parametrize(
    ("datatype", "shape", "tail", "expected"),
    [("UINT8", [300_000, 1, 1, 3], b"x" * 900_000, 413), ("BYTES", [1], b"\2\0\0\0xx" * 300_000, 400)],
)
def test_a_binary_tensor_of_too_many_images_is_refused_before_they_are_made(
    client: TestClient, datatype: str, shape: list[int], tail: bytes, expected: int
) -> None:
    given = {"name": "images", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(tail)}}
    head = json.dumps({"inputs": [given]}).encode()
    length = {"inference-header-content-length": str(len(head))}
    status, times = growth(client, INFER, head + tail, **length)
    assert (status, times < 7) == (expected, True)


def test_as_many_images_as_may_be_with_odd_names_are_not_too_many_things(client: TestClient, photo: bytes) -> None:
    name = 'Rome, Paris [2], {"Oslo"}.jpg' * 4
    images = [{"name": name, "data": base64.b64encode(photo).decode()}] * Limits().max_images
    answer = client.post(PREDICT, json={"images": images})
    assert answer.status_code == 200
    assert answer.json()["images"][-1]["name"] == name


def test_a_photo_s_pixels_as_nested_lists_are_not_too_many_things(client: TestClient) -> None:
    shape = [1, 224, 224, 3]
    given = {"name": "images", "datatype": "UINT8", "shape": shape, "data": np.zeros(shape, int).tolist()}
    assert client.post(INFER, json={"inputs": [given]}).status_code == 200
