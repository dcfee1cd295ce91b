"""int8 after training: what it is calibrated on, what it is held to, and that its folder is whole."""

from pathlib import Path

import numpy as np
import pytest
from making import make_photos

from sightline.compressing.images import find_images
from sightline.compressing.judging import answers_right
from sightline.compression import compress
from sightline.compression import quantize as quantizing
from sightline.compression.quantize import Quantize
from sightline.errors import ModelError
from sightline.exported_folder import ExportedFolder, open_folder
from sightline.exporting.parity import read_parity
from sightline.model_folder import ModelFolder
from sightline.prediction import Predictor
from sightline.quantization import Bound, Request
from sightline.quantization.openvino import _judged
from sightline.quantization.openvino import quantize as to_int8
from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.training import train

RECIPE = override(
    Recipe(),
    [
        *("model.name=resnet20", "data.image_size=16", "data.resize=18", "data.num_workers=0", "data.cache=false"),
        *("epochs=2", "batch_size=8", "optim.lr=3e-3"),
    ],
)


pytestmark = pytest.mark.usefixtures("untimed")


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    place = tmp_path_factory.mktemp("parent")
    return train(RECIPE, make_photos(place / "photos", count=20), out=place / "run")


def test_the_sample_is_of_training_images_alone_with_every_class_in_its_share(parent: ModelFolder) -> None:
    images = find_images(parent, None)
    sample = images.sample(12)
    assert set(sample.tolist()) <= set(images.splits.train.tolist())
    counts = np.unique(images.table.targets[sample], return_counts=True)[1]
    assert counts.tolist() == [4, 4, 4]


def test_int8_is_calibrated_on_that_sample(
    parent: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = find_images(parent, None)
    read: list[int] = []
    batch = quantizing.Pixels.batch
    monkeypatch.setattr(quantizing.Pixels, "batch", lambda self, rows: read.extend(rows.tolist()) or batch(self, rows))
    monkeypatch.setattr("sightline.quantization.onnx.quantize", lambda _: {})
    Quantize(engine="onnx", num_images=12)._quantise(parent, parent, images, tmp_path, tmp_path)
    assert read == images.sample(12).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_the_int8_folder_is_smaller_opens_and_states_its_parity_in_accuracy(
    engine: str, parent: ModelFolder, tmp_path: Path
) -> None:
    method = Quantize(engine=engine, num_images=12)  # pyright: ignore[reportArgumentType]
    rows = compress(parent, [method], out=tmp_path / "out")
    folder = open_folder(rows[-1].path)
    assert isinstance(folder, ExportedFolder)
    assert folder.artefact.precision == "int8"
    assert folder.artefact.parent == parent.spec.fingerprint
    assert folder.model_folder().path.resolve() == parent.path.resolve()
    assert rows[1].size < 0.5 * rows[0].size
    assert read_parity(folder).paired.p_value <= 1
    assert folder.spec.figures["test"]["accuracy"]["value"] == rows[1].accuracy.value
    assert Predictor(folder).logits(np.zeros((3, 3, 16, 16), np.uint8)).shape == (3, 3)
    with pytest.raises(ModelError, match="holds an exported model, which only predicts"):
        compress(folder.path, [method], out=tmp_path / "again")


@pytest.mark.slow
def test_what_stays_in_float_is_stored_in_int8_all_the_same(tmp_path: Path) -> None:
    recipe = override(RECIPE, ["model.name=efficientnet_b0_cifar", "epochs=1", "data.image_size=32", "data.resize=36"])
    folder = train(recipe, make_photos(tmp_path / "photos", count=12), out=tmp_path / "run")
    [before, after] = compress(folder, [Quantize(num_images=12)], out=tmp_path / "out")
    weights = next(Path(after.path).glob("*.bin")).stat().st_size
    assert weights < 1.2 * before.params  # squeeze-and-excitation's, which compute in float32, are a sixth of them


@pytest.mark.parametrize(
    ("precision", "largest"), [("fp16", 0.62), pytest.param("int8_weights", 0.4, marks=pytest.mark.slow)]
)
def test_weights_alone_are_stored_smaller_and_answer_nearly_alike(
    precision: str, largest: float, parent: ModelFolder, tmp_path: Path
) -> None:
    method = Quantize(precision=precision)  # pyright: ignore[reportArgumentType]
    rows = compress(parent, [method], out=tmp_path / "out")
    folder = open_folder(rows[-1].path)
    assert isinstance(folder, ExportedFolder)
    assert folder.artefact.precision == rows[1].precision == precision
    weights = next(folder.path.glob("*.bin")).stat().st_size
    assert weights < largest * 4 * rows[0].params
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 16, 16), np.uint8)
    expected, found = Predictor(parent).logits(pixels), Predictor(folder).logits(pixels)
    assert 0 < np.abs(expected - found).max() < 0.05 * expected.std()
    judged, _ = answers_right(folder, find_images(parent, None), "val", "cuda")  # on the CPU, wherever models are
    assert judged.dtype == np.bool_


def test_a_loss_beyond_the_bound_is_refused_and_leaves_nothing(
    parent: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sightline.compression import quantize

    def answers(folder: object, images: object, split: str, device: str) -> tuple[object, dict[str, object]]:
        assert split == "val"
        return np.ones(10, np.bool_) if isinstance(folder, ModelFolder) else np.arange(10) > 3, {}

    def quantise(
        self: Quantize, parent: object, folder: object, images: object, source: Path, target: Path
    ) -> dict[str, object]:
        (target / "model.onnx").write_bytes((source / "model.onnx").read_bytes())
        return {}

    monkeypatch.setattr(quantize, "answers_right", answers)
    monkeypatch.setattr(Quantize, "_quantise", quantise)
    with pytest.raises(ModelError, match=r"by -40\.0 points .*, where 1 may be lost"):
        compress(parent, [Quantize(engine="onnx", max_drop=1.0)], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_validation_images_are_read_when_they_are_judged_and_not_all_held(
    parent: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = find_images(parent, None)
    places = images.places("val")
    read: list[int] = []
    batch = quantizing.Pixels.batch
    monkeypatch.setattr(quantizing.Pixels, "batch", lambda self, rows: read.extend(rows.tolist()) or batch(self, rows))
    bound = Quantize(max_drop=1.0, num_images=2)._bound(parent, parent, images)
    assert bound is not None
    assert read == []
    assert [image.shape for image in bound.images] == [(1, 3, 16, 16)] * len(places)
    assert read == places.tolist()
    first, again = next(iter(bound.images)), next(iter(bound.images))
    assert np.array_equal(first, again)
    assert read == [*places.tolist(), places[0]]  # the first had made room, and was then kept


def test_the_layers_are_ranked_by_each_image_s_own_logits() -> None:
    class Compiled:
        outputs = ("logits",)

        def __call__(self, images: list[np.ndarray]) -> dict[str, np.ndarray]:
            return {"logits": images[0].mean((2, 3))}

    images = [np.full((1, 3, 2, 2), number, np.float32) for number in range(5)]
    share, logits = _judged(Bound(0.01, images, lambda found: float(len(found))), Compiled(), images)
    assert share == 5
    assert [found.tolist() for [found] in logits] == [[[number] * 3] for number in range(5)]


@pytest.mark.slow
def test_layers_are_put_back_where_there_are_more_validation_images_than_rank_them(tmp_path: Path) -> None:
    import openvino
    from openvino import opset13

    draws = np.random.default_rng(0)
    given = opset13.parameter([-1, 3, 8, 8], np.float32, name="images")
    kernel = draws.normal(size=(8, 3, 3, 3)).astype(np.float32)
    maps = opset13.convolution(given, kernel, [1, 1], [1, 1], [1, 1], [1, 1])
    model = openvino.Model([opset13.reduce_mean(opset13.relu(maps), np.array([2, 3]), False)], [given], "model")
    openvino.save_model(model, str(tmp_path / "model.xml"), compress_to_fp16=False)
    images = list(draws.normal(size=(20, 1, 3, 8, 8)).astype(np.float32))
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = np.concatenate([compiled([image])[0] for image in images])

    def accuracy(logits: np.ndarray) -> float:
        return float((np.abs(logits - expected).max(1) < 1e-4).mean())

    (tmp_path / "int8").mkdir()
    request = Request(tmp_path, tmp_path / "int8", images[:5], transformer=False)
    assert len(to_int8(request, Bound(0.01, images, accuracy))["float_layers"]) == 1


def test_nothing_comes_after_quantising(parent: ModelFolder, tmp_path: Path) -> None:
    for settings, sentence in (
        ({"max_drop": 0.0}, "above 0 and at most 100, got 0"),
        ({"num_images": 0}, "at least 1"),
        ({"engine": "onix"}, "Did you mean 'onnx'"),
        ({"precision": "int4"}, "Did you mean 'int8'"),
        ({"engine": "onnx", "precision": "fp16"}, "fp16 is written for openvino alone, got 'onnx'"),
    ):
        with pytest.raises(ModelError, match=sentence):
            Quantize(**settings)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ModelError, match="Name --quantize last"):
        compress(parent, [Quantize(), Quantize()], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
