"""The runs of a study: their folders, and how they are computed from one call to the next."""

from dataclasses import replace
from pathlib import Path

import pytest

from sightline.errors import RecipeError, SightlineError
from sightline.files import write_text
from sightline.recipe import Recipe
from sightline.recipe_text import override, to_yaml
from sightline.studies import Arm, Study
from sightline.training import fastest
from sightline.tuning.jobs import Job
from sightline.tuning.runs import check_jobs, plan, run_all, settled
from sightline.tuning.vary import factor_of, factor_of_arms

RECIPE = override(Recipe(), ["model.name=resnet20", "data.image_size=16", "train.fast=auto", "train.device=cpu"])
BF16 = fastest.Candidate(precision="bf16", channels_last=True)
FLOAT32 = fastest.Candidate(precision="float32", channels_last=False)


def jobs_of(folder: Path, *vary: str, recipe: Recipe = RECIPE) -> list[Job]:
    return plan(Study(question="?", recipe=recipe, factors=tuple(map(factor_of, vary)), repeats=2), folder)


def computed(recipe: Recipe, how: fastest.Candidate) -> Recipe:
    """With train.fast settled so."""
    chosen = {"precision": how.precision, "channels_last": how.channels_last}
    return override(recipe, ["train.fast=off", *(f"train.{name}={value}".lower() for name, value in chosen.items())])


def begin(job: Job, how: fastest.Candidate = BF16) -> None:
    """What a run leaves that has begun."""
    write_text(job.folder / "recipe.yaml", to_yaml(computed(job.recipe, how)))


def folders(jobs: list[Job]) -> dict[tuple[tuple[str, ...], int], Path]:
    return {(job.arm.settings, job.seed): job.folder for job in jobs}


def test_a_run_keeps_its_folder_when_values_join_in_any_place(tmp_path: Path) -> None:
    before = folders(jobs_of(tmp_path, "optim.lr=0.1,0.3", "epochs=3,5"))
    after = folders(jobs_of(tmp_path, "optim.lr=0.05,0.1,0.2,0.3", "epochs=3,4,5"))
    assert before.items() <= after.items()
    assert len(set(after.values())) == len(after) == 4 * 3 * 2


def test_arms_whose_names_no_folder_can_have_are_told_apart(tmp_path: Path) -> None:
    names = ["1-2", "1 2", "1/2", "-1-2", "é", "è", "..", "x" * 90, "x" * 91]
    arms = factor_of_arms([f"{name}: epochs={number}" for number, name in enumerate(names, 1)])
    jobs = plan(Study(question="?", recipe=RECIPE, factors=(arms,), repeats=1), tmp_path)
    assert len({job.folder for job in jobs}) == len(names)
    assert {job.folder.parent.parent for job in jobs} == {tmp_path / "runs"}
    assert jobs[0].folder == tmp_path / "runs" / "1-2" / "seed-0"


@pytest.mark.parametrize("setting", ["train.ema_decay=0.9", "train.watch_gradients=true", "optim.lr=0.5"])
def test_another_recipe_is_noticed_where_the_way_to_compute_was_settled(setting: str, tmp_path: Path) -> None:
    arms = "model.activation=relu,gelu"
    begin(jobs_of(tmp_path, arms)[0])
    check_jobs(jobs_of(tmp_path, arms))
    with pytest.raises(SightlineError, match="holds a run with another recipe"):
        check_jobs(jobs_of(tmp_path, arms, recipe=override(RECIPE, [setting])))


def test_what_never_changes_a_result_may_differ(tmp_path: Path) -> None:
    arms = "model.activation=relu,gelu"
    begin(jobs_of(tmp_path, arms)[0])
    free = ["data.num_workers=3", "data.cache=false", "train.checkpoint_minutes=1"]
    check_jobs(jobs_of(tmp_path, arms, recipe=override(RECIPE, free)))


def test_runs_are_computed_as_those_that_were_begun_whatever_is_fastest_today(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastest, "resolved", lambda recipe: computed(recipe, FLOAT32))
    jobs = jobs_of(tmp_path, "model.name=resnet20,resnet32", "optim.lr=0.1,0.2")
    begin(jobs[1])
    found = settled(jobs)
    assert [job.recipe for job in found] == [
        computed(job.recipe, BF16 if job.recipe.model.name == "resnet20" else FLOAT32) for job in jobs
    ]


def test_a_run_that_was_begun_goes_on_as_it_was_even_beside_others(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, "optim.lr=0.1,0.2")
    begin(jobs[0], BF16)
    begin(jobs[1], FLOAT32)
    assert [job.recipe.train.precision for job in settled(jobs)] == ["bf16", "float32", "bf16", "bf16"]


def test_a_network_is_tried_once_for_all_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Recipe] = []
    monkeypatch.setattr(fastest, "resolved", lambda recipe: tried.append(recipe) or computed(recipe, BF16))
    found = settled(jobs_of(tmp_path, "optim.lr=0.1,0.2"))
    assert len(tried) == 1
    assert {job.recipe.train.precision for job in found} == {"bf16"}


def test_what_the_user_chose_and_what_takes_no_step_are_left_as_they_are(tmp_path: Path) -> None:
    plain = jobs_of(tmp_path, "optim.lr=0.1,0.2", recipe=replace(RECIPE, train=computed(RECIPE, BF16).train))
    probes = [Job(arm=Arm(labels=("probe",), settings=()), seed=0, recipe=probe(), folder=tmp_path / "probe")]
    begin(plain[0], FLOAT32)
    assert settled([*plain, *probes]) == [*plain, *probes]


def test_a_recipe_may_hold_what_has_no_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weighted = override(RECIPE, ["loss.class_weights={blue: 2.0}"])
    monkeypatch.setattr(fastest, "resolved", lambda recipe: computed(recipe, BF16))
    jobs = settled(jobs_of(tmp_path, "optim.lr=0.1,0.2", recipe=weighted))
    assert len(set(jobs)) == len(jobs) == 4
    assert jobs[0] != replace(jobs[0], recipe=RECIPE)


def probe() -> Recipe:
    return override(RECIPE, ["finetune.probe=true", "model.pretrained=weights.safetensors"])


def test_no_run_begins_where_it_can_t_be_computed_as_the_others_were(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, "optim.lr=0.1,0.3")
    begin(jobs[0], fastest.Candidate(precision="fp16", channels_last=False))
    with pytest.raises(RecipeError, match=r"^train\.precision 'fp16' needs a GPU\. The others were computed so"):
        run_all(settled(jobs), tmp_path / "nowhere", side_by_side=1, threads=None)
