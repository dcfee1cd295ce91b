"""What a page is made from is looked at before figures are measured for it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from making import make_folder

from sightline.errors import ModelError
from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.reports import check_stored
from sightline.training import train

Cli = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("audit.json", "", "Expecting value: line 1 column 1"),
        ("audit.json", "{", "Expecting property name"),
        ("audit.json", "[]", "it holds no values by name"),
        ("splits.json", "5", "it holds no values by name"),
        ("metrics.csv", "epoch\nfirst\n", "could not convert string to float: 'first'"),
    ],
)
def test_a_damaged_file_beside_a_model_is_one_sentence_before_the_work(
    name: str, content: str, why: str, tmp_path: Path, run_cli: Cli
) -> None:
    folder = make_folder(tmp_path / "model")
    (folder.path / name).write_text(content)
    code, out, err = run_cli("evaluate", folder.path)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {str(folder.path / name)!r} is damaged: {why}")
    assert err.count("\n") == 1


def test_a_folder_without_these_files_is_fine_and_damaged_figures_may_be_measured_anew(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    check_stored(folder, measured="test")
    (folder.path / "evaluation").mkdir()
    (folder.path / "evaluation" / "val.json").write_text("{")
    check_stored(folder, measured="val")
    with pytest.raises(ModelError, match="val.json' can't be read"):
        check_stored(folder, measured="test")


def test_the_figures_of_another_split_are_printed_where_there_are_none_to_make_a_page_of(
    photos: Path, tmp_path: Path, run_cli: Cli
) -> None:
    settings = ["model.name=resnet20", "data.image_size=16", "data.resize=18", "data.num_workers=0", "epochs=1"]
    folder = train(override(Recipe(), [*settings, "batch_size=12"]), photos, out=tmp_path / "trial", measure=("val",))
    code, out, err = run_cli("evaluate", folder.path, "--split", "val")
    assert (code, "error" in err) == (0, False), err
    assert "accuracy  " in out
    assert out.endswith(f"`sightline evaluate {folder.path}` measures.\n")
    assert not (folder.path / "report.html").exists()
