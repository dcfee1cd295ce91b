"""`sightline export`: what is printed, what is left on the disk, and what is refused."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from making import make_folder, make_photos

from sightline import catalog
from sightline.exporting.graph import PixelsToProbabilities
from sightline.formats import REFUSED, Format, Graph
from sightline.formats.torch import ENTRY
from sightline.model_folder import ModelFolder

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def model(tmp_path: Path) -> ModelFolder:
    return make_folder(tmp_path / "model")


def test_the_report_is_printed_and_the_folder_named_after_the_model(
    model: ModelFolder, photos: Path, tmp_path: Path, run_cli: Cli
) -> None:
    code, out, _ = run_cli("export", model.path, "torch", "--data", photos, "--images", "20")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == f"compared on      20 images of the 36 in '{photos}'"
    assert [line.split("  ")[0] for line in lines[1:5]] == [
        "logits differ", "by batch size", "same answer", "accuracy",
    ]  # fmt: skip
    assert lines[-1].startswith(f"exported         {tmp_path / 'model-torch'}  model.pt2, ")
    first = sorted(path.name for path in (tmp_path / "model-torch").iterdir())
    assert first == ["model.json", "model.pt2"]
    code, _, _ = run_cli("export", model.path, "torch", "--data", photos)
    assert code == 0  # an older export is replaced
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model-torch", "photos"]
    code, out, _ = run_cli("predict", tmp_path / "model-torch", photos / "red", "--top-k", "1")
    assert (code, len(out.splitlines())) == (0, 12)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["onx"], "Unknown format 'onx'. Did you mean 'onnx'? `sightline export --help` lists them all."),
        (["coreml"], "Sightline can't export to 'coreml': Core ML runs on Apple's systems alone"),
        (["onnx", "--precision", "bf16"], "The format 'onnx' has no precision 'bf16'. It has: float32."),
        (["torch"], "has no splits.json that can be read; name the DATA to use"),
        (["torch", "--data", "nowhere"], "nowhere"),
        (["torch", "--out", "{model}"], "exists and is no exported model. Name another folder by --out"),
    ],
)
def test_a_user_s_mistake_is_one_line_and_leaves_nothing(
    arguments: list[str], sentence: str, model: ModelFolder, tmp_path: Path, run_cli: Cli
) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run_cli("export", model.path, *(word.format(model=model.path) for word in arguments))
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_no_format_and_has_a_reason(name: str, model: ModelFolder, run_cli: Cli) -> None:
    code, _, err = run_cli("export", model.path, name)
    assert code == 2
    assert REFUSED[name] in err
    assert name not in catalog.names("sightline.formats")


def test_a_missing_package_is_named_with_its_install_command(
    model: ModelFolder, monkeypatch: pytest.MonkeyPatch, run_cli: Cli
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, _, err = run_cli("export", model.path, "onnx")
    assert code == 2
    assert 'pip install "sightline[train,onnx]"' in err


def _unconvertible(_graph: Graph, _folder: Path) -> dict[str, Any]:
    raise AssertionError("the conversion began")


def test_images_are_found_before_the_conversion_and_hold_no_export(
    model: ModelFolder, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Cli
) -> None:
    _substitute(monkeypatch, _unconvertible)
    code, _, err = run_cli("export", model.path, "torch", "--data", tmp_path / "nowhere")
    assert (code, "nowhere" in err) == (2, True)
    code, _, err = run_cli("export", model.path, "torch", "--data", photos, "--out", photos / "export")
    assert code == 2
    assert "lies inside the images' own folder" in err


def test_an_export_never_goes_among_the_images_its_model_learned_from_whatever_it_is_compared_on(
    photos: Path, tmp_path: Path, run_cli: Cli
) -> None:
    own = make_photos(tmp_path / "own")
    made = make_folder(tmp_path / "model")
    provenance = replace(made.spec.provenance, data={"location": str(own)})
    model = ModelFolder.write(made.path, replace(made.spec, provenance=provenance), made.model().state_dict())
    code, _, err = run_cli("export", model.path, "torch", "--data", photos, "--out", own / "export")
    assert (code, "lies inside the images' own folder" in err) == (2, True)
    assert not (own / "export").exists()


def _substitute(monkeypatch: pytest.MonkeyPatch, write: Callable[[Graph, Path], dict[str, Any]]) -> None:
    broken: Format = replace(ENTRY, write=write)
    monkeypatch.setattr(catalog, "entry", lambda *_: broken)


def _wrong_mean(graph: Graph, folder: Path) -> dict[str, Any]:
    assert isinstance(graph.module, PixelsToProbabilities)
    with torch.no_grad():
        graph.module.mean += 13  # of 255: a twentieth of the range
    return ENTRY.write(graph, folder)


def test_a_wrong_normalisation_fails_the_export_and_leaves_nothing(
    model: ModelFolder, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Cli
) -> None:
    _substitute(monkeypatch, _wrong_mean)
    code, out, err = run_cli("export", model.path, "torch", "--pixels", "--data", photos)
    assert (code, out) == (2, "")
    assert err.startswith(
        "error: The export to torch in float32 was discarded, since it doesn't give the model's answers: logits differ"
    )
    assert len(err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "photos"]


def _killed(_graph: Graph, folder: Path) -> dict[str, Any]:
    (folder / "model.pt2").write_bytes(b"half")
    raise KeyboardInterrupt


def test_stopping_halfway_keeps_the_older_export(
    model: ModelFolder, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Cli
) -> None:
    run_cli("export", model.path, "torch", "--data", photos)
    older = (tmp_path / "model-torch" / "model.json").read_bytes()
    _substitute(monkeypatch, _killed)
    code, _, _ = run_cli("export", model.path, "torch", "--data", photos)
    assert code == 130
    assert (tmp_path / "model-torch" / "model.json").read_bytes() == older
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model-torch", "photos"]


def test_a_model_whose_logits_are_all_alike_is_refused(
    model: ModelFolder, photos: Path, tmp_path: Path, run_cli: Cli
) -> None:
    zeros = {name: torch.zeros_like(tensor) for name, tensor in model.model().state_dict().items()}
    ModelFolder.write(model.path, model.spec, zeros)
    code, _, err = run_cli("export", model.path, "torch", "--data", photos)
    assert code == 2
    assert "gives every class the same logit" in err
    assert not (tmp_path / "model-torch").exists()


@pytest.mark.slow
def test_a_trained_model_is_compared_on_its_own_validation_split(tmp_path: Path, run_cli: Cli) -> None:
    from sightline.recipe import Recipe
    from sightline.recipe_text import override
    from sightline.training import train

    settings = ["model.name=resnet20", "data.image_size=16", "data.resize=18", "data.num_workers=0", "epochs=1"]
    folder = train(override(Recipe(), settings), make_photos(tmp_path / "photos"), out=tmp_path / "run")
    code, out, _ = run_cli("export", folder.path, "onnx", "--pixels")
    assert code == 0
    assert "all there are in the validation split" in out.splitlines()[0]
    before = run_cli("predict", folder.path, tmp_path / "photos")[1]
    assert run_cli("predict", tmp_path / "run-onnx-pixels", tmp_path / "photos")[1] == before
