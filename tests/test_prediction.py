import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from making import make_folder, make_photos
from PIL import Image

from sightline.errors import SightlineError
from sightline.model_folder import ModelFolder
from sightline.prediction import MOST_DECODERS, Predictor

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    return Predictor(make_folder(tmp_path / "model"))


def test_a_path_bytes_an_image_and_an_array_give_the_same_answer(predictor: Predictor, photos: Path) -> None:
    file = photos / "red" / "000.jpg"
    image = Image.open(file)
    # One at a time: some processors compute a batch's last rows in another order of additions.
    answers = predictor.predict([file, str(file), file.read_bytes(), image, np.asarray(image)], batch_size=1)
    assert len({answer.guesses for answer in answers}) == 1
    assert [answer.name for answer in answers[2:]] == ["image 3", "image 4", "image 5"]


def test_probabilities_are_calibrated_sorted_and_sum_to_one(predictor: Predictor, photos: Path) -> None:
    [answer] = predictor.predict([photos / "red" / "000.jpg"])
    values = [guess.probability for guess in answer.guesses]
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1, abs=1e-6)
    pixels = np.zeros((1, 3, 16, 16), dtype=np.uint8)
    expected = (torch.from_numpy(predictor.logits(pixels)).double() / 1.5).softmax(1)
    assert np.allclose(predictor.probabilities(pixels), expected, atol=1e-12)


def test_the_batch_size_does_not_change_the_order_or_the_answers(predictor: Predictor, photos: Path) -> None:
    files = sorted(photos.rglob("*.jpg"))[:7]
    one, three = predictor.predict(files, batch_size=1), predictor.predict(files, batch_size=3)
    assert [answer.name for answer in three] == list(map(str, files))
    for a, b in zip(one, three, strict=True):
        assert [guess.label for guess in a.guesses] == [guess.label for guess in b.guesses]
        assert a.guesses[0].probability == pytest.approx(b.guesses[0].probability, abs=1e-5)


def test_an_unreadable_image_fails_alone(predictor: Predictor, photos: Path) -> None:
    good = photos / "red" / "000.jpg"
    answers = predictor.predict([good, b"", photos / "none.jpg", np.zeros((4, 4), dtype=np.float32), good])
    assert [answer.error is None for answer in answers] == [True, False, False, False, True]
    assert answers[1].error == "the file is empty"
    assert answers[2].error == "No such file or directory"
    assert "must be uint8" in str(answers[3].error)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
def test_an_image_that_pillow_finds_cut_off_when_it_is_used_fails_alone(predictor: Predictor, form: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    content = BytesIO()
    noise.save(content, form)
    cut = Image.open(BytesIO(content.getvalue()[: len(content.getvalue()) * 2 // 3]))
    closed = noise.copy()
    closed.close()
    answers = predictor.predict([noise, cut, closed, noise])
    assert [answer.error is None for answer in answers] == [True, False, False, True]
    assert "\n" not in str(answers[1].error)


def test_images_are_read_as_far_ahead_as_a_batch_and_its_decoders_and_no_farther(
    predictor: Predictor, photos: Path
) -> None:
    content = (photos / "red" / "000.jpg").read_bytes()
    taken = 0

    def images() -> Iterator[tuple[str, bytes]]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield str(number), content if number % 3 else b"no image"

    stream = predictor.predict_stream(images(), batch_size=4)
    first = [next(stream) for _ in range(4)]
    assert [prediction.name for prediction in first] == ["0", "1", "2", "3"]
    assert [prediction.error is None for prediction in first] == [False, True, True, False]
    assert 8 < taken <= 8 + MOST_DECODERS
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sightline-decode")]


def test_no_thread_outlives_a_network_that_fails(
    predictor: Predictor, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("the network failed")

    monkeypatch.setattr(predictor, "logits", fail)
    with pytest.raises(RuntimeError, match="the network failed"):
        predictor.predict([photos / "red" / "000.jpg"] * 50)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sightline-decode")]


def test_a_file_is_answered_before_the_next_where_batches_are_of_one(predictor: Predictor, photos: Path) -> None:
    answered: list[str] = []

    def images() -> Iterator[tuple[str, Path]]:
        for number in range(3):
            assert len(answered) == number
            yield str(number), photos / "red" / "000.jpg"

    for prediction in predictor.predict_stream(images(), batch_size=1):
        answered.append(prediction.name)  # the generator looks at it meanwhile
    assert answered == ["0", "1", "2"]


def test_a_name_that_no_file_can_have_fails_alone(predictor: Predictor, photos: Path) -> None:
    answers = predictor.predict(["a\0b.png", "\ud800.png", photos / "red" / "000.jpg"])
    assert [str(answer.error)[:28] for answer in answers] == [*["no file can have this name: "] * 2, "None"]


def test_names_can_t_steer_the_terminal_or_forge_lines(tmp_path: Path, run_cli: Cli) -> None:
    model = make_folder(tmp_path / "model", classes=("a\x1b[2J", "b\nforged.jpg  a 99.9%")).path
    photos = make_photos(tmp_path / "photos\u202e", classes=("red",), count=1)
    (photos / "red" / "none\rgood.jpg").write_text("no image")
    _, out, err = run_cli("predict", model, photos, "--top-k", "2")
    assert [len(out.splitlines()), len(err.splitlines())] == [1, 1]
    assert (out + err).replace("\n", "").isprintable()
    assert "a�[2J" in out


def test_the_caller_s_image_is_left_as_it_was(predictor: Predictor) -> None:
    image = Image.new("P", (30, 20))
    image.getexif()[0x0112] = 6
    predictor.predict([image])
    assert (image.mode, image.size) == ("P", (30, 20))


def test_what_is_no_image_has_an_error_of_its_own(predictor: Predictor) -> None:
    answers = predictor.predict([None, 3, Image.new("RGB", (0, 0)), np.zeros((0, 4), dtype=np.uint8)])  # type: ignore[list-item]
    assert [answer.error for answer in answers[:2]] == [
        "expected a path, bytes, a Pillow image or an array, got NoneType",
        "expected a path, bytes, a Pillow image or an array, got int",
    ]
    assert all(answer.error for answer in answers)


def test_a_single_image_in_place_of_a_list_is_refused(predictor: Predictor) -> None:
    with pytest.raises(SightlineError, match="put a single one in a list"):
        predictor.predict("photo.jpg")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 3)])
def test_nor_are_the_rows_of_one_image_taken_for_images(predictor: Predictor, shape: tuple[int, ...]) -> None:
    image = np.zeros(shape, np.uint8)
    with pytest.raises(SightlineError, match="put a single one in a list"):
        predictor.predict(image)  # pyright: ignore[reportArgumentType]
    assert len(predictor.predict([image])) == 1


def test_top_k_must_be_positive(predictor: Predictor) -> None:
    with pytest.raises(SightlineError, match="top_k must be at least 1, got 0"):
        predictor.predict([b""], top_k=0)


def test_a_device_that_is_missing_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match=r"'gpu' is not available here. Available: cpu"):
        Predictor.open(make_folder(tmp_path / "model").path, device="gpu")


@pytest.mark.parametrize(
    ("emulated", "precision", "is_said"), [(True, "bf16", True), (False, "bf16", False), (True, None, False)]
)
def test_bfloat16_that_a_processor_lacks_is_said_to_be_slow(
    emulated: bool, precision: str | None, is_said: bool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr("sightline.prediction.emulates_bf16", lambda _: emulated)
    with caplog.at_level("INFO", logger="sightline"):
        Predictor(make_folder(tmp_path / "model"), precision=precision)
    assert (
        any("no instructions for bfloat16, in which the engine torch computes" in m for m in caplog.messages) == is_said
    )


def test_the_command_reads_files_folders_and_archives_and_fails_for_the_unreadable(
    tmp_path: Path, run_cli: Cli
) -> None:
    model = make_folder(tmp_path / "model").path
    photos = make_photos(tmp_path / "photos", count=2)
    (photos / "red" / "broken.jpg").write_text("no image")
    code, out, err = run_cli("predict", model, photos, tmp_path / "none.png", "--top-k", "1")
    assert code == 1
    assert len(out.splitlines()) == 6
    assert "broken.jpg: not an image in a known format" in err
    assert "none.png: the file does not exist" in err


def test_json_and_csv_can_be_parsed_and_hold_the_failures(tmp_path: Path, run_cli: Cli) -> None:
    import csv
    import json

    model = make_folder(tmp_path / "model").path
    photos = make_photos(tmp_path / "photos", classes=('röt, "x"',), count=1)
    code, out, _ = run_cli("predict", model, photos, "none.png", "--format", "json", "--top-k", "2")
    first, second = json.loads(out)
    assert code == 1
    assert len(first["predictions"]) == 2
    assert second == {"path": "none.png", "error": "the file does not exist"}
    _, out, _ = run_cli("predict", model, photos, "none.png", "--format", "csv", "--top-k", "2")
    rows = list(csv.DictReader(out.splitlines()))
    assert [row["rank"] for row in rows] == ["1", "2", ""]
    assert rows[0]["path"].endswith('röt, "x"/000.jpg')


def test_nothing_to_predict_is_an_error(tmp_path: Path, run_cli: Cli) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = run_cli("predict", make_folder(tmp_path / "model").path, tmp_path / "empty")
    assert (code, err) == (2, f"error: There are no images in '{tmp_path / 'empty'}'.\n")


@pytest.mark.parametrize("name", ["", " "])
def test_a_blank_name_is_not_the_working_directory(
    name: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Cli
) -> None:
    model = make_folder(tmp_path / "model").path
    monkeypatch.chdir(photos)
    code, out, err = run_cli("predict", model, "red/000.jpg", name)
    assert (code, out, err) == (2, "", f"error: {name!r} names no images. Name files, folders or archives of them.\n")


def test_an_image_larger_than_memory_should_hold_is_refused(predictor: Predictor) -> None:
    small = BytesIO()
    Image.new("1", (20_000, 20_000)).save(small, "PNG")
    [answer] = predictor.predict([small.getvalue()])
    assert "more than 89,478,485 pixels" in str(answer.error)


def test_an_output_that_is_no_number_is_a_sentence(tmp_path: Path, photos: Path, run_cli: Cli) -> None:
    folder = make_folder(tmp_path / "model")
    weights = folder.model().state_dict()
    weights["head.bias"].fill_(torch.nan)
    broken = ModelFolder.write(tmp_path / "broken", folder.spec, weights)
    code, out, err = run_cli("predict", broken.path, photos / "red" / "000.jpg", "--format", "json")
    assert (code, out) == (2, "")
    assert err.startswith("error: The network's output is infinite or not a number for 1 of 1 images.")
