"""The table of a chain and of a sweep, and its page."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from making import make_photos

from sightline.compression import compress
from sightline.compression.quantize import Quantize
from sightline.model_folder import ModelFolder


def test_a_chain_leaves_its_table_and_its_page_and_a_step_that_was_taken_away_is_made_again(
    run_cli: Callable[..., tuple[int, str, str]], parent: ModelFolder, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    out = tmp_path / "out"
    call = ("compress", parent.path, "--quantize", "fp16", "--out", out)
    code, printed, said = run_cli(*call)
    assert code == 0, said
    assert f"report  {out / 'compress.html'}" in printed
    table = json.loads((out / "compress.json").read_text(encoding="utf-8"))
    assert (table["kind"], table["fingerprint"], table["seen"]) == ("chain", parent.spec.fingerprint, 0)
    assert [row["name"] for row in table["rows"]] == ["as it was", "1-quantize"]
    assert all(Path(row["path"]).is_absolute() and row["seconds"] > 0 for row in table["rows"])
    assert table["settings"]["1-quantize"][0]["settings"]["precision"] == "fp16"

    request.getfixturevalue("untimed_here")
    shutil.rmtree(out / "1-quantize")
    code, _, said = run_cli(*call)
    assert code == 0, said
    assert (out / "1-quantize" / "model.json").exists()

    compress(parent, [Quantize(precision="fp16")], out=out)
    assert not (out / "compress.html").exists()  # of another table


def test_a_table_of_someone_elses_is_not_written_over(
    run_cli: Callable[..., tuple[int, str, str]], parent: ModelFolder, tmp_path: Path
) -> None:
    (tmp_path / "compress.json").write_text('["hers"]')
    code, _, said = run_cli("compress", parent.path, "--quantize", "fp16", "--out", tmp_path)
    assert (code, "holds something else" in said) == (2, True), said
    assert (tmp_path / "compress.json").read_text() == '["hers"]'


@pytest.mark.usefixtures("untimed_here")
def test_images_that_the_model_was_trained_on_are_told_of(
    run_cli: Callable[..., tuple[int, str, str]], parent: ModelFolder, tmp_path: Path
) -> None:
    photos = make_photos(tmp_path / "photos")  # the model's own
    stored = json.loads((parent.path / "splits.json").read_text(encoding="utf-8"))
    for path in stored["test"]:
        (photos / path).unlink()
    out = tmp_path / "out"
    code, _, said = run_cli("compress", parent.path, photos, "--quantize", "fp16", "--out", out)
    assert code == 0, said
    seen = json.loads((out / "compress.json").read_text(encoding="utf-8"))["seen"]
    assert seen > 0
    assert f"{seen} of the" in said
    assert f"{seen} of the test images are ones" in (out / "compress.html").read_text(encoding="utf-8")
