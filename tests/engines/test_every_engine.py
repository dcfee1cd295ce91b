"""The contract: an engine gives the network's own answers, in the precision it was asked for."""

from pathlib import Path

import numpy as np
import pytest
from making import make_folder
from numpy.typing import NDArray

from sightline import catalog, engines
from sightline.conversion import converted, farthest
from sightline.engines import Engine, Settings, check_engine, engines_for, find_engine, open_network
from sightline.engines.torch import TorchNetwork
from sightline.errors import ModelError, SightlineError
from sightline.exported_folder import Artefact, ExportedFolder
from sightline.files import cache_folder
from sightline.formats import BF16, FLOAT32
from sightline.model_folder import ModelFolder
from sightline.prediction import Predictor

NAMES = catalog.names("sightline.engines")
CHEAP = ("torch", "channels_last")
"""The others compile or convert first, which takes seconds."""
EVERY = [pytest.param(name, marks=[] if name in CHEAP else [pytest.mark.slow]) for name in NAMES]


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    return make_folder(tmp_path / "model")


def pixels(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 3, 16, 16), dtype=np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_every_engine_states_float32_first_and_what_it_needs(name: str) -> None:
    engine = find_engine(name)
    assert isinstance(engine, Engine)
    assert engine.precisions[0] == "float32"
    assert engine.title
    assert engine.missing is None  # the development environment has them all
    assert engine.extra in ("train", "onnx", "openvino")


@pytest.mark.parametrize("name", EVERY)
def test_an_engine_gives_the_network_s_answers_for_batches_of_any_size(name: str, folder: ModelFolder) -> None:
    plain = open_network(folder, "torch", Settings(threads=1))
    engine = open_network(folder, name, Settings(threads=1))
    for count in (1, 3):
        images = pixels(count)
        assert farthest(plain(images), engine(images)) <= FLOAT32.max_difference


@pytest.mark.parametrize("name", EVERY)
def test_every_stated_precision_can_be_had_and_another_one_is_refused(name: str, folder: ModelFolder) -> None:
    plain = open_network(folder, "torch", Settings())(pixels(2))
    for precision in find_engine(name).precisions[1:]:
        found = open_network(folder, name, Settings(precision=precision))(pixels(2))
        assert 0 < farthest(plain, found) <= BF16.max_difference
    with pytest.raises(SightlineError, match="has no precision 'int3'. It has: float32"):
        open_network(folder, name, Settings(precision="int3"))


def test_the_torch_engine_gives_the_network_s_very_bits(folder: ModelFolder) -> None:
    import torch

    images = pixels(2)
    with torch.inference_mode():
        expected = folder.model()(folder.spec.preprocess.normalize(torch.from_numpy(images))).numpy()
    assert np.array_equal(open_network(folder, "torch", Settings())(images), expected)


@pytest.mark.parametrize(
    ("name", "network", "threads"),
    [
        ("onnx", "resnet20", 1),
        *(
            pytest.param(name, network, threads, marks=pytest.mark.slow)
            for name in NAMES
            if find_engine(name).steady
            for network in ("efficientnet_b0", "vit_s_16")
            for threads in (1, None)
        ),
    ],
)
def test_a_steady_engine_gives_an_image_the_same_bits_in_any_batch(
    name: str, network: str, threads: int | None, tmp_path: Path
) -> None:
    folder = make_folder(tmp_path / "model", network=network, image_size=32)
    engine = open_network(folder, name, Settings(threads=threads))
    images = np.random.default_rng(0).integers(0, 256, (33, 3, 32, 32), dtype=np.uint8)
    alone = np.concatenate([engine(image[None]) for image in images])
    for size in (2, 3, 4, 5, 8, 16, 32, 33):
        together = [engine(images[start : start + size]) for start in range(0, len(images), size)]
        assert np.array_equal(np.concatenate(together), alone), size


@pytest.mark.parametrize("engine", CHEAP)
def test_pytorch_on_the_cpu_computes_one_image_at_a_time_unless_asked_otherwise(
    engine: str, folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    call = TorchNetwork.__call__

    def watched(network: TorchNetwork, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(len(images))
        return call(network, images)

    monkeypatch.setattr(TorchNetwork, "__call__", watched)
    images = pixels(3)
    alone = Predictor(folder, device="cpu", engine=engine).logits(images)
    assert seen == [1, 1, 1]
    seen.clear()
    together = Predictor(folder, device="cpu", engine=engine, batch_size=3).logits(images)
    assert seen == [3]
    assert farthest(together, alone) <= FLOAT32.max_difference


def test_a_runtime_that_was_not_tried_is_given_one_image_at_a_time(
    folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_open", lambda *_: lambda images: np.full((len(images), 3), len(images)))
    assert open_network(folder, "torch", Settings(device="cpu"))(pixels(3))[0, 0] == 3
    assert open_network(folder, "torch", Settings(device="cpu", steady=True))(pixels(3))[0, 0] == 1
    assert open_network(folder, "executorch", Settings(device="cpu", steady=True))(pixels(3))[0, 0] == 1
    assert open_network(folder, "onnx", Settings(device="cpu", steady=True))(pixels(3))[0, 0] == 3


def test_a_predictor_says_which_engine_it_has_and_refuses_what_can_t_be(folder: ModelFolder) -> None:
    assert Predictor(folder).engine == "torch"
    assert Predictor.open(folder.path, engine="channels_last").engine == "channels_last"
    with pytest.raises(SightlineError, match=r"Unknown engine 'onx'. Did you mean 'onnx'\?"):
        Predictor(folder, engine="onx")
    with pytest.raises(SightlineError, match="threads must be at least 1, got 0"):
        Predictor(folder, threads=0)
    with pytest.raises(SightlineError, match="'onnx' runs on the CPU, not on the device 'cuda'"):
        Predictor(folder, engine="onnx", device="cuda")


def test_a_missing_package_is_named_with_its_install_command(
    folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(SightlineError, match=r'pip install "sightline\[openvino\]"'):
        open_network(folder, "openvino", Settings())


def test_torch_computes_on_as_many_threads_as_asked(folder: ModelFolder) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        open_network(folder, "torch", Settings(threads=2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_compiled_network_sees_batches_of_powers_of_two_alone() -> None:
    from sightline.engines.compiled import FilledUp

    seen: list[int] = []

    def network(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(len(images))
        return images.reshape(len(images), -1).astype(np.float32)

    filled = FilledUp(network)
    for count in (1, 2, 3, 5, 32):
        images = pixels(count)
        assert np.array_equal(filled(images), images.reshape(count, -1))
    assert seen == [1, 2, 4, 8, 32]


def test_a_compiler_that_fails_is_one_sentence() -> None:
    from sightline.engines.compiled import FilledUp

    def broken(_: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise RuntimeError("No working C++ compiler found.\nSet TORCHDYNAMO_VERBOSE=1")

    with pytest.raises(SightlineError, match=r"here: No working C\+\+ compiler found. Use another engine") as raised:
        FilledUp(broken)(pixels(1))
    assert "\n" not in str(raised.value)


class TestConversions:
    """With the `torch` format, which is quick to write."""

    @pytest.mark.slow
    def test_a_conversion_is_made_once_and_again_when_it_is_damaged(self, folder: ModelFolder) -> None:
        first = converted(folder, "torch")
        assert first.path.is_relative_to(cache_folder())
        written = (first.path / "model.pt2").stat().st_mtime_ns
        assert converted(folder, "torch").path == first.path
        assert (first.path / "model.pt2").stat().st_mtime_ns == written
        (first.path / "model.pt2").write_bytes(b"half")
        assert converted(folder, "torch").path == first.path
        assert isinstance(ExportedFolder.read(first.path), ExportedFolder)

    @pytest.mark.slow
    def test_another_model_has_another_conversion(self, folder: ModelFolder, tmp_path: Path) -> None:
        other = make_folder(tmp_path / "other", classes=("a", "b"))
        assert converted(other, "torch").path != converted(folder, "torch").path

    def test_a_conversion_that_answers_differently_is_refused_and_not_kept(
        self, folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from sightline import conversion

        monkeypatch.setattr(conversion, "farthest", lambda *_: 0.3)
        monkeypatch.setattr(conversion, "_versions_hash", lambda _: "of this test")
        with pytest.raises(ModelError, match="logits differ by 0.3 of their spread on noise"):
            converted(folder, "torch")
        assert not list((cache_folder() / "engines").glob("*of this test*"))


def test_what_is_far_apart_is_measured_in_units_of_the_logits_spread() -> None:
    logits = np.array([[0.0, 2.0], [10.0, 12.0]], dtype=np.float32)  # a spread of 1 around each row's mean
    assert farthest(logits, logits) == 0
    assert farthest(logits, logits + np.float32([[0, 0], [0, 0.5]])) == pytest.approx(0.5)
    assert farthest(logits, logits[:, :1]) == float("inf")
    assert not farthest(logits, logits * np.float32("nan")) <= 1


@pytest.mark.parametrize(
    ("form", "precision", "way_out"),
    [
        ("openvino", "bf16", "For bf16 export the model again, by --precision bf16."),
        ("openvino", "fp16", "'openvino' can be exported in float32 and bf16 alone. Leave --precision out."),
        ("onnx", "bf16", "'onnx' can be exported in float32 alone. Leave --precision out."),
    ],
)
def test_an_export_in_another_precision_is_advised_where_its_format_has_that(
    form: str, precision: str, way_out: str, folder: ModelFolder
) -> None:
    described = Artefact(
        format=form,
        precision="float32",
        pixels=True,
        files={},
        details={},
        parent="",
        command="",
        created="",
        versions={},
        parity={},
    )
    exported = ExportedFolder(folder.path, folder.spec, described)
    with pytest.raises(SightlineError) as error:
        check_engine(exported, form, Settings(precision=precision))
    assert str(error.value).endswith(way_out)


@pytest.mark.slow
def test_an_onnx_export_is_run_by_openvino_too_and_a_program_compiled(folder: ModelFolder, photos: Path) -> None:
    from sightline.exporting import export

    for form, engine, pixels_in in (("onnx", "openvino", True), ("torch", "compiled", False)):
        exported = export(folder, form, data=photos, pixels=pixels_in, out=folder.path.with_name(form))
        assert engines_for(exported) == [form, engine]
        own, other = (Predictor(exported, engine=name) for name in (None, engine))
        assert farthest(own.logits(pixels(3)), other.logits(pixels(3))) <= FLOAT32.max_difference
        with pytest.raises(SightlineError, match="was exported in float32, and held to that"):
            Predictor(exported, precision="bf16")
        with pytest.raises(SightlineError, match=f"can't be run by 'channels_last'. It can by {form}, {engine}"):
            Predictor(exported, engine="channels_last")
