"""Which of a folder's own figures a bench shows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from making import make_folder

from sightline.benchmarking.accuracy import stated
from sightline.exported_folder import Artefact, ExportedFolder


def measured(value: float) -> dict[str, Any]:
    return {"num_images": 9, "accuracy": {"value": value, "low": 0.1, "high": 1.0}}


def exported(place: Path, precision: str, figures: dict[str, Any]) -> ExportedFolder:
    """An export whose comparison found 0.889 on other images."""
    spec = replace(make_folder(place).spec, figures=figures)
    parity = {"exported_accuracy": {"value": 0.889, "low": 0.1, "high": 1.0}, "images": "5 images"}
    artefact = Artefact(
        format="openvino",
        precision=precision,
        pixels=False,
        files={},
        details={},
        parent="",
        command="",
        created="",
        versions={},
        parity=parity,
    )
    return ExportedFolder(place, spec, artefact)


def test_an_export_and_its_model_are_shown_on_the_same_test_images(tmp_path: Path) -> None:
    model = make_folder(tmp_path / "model").with_figures({"test": measured(0.667), "val": measured(0.5)})
    small = exported(tmp_path / "small", "int8", {"test": measured(0.778)})
    ours, theirs = stated(model, "float32"), stated(small, "int8")
    assert ours is not None
    assert theirs is not None
    assert (ours.value, theirs.value) == (0.667, 0.778)
    assert ours.said == theirs.said == "9 images of the test split of 'digits'"
    assert stated(model, "bf16") is None


def test_an_export_without_figures_of_its_own_has_those_of_its_comparison(tmp_path: Path) -> None:
    found = stated(exported(tmp_path / "small", "int8", {}), "int8")
    assert found is not None
    assert (found.value, found.said) == (0.889, "5 images")
    foreign = exported(tmp_path / "foreign", "float32", {})
    assert stated(replace(foreign, artefact=replace(foreign.artefact, parity={})), "float32") is None


@pytest.mark.parametrize(("evaluated", "value"), [(False, 0.889), (True, 0.778)])
def test_an_export_in_bf16_shows_no_figures_of_its_model_s(evaluated: bool, value: float, tmp_path: Path) -> None:
    folder = exported(tmp_path / "small", "bf16", {"test": measured(0.778)})
    if evaluated:
        (folder.path / "evaluation").mkdir()
        (folder.path / "evaluation" / "test.json").write_text("{}")
    found = stated(folder, "bf16")
    assert found is not None
    assert found.value == value
