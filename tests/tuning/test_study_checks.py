from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from making import make_folder, make_photos

from sightline.data.audit import fingerprint
from sightline.data.inspection import inspect
from sightline.data.scan import scan
from sightline.errors import RecipeError, SightlineError
from sightline.recipe import Recipe
from sightline.studies import Study
from sightline.tuning import checks
from sightline.tuning.checks import check_arms, check_data, tell_of_splits
from sightline.tuning.jobs import Job
from sightline.tuning.runs import plan
from sightline.tuning.vary import factor_of, factor_of_arms


def jobs_of(folder: Path, *vary: str) -> list[Job]:
    factors = tuple(factor_of(text) for text in vary)
    return plan(Study(question="?", recipe=Recipe(), factors=factors), folder)


def test_different_arms_pass(tmp_path: Path) -> None:
    check_arms(jobs_of(tmp_path, "optim.lr=0.1,0.2", "epochs=3,4"))


@pytest.mark.parametrize("vary", [("optim.lr=0.1,1e-1",), ("optim.lr=0.1,0.2", "optim.lr=0.3,0.4")])
def test_arms_that_are_the_same_recipe_are_refused(tmp_path: Path, vary: tuple[str, ...]) -> None:
    with pytest.raises(RecipeError, match="are the same recipe"):
        check_arms(jobs_of(tmp_path, *vary))


def test_the_seed_is_no_factor(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"The arm '0' sets seed.*--repeats"):
        check_arms(jobs_of(tmp_path, "seed=0,1"))
    arms = factor_of_arms(["plain:", "other: optim.lr=0.1 seed=5"])
    with pytest.raises(RecipeError, match="The arm 'other' sets seed"):
        check_arms(plan(Study(question="?", recipe=Recipe(), factors=(arms,)), tmp_path))


def test_runs_on_other_images_are_refused(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = jobs_of(tmp_path, "optim.lr=0.1,0.2")
    jobs[0].folder.mkdir(parents=True)
    (jobs[0].folder / "model.json").touch()
    table = scan(photos)
    trained_on = fingerprint(table, inspect(table))

    def folder(_path: Path) -> Any:
        return SimpleNamespace(spec=SimpleNamespace(provenance=SimpleNamespace(data={"fingerprint": trained_on})))

    monkeypatch.setattr(checks.ModelFolder, "read", folder)
    check_data(jobs, photos)
    next(photos.rglob("*.*")).unlink()
    with pytest.raises(SightlineError, match=r"other images.*Choose another --out"):
        check_data(jobs, photos)


@pytest.mark.parametrize(
    "verb",
    [
        ["tune", "--search", "optim.lr=0.1,0.2"],
        ["study", "--vary", "optim.lr=0.1,0.2"],
        ["scale"],
        ["scale", "--among", "resnet20,resnet32", "--budget", "60M"],
    ],
)
@pytest.mark.parametrize("has_ended", [True, False])
def test_a_model_s_own_folder_takes_no_study_s_files(
    photos: Path, tmp_path: Path, verb: list[str], has_ended: bool, run_cli: Callable[..., tuple[int, str, str]]
) -> None:
    folder = tmp_path / "model"
    if has_ended:
        make_folder(folder)
    else:
        folder.mkdir()
        (folder / "recipe.yaml").touch()
    before = sorted(folder.iterdir())
    code, out, err = run_cli(verb[0], photos, *verb[1:], "--out", folder)
    assert (code, out) == (2, "")
    assert err == f"error: {str(folder)!r} is the folder of a model or a run. Choose another --out.\n"
    assert sorted(folder.iterdir()) == before


def test_seeds_that_divide_the_images_anew_are_told_of(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "sightline")
    tell_of_splits(jobs_of(tmp_path, "optim.lr=0.1,0.2"), photos)
    assert "has no test split of its own: each of the 3 seeds divides the images anew" in caplog.text
    caplog.clear()
    one = Study(question="?", recipe=Recipe(), factors=(factor_of("optim.lr=0.1,0.2"),), repeats=1)
    tell_of_splits(plan(one, tmp_path), photos)
    for name in ("train", "test"):
        make_photos(tmp_path / "split" / name, count=3)
    tell_of_splits(jobs_of(tmp_path, "optim.lr=0.1,0.2"), tmp_path / "split")
    assert caplog.text == ""
