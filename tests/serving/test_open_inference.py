"""The Open Inference Protocol, as its specification words it."""

import base64
import json
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from sightline.model_folder import ModelFolder
from sightline.prediction import Predictor

INFER = "/v2/models/photos/infer"


def tensor(photo: bytes, **changed: Any) -> dict[str, Any]:
    data = [base64.b64encode(photo).decode()]
    return {"inputs": [{"name": "images", "shape": [1], "datatype": "BYTES", "data": data} | changed]}


def test_health_server_and_model_are_described(client: TestClient) -> None:
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/health/ready").status_code == 200
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    told = client.get("/v2/models/photos").json()
    assert told["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    assert told["outputs"][0] == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}
    assert client.get("/v2/models/photos/ready").json() == {"name": "photos", "ready": True}
    missing = client.get("/v2/models/nix/ready")
    assert missing.status_code == 404
    assert missing.json()["error"].startswith("Unknown model 'nix'.")


def test_a_version_may_be_named_and_another_is_refused(client: TestClient, photo: bytes) -> None:
    [version] = client.get("/v2/models/photos").json()["versions"]
    place = f"/v2/models/photos/versions/{version}"
    assert client.get(place).json()["versions"] == [version]
    assert client.get(f"{place}/ready").json()["ready"] is True
    answer = client.post(f"{place}/infer", json=tensor(photo)).json()
    assert (answer["model_version"], answer["outputs"]) == (
        version,
        client.post(INFER, json=tensor(photo)).json()["outputs"],
    )
    refused = client.post("/v2/models/photos/versions/7/infer", json=tensor(photo))
    assert refused.status_code == 404
    assert refused.json()["error"] == f"'photos' has the version '{version}', not '7'."


def test_files_and_pixels_give_the_predictor_s_answers(
    client: TestClient, served_model: ModelFolder, photo: bytes
) -> None:
    image = np.asarray(Image.open(BytesIO(photo)))
    [expected] = Predictor(served_model).predict([image], top_k=3)
    by_class = {guess.label: round(guess.probability, 6) for guess in expected.guesses}
    flat, nested = image.ravel().tolist(), image[None].tolist()
    shape = [1, *image.shape]
    bodies = [
        tensor(photo),
        tensor(photo, datatype="UINT8", shape=shape, data=flat),
        tensor(photo, datatype="UINT8", shape=shape, data=nested),
    ]
    for body in bodies:
        answer = client.post(INFER, json=body | {"id": "7"}).json()
        probabilities, labels = answer["outputs"]
        assert answer["id"] == "7"
        assert (probabilities["shape"], probabilities["datatype"]) == ([1, 3], "FP32")
        assert dict(zip(["blue", "green", "red"], probabilities["data"], strict=True)) == by_class
        assert labels["data"] == [expected.guesses[0].label]


def binary_body(head: dict[str, Any], tail: bytes) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(head).encode()
    return text + tail, {"inference-header-content-length": str(len(text))}


@pytest.mark.parametrize("datatype", ["UINT8", "BYTES"])
def test_binary_tensors_give_what_json_gives(client: TestClient, photo: bytes, datatype: str) -> None:
    image = np.asarray(Image.open(BytesIO(photo)))
    tail = image.tobytes() if datatype == "UINT8" else len(photo).to_bytes(4, "little") + photo
    shape = [1, *image.shape] if datatype == "UINT8" else [1]
    given = {"name": "images", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(tail)}}
    body, headers = binary_body({"inputs": [given], "parameters": {"binary_data_output": True}}, tail)
    answer = client.post(INFER, content=body, headers=headers)
    length = int(answer.headers["inference-header-content-length"])
    outputs = json.loads(answer.content[:length])["outputs"]
    plain = client.post(INFER, json=tensor(photo)).json()["outputs"]
    sizes = [output["parameters"]["binary_data_size"] for output in outputs]
    rest = answer.content[length:]
    assert np.frombuffer(rest[: sizes[0]], "<f4") == pytest.approx(plain[0]["data"], abs=1e-6)
    label = rest[sizes[0] :]
    assert label == len(plain[1]["data"][0]).to_bytes(4, "little") + plain[1]["data"][0].encode()
    assert sum(sizes) == len(rest)


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "x"},
        {"datatype": "FP32"},
        {"shape": [2]},
        {"shape": [0]},
        {"shape": [True]},
        {"shape": None},
        {"data": None},
        {"data": ["%"]},
        {"datatype": "UINT8", "shape": [1, 2, 2, 3], "data": [1] * 11},
        {"datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2, 256]},
        {"datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2, -1]},
        {"datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2, 0.5]},
        {"datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, [2, 3]]},
        {"datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2, 2**70]},
        {"datatype": "UINT8", "shape": [2**30, 2**30, 2**30, 3], "data": [1, 2, 3]},
        {"datatype": "UINT8", "shape": [1, 1, 1, 4], "data": [1, 2, 3, 4]},
        {"parameters": 3},
        {"parameters": {"binary_data_size": 3}},
    ],
)
def test_a_wrong_tensor_is_refused(client: TestClient, photo: bytes, changed: dict[str, Any]) -> None:
    answer = client.post(INFER, json=tensor(photo, **changed))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert isinstance(answer.json()["error"], str)


@pytest.mark.parametrize("length", ["-1", "x", "99999999", "9" * 5000, "3"])
def test_a_wrong_length_of_the_head_is_refused(client: TestClient, photo: bytes, length: str) -> None:
    answer = client.post(INFER, json=tensor(photo), headers={"inference-header-content-length": length})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("outputs", [3, [3], [{"name": "x"}], [{"name": "labels", "parameters": 3}], [{"name": ["x"]}]])
def test_wrong_outputs_are_refused(client: TestClient, photo: bytes, outputs: object) -> None:
    answer = client.post(INFER, json=tensor(photo) | {"outputs": outputs})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_an_unreadable_image_fails_the_tensor_and_is_named(client: TestClient, photo: bytes) -> None:
    data = [base64.b64encode(content).decode() for content in (photo, b"no image")]
    answer = client.post(INFER, json=tensor(photo, shape=[2], data=data))
    assert (answer.status_code, answer.json()["code"], answer.json()["file"]) == (422, "unreadable_image", "image 2")
