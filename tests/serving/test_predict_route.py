import base64
from pathlib import Path

import pytest
from PIL import Image
from running import Serving
from starlette.testclient import TestClient

from sightline.model_folder import ModelFolder
from sightline.prediction import Predictor
from sightline.serving.limits import Limits


def test_three_encodings_say_what_predict_says(client: TestClient, served_model: ModelFolder, photos: Path) -> None:
    files = sorted(photos.rglob("*.jpg"))[::7]
    expected = [
        [{"label": guess.label, "probability": round(guess.probability, 6)} for guess in prediction.guesses]
        for prediction in Predictor(served_model).predict(files)
    ]
    forms = client.post("/v1/predict", files=[("images", (file.name, file.read_bytes())) for file in files])
    coded = [{"name": file.name, "data": base64.b64encode(file.read_bytes()).decode()} for file in files]
    texts = client.post("/v1/predict", json={"images": coded})
    assert [image["predictions"] for image in forms.json()["images"]] == expected
    assert [image["name"] for image in forms.json()["images"]] == [file.name for file in files]
    assert texts.json() == forms.json()
    raw = [
        client.post("/v1/predict", content=file.read_bytes(), headers={"content-type": "image/jpeg"}) for file in files
    ]
    assert [answer.json()["images"][0]["predictions"] for answer in raw] == expected


def test_one_bad_image_fails_alone_and_is_named(client: TestClient, photo: bytes) -> None:
    answer = client.post(
        "/v1/predict", files=[("f", ("a.jpg", photo)), ("f", ("b.jpg", b"no image")), ("f", ("c.jpg", photo))]
    )
    images = answer.json()["images"]
    assert answer.status_code == 200
    assert images[1] == {
        "name": "b.jpg",
        "error": {"code": "unreadable_image", "message": "not an image in a known format", "file": "b.jpg"},
    }
    assert images[0]["predictions"] == images[2]["predictions"]


def test_a_request_of_bad_images_alone_is_an_error(client: TestClient) -> None:
    answer = client.post("/v1/predict?name=x.png", content=b"no image")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["file"]) == (422, "unreadable_image", "x.png")
    assert error["request_id"] == answer.headers["x-request-id"]


def test_top_k_and_probabilities_are_options_in_every_encoding(client: TestClient, photo: bytes) -> None:
    coded = base64.b64encode(photo).decode()
    answers = [
        client.post("/v1/predict?top_k=2&probabilities=true", content=photo, headers={"content-type": "image/jpeg"}),
        client.post("/v1/predict", files={"f": photo}, data={"top_k": "2", "probabilities": "true"}),
        client.post("/v1/predict", json={"images": [coded], "top_k": 2, "probabilities": True}),
    ]
    for answer in answers:
        [image] = answer.json()["images"]
        assert len(image["predictions"]) == 2
        assert list(image["probabilities"]) == ["blue", "green", "red"]
        assert sum(image["probabilities"].values()) == pytest.approx(1, abs=2e-6)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("top_k=0", "top_k must be a whole number of at least 1, got '0'"),
        ("top_k=x", "top_k must be a whole number"),
        ("top_k=%C2%B2", "top_k must be a whole number of at least 1, got '²'"),
        ("top_k=99999999999999999999", "top_k must be a whole number"),
        ("probabilities=maybe", "probabilities must be true or false, got 'maybe'"),
        ("topk=3", "Unknown option 'topk'. Did you mean 'top_k'? /openapi.json lists them all."),
    ],
)
def test_a_wrong_option_is_refused_by_name(client: TestClient, photo: bytes, query: str, sentence: str) -> None:
    answer = client.post(f"/v1/predict?{query}", content=photo)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert sentence in answer.json()["error"]["message"]


def test_a_request_of_one_image_can_name_it_in_every_encoding(client: TestClient, photo: bytes) -> None:
    coded = base64.b64encode(photo).decode()
    answers = [
        client.post("/v1/predict?name=x.jpg", content=photo),
        client.post("/v1/predict?name=x.jpg", files={"f": photo}),
        client.post("/v1/predict", files={"f": photo}, data={"name": "x.jpg"}),
        client.post("/v1/predict?name=x.jpg", json={"images": [coded]}),
        client.post("/v1/predict", json={"images": [coded], "name": "x.jpg"}),
    ]
    assert [answer.json()["images"][0]["name"] for answer in answers] == ["x.jpg"] * 5


def test_one_name_for_several_images_is_refused(client: TestClient, photo: bytes) -> None:
    coded = base64.b64encode(photo).decode()
    answers = [
        client.post("/v1/predict?name=x.jpg", files=[("f", photo), ("f", photo)]),
        client.post("/v1/predict", json={"images": [coded, coded], "name": "x.jpg"}),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
        assert "name is for a request of one image; 2 were sent" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"images": 3}',
        b'{"images": [3]}',
        b'{"images": ["%%"]}',
        b'{"images": [{"path": "/etc/passwd"}]}',
        b'{"images": [{"data": "", "name": 3}]}',
        b'{"images": []}',
        b"[" * 100000,
        b"\xff",
        b'{"images": [null], "x": 1}',
    ],
)
def test_json_that_is_not_as_asked_is_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/predict", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\ncontent-disposition: form-data; name=f; filename=a\r\n\r\nx"),
        ("multipart/form-data; boundary=b", b"--b\r\ncontent-disposition: form-data; name=f" + b"x" * 9000),
        ("multipart/form-data; boundary=b", b"nothing"),
        ("multipart/form-data; boundary=b", b"--b--\r\n"),
        ("multipart/form-data; boundary=" + "b" * 257, b"x"),
    ],
)
def test_a_form_that_is_broken_is_refused(client: TestClient, kind: str, body: bytes) -> None:
    answer = client.post("/v1/predict", content=body, headers={"content-type": kind})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


def test_a_path_or_an_address_is_not_followed(client: TestClient, photos: Path) -> None:
    for text in (str(photos / "red" / "000.jpg"), "file:///etc/passwd", "http://127.0.0.1/x.jpg"):
        answer = client.post("/v1/predict", content=text.encode(), headers={"content-type": "image/jpeg"})
        assert answer.json()["error"]["message"] == "not an image in a known format"


def test_another_content_type_is_refused_with_what_is_read(client: TestClient, photo: bytes) -> None:
    answer = client.post("/v1/predict", content=photo, headers={"content-type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 415
    assert "With curl, add -H 'Content-Type: image/jpeg'" in answer.json()["error"]["message"]
    packed = client.post("/v1/predict", content=photo, headers={"content-encoding": "gzip"})
    assert packed.json()["error"]["code"] == "unsupported_media_type"


def test_the_format_is_found_from_the_content(client: TestClient, photo: bytes) -> None:
    plain = client.post("/v1/predict", files=[("f", ("a.jpg", photo))]).json()["images"][0]["predictions"]
    named = client.post("/v1/predict", files=[("f", ("a.png", photo, "image/png"))]).json()["images"][0]["predictions"]
    assert plain == named


def test_an_image_of_too_many_pixels_is_refused_by_its_header(serving: Serving, tmp_path: Path) -> None:
    client = serving(limits=Limits(max_pixels=10_000))
    Image.new("1", (101, 100)).save(tmp_path / "large.png")
    answer = client.post("/v1/predict", content=(tmp_path / "large.png").read_bytes())
    assert answer.json()["error"]["message"] == "101x100 is more than 10,000 pixels"


def test_too_many_bytes_or_images_are_refused(serving: Serving, photo: bytes) -> None:
    client = serving(limits=Limits(max_body_bytes=3000, max_images=2))
    stated = client.post("/v1/predict", content=b"x" * 3001)
    assert (stated.status_code, stated.json()["error"]["code"]) == (413, "body_too_large")
    streamed = client.post("/v1/predict", content=(b"x" * 1000 for _ in range(4)))
    assert (streamed.status_code, streamed.json()["error"]["code"]) == (413, "body_too_large")
    many = client.post("/v1/predict", json={"images": ["", "", ""]})
    assert (many.status_code, many.json()["error"]["code"]) == (413, "too_many_images")


def test_bytes_that_are_held_are_bounded_and_given_back(serving: Serving, photo: bytes) -> None:
    client = serving(limits=Limits(max_held_bytes=2000))
    for _ in range(3):
        assert client.post("/v1/predict", content=photo).status_code == 200
        full = client.post("/v1/predict", content=b"x" * 2001)
        assert (full.status_code, full.json()["error"]["code"], full.headers["retry-after"]) == (429, "overloaded", "1")
        streamed = client.post("/v1/predict", content=(b"x" * 1000 for _ in range(4)))
        assert streamed.status_code == 429


def test_a_name_without_utf8_is_answered(client: TestClient) -> None:
    answer = client.post(
        "/v1/predict",
        content=b'{"images": [{"data": "", "name": "\\ud800"}]}',
        headers={"content-type": "application/json"},
    )
    assert answer.json()["error"]["message"] == "the file is empty"


def test_an_unknown_model_suggests_the_nearest(client: TestClient, photo: bytes) -> None:
    answer = client.post("/v1/predict?model=photo", content=photo)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_model")
    assert "Did you mean 'photos'?" in answer.json()["error"]["message"]
