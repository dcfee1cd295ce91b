"""Evaluating an export: the same figures, the same files, the same page."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from making import make_photos

from sightline import catalog
from sightline.errors import ModelError
from sightline.evaluation import evaluate, read_evaluation
from sightline.exported_folder import ExportedFolder
from sightline.exporting import export
from sightline.exporting.parity import read_parity
from sightline.formats import find_format
from sightline.model_folder import ModelFolder
from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.reports import write_report
from sightline.training import train

pytestmark = pytest.mark.xdist_group("formats")

SETTINGS = ["model.name=resnet20", "data.image_size=16", "data.resize=18", "data.num_workers=0", "epochs=1"]
FORMATS = [
    pytest.param(name, marks=[] if name == "torch" else [pytest.mark.slow])
    for name in catalog.names("sightline.formats")
    if importlib.util.find_spec(find_format(name).modules[0]) is not None
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    place = tmp_path_factory.mktemp("run")
    return train(override(Recipe(), SETTINGS), make_photos(place / "photos"), out=place / "run")


@pytest.fixture(scope="module")
def exports(trained: ModelFolder) -> Callable[[str], ExportedFolder]:
    made: dict[str, ExportedFolder] = {}

    def exported(name: str) -> ExportedFolder:
        if name not in made:
            made[name] = export(trained, name, pixels=True)
        return made[name]

    return exported


@pytest.mark.parametrize("name", FORMATS)
def test_a_trained_model_is_compared_on_its_own_validation_split(
    name: str, exports: Callable[[str], ExportedFolder], trained: ModelFolder
) -> None:
    parity = read_parity(exports(name))
    assert parity.num_images == trained.spec.figures["val"]["num_images"]
    assert parity.images.endswith("all there are in the validation split")
    assert parity.original_accuracy.value == trained.spec.figures["val"]["accuracy"]["value"]


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_has_its_model_s_figures_in_files_of_its_own(
    name: str, exports: Callable[[str], ExportedFolder], trained: ModelFolder
) -> None:
    folder = exports(name)
    found, expected = evaluate(folder.path), evaluate(trained.path)
    assert (found.num_images, found.accuracy) == (expected.num_images, expected.accuracy)
    assert found.calibrated.log_loss == pytest.approx(expected.calibrated.log_loss, abs=1e-5)
    again = ExportedFolder.read(folder.path)  # the fingerprint holds
    assert again.spec.figures["test"]["log_loss"] == found.calibrated.log_loss
    assert again.artefact == folder.artefact
    stored = read_evaluation(again, "test")
    assert stored is not None
    assert stored.accuracy == found.accuracy
    rows = [(place / "evaluation" / "test_predictions.csv").read_text() for place in (folder.path, trained.path)]
    assert [line.split(",")[:3] for line in rows[0].splitlines()] == [
        line.split(",")[:3] for line in rows[1].splitlines()
    ]


def test_the_page_of_an_export_tells_of_the_training_and_of_the_export(
    exports: Callable[[str], ExportedFolder], tmp_path: Path
) -> None:
    folder = exports("torch")
    evaluate(folder)
    page = write_report(ExportedFolder.read(folder.path)).read_text(encoding="utf-8")
    assert folder.path.name in page
    assert "epochs: 1" in page
    assert "float32" in page


def test_an_export_without_its_model_asks_for_the_data(
    exports: Callable[[str], ExportedFolder], trained: ModelFolder, tmp_path: Path
) -> None:
    alone = Path(shutil.copytree(exports("torch").path, tmp_path / "alone"))
    with pytest.raises(ModelError, match=r"which isn't there any more; name the DATA to use") as error:
        evaluate(alone)
    assert "\n" not in str(error.value)
    assert evaluate(alone, trained.spec.provenance.data["location"]).num_images == 36


def test_a_model_that_was_trained_again_is_not_taken_for_the_export_s(
    exports: Callable[[str], ExportedFolder], trained: ModelFolder, tmp_path: Path
) -> None:
    shutil.copytree(trained.path, tmp_path / "run")
    copy = ExportedFolder.read(shutil.copytree(exports("torch").path, tmp_path / "run-torch-pixels"))
    assert copy.model_folder().spec == trained.spec
    other = replace(trained.spec, classes=("a", "b", "c"))
    content = json.loads((trained.path / "model.json").read_text())
    content["spec"]["classes"] = list(other.classes)
    content["fingerprint"] = other.fingerprint
    (tmp_path / "run" / "model.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="is another than"):
        copy.model_folder()
