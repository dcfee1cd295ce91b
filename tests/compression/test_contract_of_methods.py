"""What every method of compression owes, whatever it does."""

import json
import pkgutil
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import sightline.compression
from sightline.compression import Method, compress
from sightline.compression.distill import Distill
from sightline.compression.prune import Prune
from sightline.compression.quantize import Quantize
from sightline.compression.sparsify import Sparsify
from sightline.errors import ModelError
from sightline.evaluation import evaluate
from sightline.exported_folder import ExportedFolder, open_folder
from sightline.exporting import export
from sightline.model_folder import ModelFolder
from sightline.prediction import Predictor

TEACHER = "the parent"
METHODS: dict[str, Method] = {
    "pruned": Prune(share=0.6, epochs=0),
    "pruned by what it costs, twice": Prune(share=0.6, importance="taylor", steps=2, epochs=1),
    "sparse": Sparsify(share=0.5, epochs=0),
    "2:4": Sparsify(pattern=(2, 4), epochs=1),
    "taught": Distill(teacher=TEACHER, epochs=1),
    "student": Distill(student="resnet20_b", epochs=1),
    "int8": Quantize(num_images=12),
    "int8 for ONNX Runtime": Quantize(engine="onnx", num_images=12),
    "int8, trained for it": Quantize(num_images=12, epochs=1),
    "int8 weights": Quantize(precision="int8_weights"),
    "fp16": Quantize(precision="fp16"),
}
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 3, 16, 16), np.uint8)
pytestmark = pytest.mark.xdist_group("contract of compression's methods")  # which makes the folders once
EVERY = pytest.mark.parametrize("name", METHODS)

IN_A_FRESH_PROCESS = """
import json, sys
import numpy as np
from sightline.prediction import Predictor
pixels = np.load(sys.argv[1])
json.dump({path: Predictor.open(path).logits(pixels).tolist() for path in sys.argv[2:]}, sys.stdout)
"""


@pytest.fixture(scope="module")
def before(parent: ModelFolder) -> dict[str, str]:
    return contents(parent.path)


@pytest.fixture(scope="module")
def made(
    parent: ModelFolder, before: dict[str, str], untimed: None, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, ModelFolder | ExportedFolder]:
    """By every method its folder, made after `before` was taken."""
    place, found = tmp_path_factory.mktemp("made"), dict[str, ModelFolder | ExportedFolder]()
    for number, (name, method) in enumerate(METHODS.items()):
        taught = isinstance(method, Distill) and method.teacher == TEACHER
        mine = replace(method, teacher=str(parent.path)) if taught else method
        found[name] = open_folder(compress(parent, [mine], out=place / str(number))[-1].path)
    return found


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_every_method_is_held_to_it() -> None:
    package = sightline.compression
    files = (import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__))
    assert {file.ENTRY for file in files} == {type(method) for method in METHODS.values()}


def test_the_original_is_untouched(
    parent: ModelFolder, before: dict[str, str], made: dict[str, ModelFolder | ExportedFolder]
) -> None:
    assert made.keys() == METHODS.keys()
    assert contents(parent.path) == before


@EVERY
def test_the_folder_names_its_parent_and_holds_nothing_that_runs(
    name: str, parent: ModelFolder, made: dict[str, ModelFolder | ExportedFolder]
) -> None:
    folder = made[name]
    of = folder.artefact.parent if isinstance(folder, ExportedFolder) else folder.spec.provenance.parent
    assert of == parent.spec.fingerprint
    kinds = {path.suffix for path in folder.path.rglob("*") if path.is_file()}
    assert kinds <= {".json", ".yaml", ".safetensors", ".onnx", ".data", ".xml", ".bin"}


def test_a_fresh_process_opens_the_folder_and_answers_alike(
    made: dict[str, ModelFolder | ExportedFolder], tmp_path: Path
) -> None:
    np.save(tmp_path / "pixels.npy", PIXELS)
    paths = [str(folder.path) for folder in made.values()]
    command = [sys.executable, "-c", IN_A_FRESH_PROCESS, str(tmp_path / "pixels.npy"), *paths]
    answered = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert list(answered) == paths
    for path in paths:
        np.testing.assert_allclose(answered[path], Predictor.open(path).logits(PIXELS), atol=1e-5, err_msg=path)


@EVERY
def test_evaluating_gives_the_figure_that_the_folder_states(
    name: str, made: dict[str, ModelFolder | ExportedFolder]
) -> None:
    folder = made[name]
    stated = folder.spec.figures["test"]["accuracy"]["value"]
    assert evaluate(folder, device="cpu", num_workers=0).to_json()["accuracy"]["value"] == stated
    row = json.loads((folder.path / "compression.json").read_text())["row"]
    assert row["accuracy"]["value"] == stated
    assert 0 <= row["paired"]["p_value"] <= 1


@EVERY
def test_it_exports_to_onnx_with_parity_or_says_why_not(
    name: str, made: dict[str, ModelFolder | ExportedFolder], tmp_path: Path
) -> None:
    folder = made[name]
    if isinstance(folder, ExportedFolder):  # it is an export itself, held to the model it was made of
        assert folder.artefact.parity["num_images"] > 0
        with pytest.raises(ModelError, match="holds an exported model, which only predicts"):
            export(folder.path, "onnx", out=tmp_path / "onnx")
        return
    exported = export(folder, "onnx", out=tmp_path / "onnx", num_images=12)
    assert exported.artefact.parity["disagreements"] == 0
