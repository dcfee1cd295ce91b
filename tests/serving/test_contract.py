"""What each path gives, beside /v1/predict, which has a file of its own."""

import base64
import json
import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from running import Serving
from starlette.routing import Route
from starlette.testclient import TestClient

from sightline.model_folder import ModelFolder
from sightline.serving.limits import Limits
from sightline.serving.problems import CODES


def test_the_card_holds_the_whole_trail(client: TestClient, served_model: ModelFolder) -> None:
    [listed] = client.get("/v1/models").json()["models"]
    card = client.get("/v1/models/photos").json()
    assert listed["fingerprint"] == card["fingerprint"] == served_model.spec.fingerprint
    assert card["classes"] == ["blue", "green", "red"]
    assert card["provenance"]["data"] == {"location": "digits"}
    assert card["calibration"] == {"temperature": 1.7, "fitted_on": "nothing"}
    assert card["preprocess"]["image_size"] == 16
    assert card["weights_sha256"] == served_model.spec.weights_sha256


def test_the_heat_map_explains_the_answer(client: TestClient, photo: bytes) -> None:
    predicted = client.post("/v1/predict", content=photo).json()["images"][0]["predictions"][0]
    found = client.post("/v1/explain", content=photo).json()
    assert found["label"] == predicted["label"]
    assert found["probability"] == pytest.approx(predicted["probability"], abs=1e-5)
    assert np.shape(found["grid"]) == (8, 8)
    assert found["method"].startswith("occlusion")
    assert found["overlay"].startswith("data:image/png;base64,")
    # 20x16 pixels become 22x18, of which the network sees the centre of 16x16
    assert found["window"] == pytest.approx(
        {"left": 3 / 22, "top": 1 / 18, "width": 16 / 22, "height": 16 / 18}, abs=1e-6
    )


def test_a_heat_map_can_be_for_another_class_and_be_a_picture(client: TestClient, photo: bytes) -> None:
    green = client.post("/v1/explain?label=green", content=photo)
    assert green.json()["label"] == "green"
    wrong = client.post("/v1/explain?label=gren", content=photo).json()["error"]
    assert wrong["message"] == "Unknown class 'gren'. Did you mean 'green'? /v1/models/photos lists them all."
    picture = client.post("/v1/explain", content=photo, headers={"accept": "image/png"})
    assert picture.headers["content-type"] == "image/png"
    assert Image.open(BytesIO(picture.content)).size == (16, 16)


def test_a_heat_map_has_the_name_that_its_image_is_given(client: TestClient, photo: bytes) -> None:
    sent = {"images": [base64.b64encode(photo).decode()], "name": "x.jpg"}
    assert client.post("/v1/explain", json=sent).json()["name"] == "x.jpg"
    form = client.post("/v1/explain", files={"f": photo}, data={"name": "x.jpg"})
    assert form.json()["name"] == "x.jpg"


def test_a_heat_map_of_what_is_no_image_is_refused(client: TestClient, photo: bytes) -> None:
    broken = client.post("/v1/explain", content=b"no image")
    assert (broken.status_code, broken.json()["error"]["file"]) == (422, "image 1")
    two = client.post("/v1/explain", files=[("f", photo), ("f", photo)])
    assert (two.status_code, two.json()["error"]["code"]) == (400, "invalid_request")
    unused = client.post("/v1/explain?top_k=3", content=photo)
    assert unused.json()["error"]["message"].startswith("Unknown option 'top_k'.")


def test_metrics_count_requests_images_and_batches(client: TestClient, photo: bytes) -> None:
    client.post("/v1/predict", files=[("f", photo), ("f", b"no image")])
    text = client.get("/metrics").text
    for line in (
        'sightline_requests_total{endpoint="/v1/predict",status="200"} 1.0',
        'sightline_images_total{model="photos",outcome="answered"} 1.0',
        'sightline_images_total{model="photos",outcome="unreadable_image"} 1.0',
        'sightline_batch_size_count{model="photos"} 1.0',
        'sightline_model_seconds_count{model="photos"} 1.0',
        'sightline_decode_seconds_count{model="photos"} 1.0',
        'sightline_request_seconds_count{endpoint="/v1/predict"} 1.0',
        'sightline_queue_images{model="photos"} 0.0',
        "sightline_held_bytes 0.0",
    ):
        assert line in text


def test_unknown_paths_do_not_multiply_the_metrics(client: TestClient) -> None:
    for number in range(5):
        assert client.get(f"/nothing{number}").json()["error"]["code"] == "not_found"
    assert 'sightline_requests_total{endpoint="other",status="404"} 5.0' in client.get("/metrics").text


def test_a_wrong_method_is_told_the_right_one(client: TestClient) -> None:
    answer = client.get("/v1/predict")
    assert (answer.status_code, answer.json()["error"]["code"], answer.headers["allow"]) == (
        405,
        "method_not_allowed",
        "POST",
    )


def test_the_document_names_every_path_and_every_code(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    routes = client.app.door._app.routes  # type: ignore[attr-defined]
    paths = {route.path for route in routes if isinstance(route, Route)}
    assert set(document["paths"]) == {path for path in paths if path.startswith(("/v", "/m", "/o"))}
    assert set(re.findall(r"`(\w+)`:", json.dumps(document))) == set(CODES) - {"method_not_allowed"}


@pytest.mark.parametrize("path", ["/", "/docs", "/page/page.js", "/page/page.css", "/page/icon.svg"])
def test_the_page_asks_nobody_else(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert not re.search(r"(?:src|href|url|import|fetch)\W{1,3}https?:", answer.text)
    if path in ("/", "/docs"):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert " style=" not in answer.text
        assert not re.search(r"<script(?![^>]* src=)", answer.text)


def test_files_outside_the_page_are_not_given(client: TestClient) -> None:
    for name in ("..%2Fapp.py", "%2e%2e/app.py", "x.js", "%2Fetc%2Fpasswd"):
        assert client.get(f"/page/{name}").status_code == 404


def test_the_token_guards_all_but_health_and_the_page(serving: Serving, photo: bytes) -> None:
    client = serving(token="s3cret")
    for path in ("/", "/page/page.js", "/v2/health/live", "/v2/health/ready"):
        assert client.get(path).status_code == 200
    for path in ("/v1/models", "/v1/models/photos", "/metrics", "/v2", "/v2/models/photos"):
        refused = client.get(path)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert client.get(path, headers={"authorization": "Bearer s3cret"}).status_code == 200
    for given in ("Bearer wrong", "Basic s3cret", "s3cret", "Bearer", "Bearer s3crét"):
        answer = client.post("/v1/predict", content=photo, headers={"authorization": given.encode()})
        assert answer.status_code == 401


def test_other_sites_may_call_only_when_named(serving: Serving, photo: bytes) -> None:
    there = {"origin": "https://shop.example"}
    assert "access-control-allow-origin" not in serving().get("/v1/models", headers=there).headers
    named = serving(cors_origins=("https://shop.example",))
    assert named.get("/v1/models", headers=there).headers["access-control-allow-origin"] == "https://shop.example"
    asked = named.options("/v1/predict", headers=there | {"access-control-request-method": "POST"})
    assert asked.status_code == 200
    other = named.get("/v1/models", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_another_site_s_page_may_not_reload(client: TestClient) -> None:
    refused = client.post("/v1/models/photos/reload", headers={"origin": "https://evil.example"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    assert client.post("/v1/models/photos/reload", headers={"origin": "http://testserver"}).status_code == 200


def test_a_request_keeps_its_id_and_a_strange_one_is_replaced(client: TestClient) -> None:
    assert client.get("/v1/models", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert re.fullmatch(
        "[0-9a-f]{16}", client.get("/v1/models", headers={"x-request-id": "a b\n"}).headers["x-request-id"]
    )


def test_the_log_has_one_line_of_json_for_each_request_and_no_images(
    serving: Serving, photo: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    serving(access_log=True).post("/v1/predict?name=secret.jpg", content=photo, headers={"x-request-id": "abc"})
    [line] = [json.loads(text) for text in capsys.readouterr().err.splitlines() if text.startswith("{")]
    assert {key: line[key] for key in ("id", "method", "path", "status", "model", "images", "bytes")} == {
        "id": "abc",
        "method": "POST",
        "path": "/v1/predict",
        "status": 200,
        "model": "photos",
        "images": 1,
        "bytes": len(photo),
    }
    assert "secret.jpg" not in str(line)


def test_a_fault_tells_the_client_nothing_but_its_id(serving: Serving, photo: bytes) -> None:
    client = serving()

    def fail(*_: object) -> None:
        raise RuntimeError("/home/someone/secret")

    client.app.served.find = fail  # type: ignore[attr-defined]
    answer = client.post("/v1/predict", content=photo)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "secret" not in answer.text


def test_a_late_answer_is_an_error_and_its_work_is_dropped(serving: Serving, photo: bytes) -> None:
    answer = serving(limits=Limits(deadline_seconds=1e-9)).post("/v1/predict", content=photo)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")


def test_several_models_are_told_apart_by_name(serving: Serving, served_model: ModelFolder, photo: bytes) -> None:
    path = str(served_model.path)
    client = serving(models=(path, f"other={path}"))
    assert [model["name"] for model in client.get("/v1/models").json()["models"]] == ["photos", "other"]
    assert client.post("/v1/predict?model=other", content=photo).json()["model"] == "other"
    assert client.post("/v1/predict", content=photo).json()["model"] == "photos"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{path}", "{path}"], "Two models would be called 'photos'. Name one of them, as in other="),
        (["nowhere"], "There is no model folder 'nowhere'."),
        (["{path}", "--host", "256.0.0.1"], "Can't serve at 256.0.0.1:8000"),
        (["{path}", "--engine", "nix"], "Unknown engine 'nix'"),
        (["{path}", "--token-file", "nowhere"], "The token file 'nowhere' can't be read"),
        (["{path}", "--deadline", "0"], "deadline_seconds must be greater than 0, got 0.0."),
    ],
)
def test_a_user_s_mistake_is_one_line(arguments: list[str], sentence: str, served_model: ModelFolder, run_cli) -> None:  # type: ignore[no-untyped-def]
    code, _, err = run_cli("serve", *(word.format(path=served_model.path) for word in arguments))
    assert code == 2
    assert sentence in err
    assert len(err.splitlines()) == 1
