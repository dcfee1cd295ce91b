import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from sightline.cli.models import models
from sightline.errors import ModelError
from sightline.model_list import ListedModel, _all_models, _fingerprint, list_models
from sightline.models import variants
from sightline.summary import OPTIMIZER_STATES

_app = typer.Typer()
_app.command()(models)


def _printed(*arguments: str, columns: int = 200) -> str:
    result = CliRunner().invoke(_app, list(arguments), env={"COLUMNS": str(columns)}, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def _names(*arguments: str) -> list[str]:
    return [row["name"] for row in json.loads(_printed("--json", *arguments))]


def test_every_architecture_is_listed_with_its_figures() -> None:
    rows = {row["name"]: row for row in json.loads(_printed("--json"))}
    assert rows.keys() == variants().keys()
    assert rows["resnet50"] == {
        "name": "resnet50",
        "title": "Deep Residual Learning for Image Recognition",
        "paper": "https://arxiv.org/abs/1512.03385",
        "year": 2015,
        "params": 25_557_032,
        "macs": 4_089_000_000,
        "image_size": 224,
        "num_classes": 1000,
        "top1": 76.13,
        "source": "torchvision IMAGENET1K_V1, its table of models",
    }
    assert all(row["macs"] > 0 for row in rows.values())


def test_the_list_is_filtered_and_sorted() -> None:
    assert _names("--filter", "Swin", "--sort", "params") == ["swin_t", "swin_s", "swin_b", "swin_l"]
    assert _names("--filter", "vgg1", "--sort", "name")[0] == "vgg11"
    by_accuracy = list_models("resnet", "top1")
    assert by_accuracy[0].top1 is None
    assert by_accuracy[-1].top1 == max(row.top1 or 0 for row in by_accuracy)


def test_the_table_numbers_its_sources() -> None:
    lines = _printed("--filter", "resnet50").splitlines()
    assert lines[0].split() == ["name", "year", "pixels", "parameters", "MACs", "top-1", "source", "paper"]
    assert lines[1].split()[:5] == ["resnet50", "2015", "224", "25,557,032", "4,089"]
    assert lines[-1] == "  [1] torchvision IMAGENET1K_V1, its table of models"


def test_names_stay_whole_on_a_narrow_terminal() -> None:
    lines = _printed("--filter", "densenet_bc", columns=80).splitlines()
    assert lines[0].split()[-1] == "source"
    assert lines[1].split()[0] == "densenet_bc_100_12"
    assert max(len(line) for line in lines[:2]) <= 80


def test_one_architecture_is_shown_layer_by_layer() -> None:
    text = _printed("resnet50", "--image-size", "32", "--num-classes", "10")
    assert "At 32 pixels: a 3x3 stem of stride 1 without max pool replaces the 7x7 stem." in text
    rows = [line.split() for line in text.splitlines()]
    assert ["conv1", "Conv2d", "64x32x32", "1,728", "1,769,472", "0"] in rows
    assert "23,520,842 parameters" in text
    assert "Training takes about" in text
    assert "(32 images, adamw, float32)" in text


def test_auxiliary_classifiers_are_trained_but_not_counted() -> None:
    found = json.loads(_printed("googlenet", "--json"))
    assert found["params"] == 6_624_904
    assert found["training_memory"]["gradients"] == 4 * 13_004_888


def test_training_memory_follows_the_options() -> None:
    def total(*options: str) -> int:
        return json.loads(_printed("resnet20", "--json", *options))["training_memory"]["total"]

    assert total("--batch-size", "64") > total("--batch-size", "32") > total("--optimizer", "sgd")
    assert total("--batch-size", "64") > total("--batch-size", "64", "--precision", "bf16")


def test_mistakes_are_one_clear_sentence() -> None:
    with pytest.raises(ModelError, match=r"Unknown column to sort by 'parms'\. Did you mean 'params'"):
        _printed("--sort", "parms")
    with pytest.raises(ModelError, match="No architecture's name contains 'xyz'"):
        _printed("--filter", "xyz")
    with pytest.raises(ModelError, match="Did you mean 'resnet50'"):
        _printed("resnet505")


def test_the_help_names_every_optimiser() -> None:
    said = _printed("--help").replace(",", " ").split()
    assert OPTIMIZER_STATES.keys() <= set(said)


def test_a_listing_from_the_cache_is_the_one_made_anew_and_needs_no_torch() -> None:
    made = list_models()
    code = (
        "import json, sys; from dataclasses import asdict; from sightline.model_list import list_models; "
        "print(json.dumps([[asdict(row) for row in list_models()], 'torch' in sys.modules]))"
    )
    rows, took_torch = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
    assert [ListedModel(**row) for row in rows] == made
    assert not took_torch


@pytest.mark.parametrize("content", ["", "[{}]", "[1]", "{", "null"])
def test_a_damaged_listing_in_the_cache_is_made_anew(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path))
    monkeypatch.setattr("sightline.models.variants", lambda: {"resnet20": variants()["resnet20"]})
    (tmp_path / "models").mkdir()
    file = tmp_path / "models" / f"{_fingerprint()}.json"
    file.write_text(content)
    _all_models.cache_clear()
    assert [row.name for row in list_models()] == ["resnet20"]
    assert len(json.loads(file.read_text())) == 1
    _all_models.cache_clear()


def test_a_listing_that_can_t_be_kept_is_shown_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_file").write_text("")
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "a_file"))
    monkeypatch.setattr("sightline.models.variants", lambda: {"resnet20": variants()["resnet20"]})
    _all_models.cache_clear()
    assert [row.name for row in list_models()] == ["resnet20"]
    _all_models.cache_clear()
