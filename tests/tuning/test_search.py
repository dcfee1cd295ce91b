"""A search survives kills, is shared by processes, and leaves a recipe: real trainings on tiny images."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sightline.errors import RecipeError, SightlineError
from sightline.files import write_text
from sightline.recipe import DataConfig, ModelConfig, OptimConfig, Recipe
from sightline.recipe_text import from_yaml, override, to_yaml
from sightline.reports.search import write_search_report
from sightline.tuning.search import _can_be_confirmed, _fill, tune
from sightline.tuning.searches import Search, SearchResult, TrialFigures
from sightline.tuning.space import space_of
from sightline.tuning.trials import Trials

RECIPE = Recipe(
    epochs=2,
    batch_size=8,
    model=ModelConfig(name="resnet20"),
    data=DataConfig(image_size=16, resize=16, num_workers=0),
    optim=OptimConfig(name="sgd", lr=1e-2),
)
SPACE = "optim.lr=log:1e-3..1 optim.nesterov=true,false"
POSTGRESQL = os.environ.get("SIGHTLINE_POSTGRESQL", "")
"""An empty database of a server that runs; without one, that test is skipped."""


FIGURES = {"number": 1, "state": "complete", "settings": ("optim.lr=1",), "value": 0.5, "epochs": 2, "seconds": 1.0}


def search(trials: int = 3) -> Search:
    return Search(recipe=RECIPE, space=space_of([SPACE], RECIPE), trials=trials, prune=False)


def numbers(result: SearchResult) -> list[int]:
    return [trial.number for trial in result.trials]


@pytest.mark.parametrize(("field", "value"), [("trials", 0), ("hours", 0.0)])
def test_a_search_of_nothing_is_refused(field: str, value: float) -> None:
    with pytest.raises(RecipeError, match=f"--{field}"):
        Search(recipe=RECIPE, space=(), **{field: value})  # pyright: ignore[reportArgumentType]


def test_an_out_folder_inside_the_images_is_refused(photos: Path) -> None:
    with pytest.raises(SightlineError, match="inside the images' own folder"):
        tune(search(), photos, out=photos / "tuned")
    assert not (photos / "tuned").exists()


def test_a_journal_that_is_none_is_one_line(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "trials.db").write_bytes(b"no journal at all" * 100)
    with pytest.raises(SightlineError, match="trials.db' can't be opened: .+ Choose another --out.") as error:
        tune(search(), photos, out=tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_whose_name_would_cut_the_journal_s_address_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="leave the question mark out"):
        tune(search(), photos, out=tmp_path / "a?b")
    assert not (tmp_path / "a").exists()


def test_a_folder_that_can_t_be_made_is_one_line(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SightlineError, match="Could not write .+file"):
        tune(search(), photos, out=tmp_path / "file" / "search")


@pytest.mark.slow
def test_the_best_trial_becomes_a_recipe_and_a_longer_search_goes_on(photos: Path, tmp_path: Path) -> None:
    first = tune(search(2), photos, out=tmp_path / "t", confirm=0)
    assert numbers(first) == [0, 1]
    assert first.trials[0].settings == ("optim.lr=0.01", "optim.nesterov=false")  # the recipe's own
    again = tune(search(3), photos, out=tmp_path / "t", confirm=0)
    assert again.trials[:2] == first.trials
    assert all(trial.state == "complete" and trial.epochs == 2 for trial in again.trials)
    assert again.best is not None
    best = from_yaml((tmp_path / "t" / "best.yaml").read_text())
    assert best == override(RECIPE, again.best.settings)
    with pytest.raises(SightlineError, match="holds a search with another space. Choose"):
        tune(Search(recipe=RECIPE, space=space_of(["optim.lr=1e-3..1"], RECIPE)), photos, out=tmp_path / "t")
    next((photos / "red").iterdir()).unlink()
    with pytest.raises(SightlineError, match="holds a search with other images. Choose"):
        tune(search(4), photos, out=tmp_path / "t")


def test_a_storage_that_is_none_is_refused(photos: Path, tmp_path: Path) -> None:
    nowhere = replace(search(), storage="somewhere")
    with pytest.raises(RecipeError, match="--storage takes journal:PATH or a database's address .+ got 'somewhere'"):
        tune(nowhere, photos, out=tmp_path / "t")


@pytest.mark.parametrize("address", ["journal:{}/no/such/folder.log", "sqlite:////no/such/folder/trials.db"])
def test_a_storage_that_can_t_be_reached_is_one_line(photos: Path, tmp_path: Path, address: str) -> None:
    unreachable = replace(search(), storage=address.format(tmp_path))
    with pytest.raises(SightlineError, match="no/such/folder") as error:
        tune(unreachable, photos, out=tmp_path / "t")
    assert "\n" not in str(error.value)


def test_a_database_s_password_is_not_shown(photos: Path, tmp_path: Path) -> None:
    secret = replace(search(), storage="mysql://someone:se:c@ret@nowhere/name")
    with pytest.raises(SightlineError, match=r"'mysql://someone:\*\*\*@nowhere/name' can't be opened") as error:
        tune(secret, photos, out=tmp_path / "t")
    assert "ret" not in str(error.value)


def known_by(recipe: Recipe) -> dict[str, object]:
    return {"recipe": to_yaml(recipe), "space": [], "images": "", "second aim": None, "engine": None}


@contextmanager
def opened(searched: Search, folder: Path) -> Generator[Trials]:
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    found = Trials(searched, folder, "photos", known_by=known_by(searched.recipe))
    yield found
    for _, lock in found._mine.values():
        lock.close()


def test_where_the_recipe_s_own_values_win_there_is_nothing_to_confirm(photos: Path, tmp_path: Path) -> None:
    result = tune(search(1), photos, out=tmp_path / "t", confirm=1)
    assert result.recipe_is_best
    assert result.confirmed is None
    assert "no trial beat what there was" in write_search_report(tmp_path / "t").read_text()


def test_what_the_recipe_left_to_null_is_its_own_value_too(photos: Path, tmp_path: Path) -> None:
    searched = Search(recipe=RECIPE, space=space_of(["model.width=0.5..2"], RECIPE), trials=1)
    result = tune(searched, photos, out=tmp_path / "t", confirm=1)
    assert result.trials[0].settings == ("model.width=1",)
    assert result.recipe_is_best
    assert result.confirmed is None


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (["optim.name=sgd"], "optim.name=adamw,muon optim.nesterov=true,false"),
        (["data.repeats=2", "augment=[flip]"], "batch_size=8..24"),
    ],
)
def test_settings_that_contradict_each_other_fail_their_trial_alone(
    settings: list[str], text: str, tmp_path: Path
) -> None:
    recipe = override(RECIPE, settings)
    searched = Search(recipe=recipe, space=space_of([text], recipe), trials=12, sampler="random")
    with opened(searched, tmp_path / "t") as trials_of:
        jobs = list(iter(lambda: trials_of.next(may_begin=True), None))
        found = trials_of.result().trials
    failed = [trial for trial in found if trial.state == "failed"]
    assert len(found) == 12
    assert 0 < len(failed) == 12 - len(jobs) < 12
    assert all(trial.reason for trial in failed)
    with opened(searched, tmp_path / "t") as again:
        assert [trial.state for trial in again.result().trials] == [trial.state for trial in found]


def test_numbers_to_choose_from_reach_a_trial_as_they_were_typed(tmp_path: Path) -> None:
    recipe = override(RECIPE, ["batch_size=8"])
    searched = Search(recipe=recipe, space=space_of(["batch_size=16,4,8"], recipe), trials=9, sampler="random")
    with opened(searched, tmp_path / "t") as trials_of:
        jobs = list(iter(lambda: trials_of.next(may_begin=True), None))
        assert [trial.settings for trial in trials_of.result().trials] == [job.arm.settings for job in jobs]
    assert jobs[0].recipe == recipe
    assert {job.recipe.batch_size for job in jobs} == {4, 8, 16}


def test_a_trial_is_compared_at_the_epochs_it_was_promoted_at_however_many_have_ended_since(tmp_path: Path) -> None:
    recipe = override(RECIPE, ["epochs=18"])
    searched = Search(recipe=recipe, space=space_of([SPACE], recipe), trials=5, sampler="random")
    with opened(searched, tmp_path / "t") as trials_of:
        jobs = list(iter(lambda: trials_of.next(may_begin=True), None))
        write_curve(jobs[0].folder, [0.1 * epoch for epoch in range(1, 9)])  # ended between two looks
        assert not trials_of.report(jobs[0])
        write_curve(jobs[1].folder, [0.25, 0.3])
        assert not trials_of.report(jobs[1])  # 0.3 after two epochs, where the first had 0.2
        write_curve(jobs[2].folder, [0.1, 0.15, 0.9])
        assert trials_of.report(jobs[2])  # worst after two epochs, whatever came then
        write_curve(jobs[3].folder, [0.01] * 18)
        assert not trials_of.report(jobs[3])  # it has ended
        write_curve(jobs[4].folder, [0.35])
        assert not trials_of.report(jobs[4])  # two epochs are the least


def write_curve(folder: Path, accuracies: list[float]) -> None:
    """What a run leaves that has ended so many epochs."""
    rows = [f"{epoch},{accuracy}" for epoch, accuracy in enumerate(accuracies, 1)]
    write_text(folder / "metrics.csv", "\n".join(["epoch,val_accuracy", *rows]))


def test_runs_of_another_search_are_not_taken_for_this_one_s(photos: Path, tmp_path: Path) -> None:
    tune(search(1), photos, out=tmp_path / "t", confirm=0)
    (tmp_path / "t" / "trials.db").unlink()
    with pytest.raises(SightlineError, match=r"holds runs that .*trials\.db' knows nothing of \('trial-0000'\)"):
        tune(search(1), photos, out=tmp_path / "t", confirm=0)


def test_how_to_compute_is_settled_once_for_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched = replace(search(), recipe=override(RECIPE, ["train.fast=auto"]))
    for precision in ("bf16", "float32"):  # what the clock says differs from one call to the next
        fast = partial(override, settings=["train.fast=off", f"train.precision={precision}"])
        monkeypatch.setattr("sightline.tuning.identity.resolved", fast)
        with opened(searched, tmp_path / "t") as trials_of:
            train = trials_of.search.recipe.train
        assert (train.fast, train.precision) == ("off", "bf16")


def test_no_trial_begins_where_it_can_t_be_computed_as_the_others_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = replace(search(), recipe=override(RECIPE, ["train.fast=auto"]))
    elsewhere = partial(override, settings=["train.fast=off", "train.precision=fp16"])  # which takes a GPU
    monkeypatch.setattr("sightline.tuning.identity.resolved", elsewhere)
    with opened(searched, tmp_path / "t") as trials:
        with pytest.raises(RecipeError, match=r"^train\.precision 'fp16' needs a GPU\. The others were computed so"):
            trials.next(may_begin=True)
        assert trials.num_begun == 0


def test_a_machine_that_is_gone_holds_up_no_confirmation(tmp_path: Path) -> None:
    shared = replace(search(), storage=f"journal:{tmp_path}/trials.log")
    with opened(shared, tmp_path / "gone") as gone:
        assert gone.next(may_begin=True) is not None
        result = replace(gone.result(), best=TrialFigures(**FIGURES))
    assert [trial.state for trial in result.trials] == ["running"]
    assert _can_be_confirmed(shared, result)
    assert not _can_be_confirmed(search(), result)  # in one folder it is another process, and alive


@pytest.mark.parametrize("place", ["", "/", "."])
def test_a_journal_without_a_name_is_refused(place: str, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="names no file"):
        tune(replace(search(), storage=f"journal:{place}"), photos, out=tmp_path / "t")


@pytest.mark.slow
@pytest.mark.parametrize("address", ["journal:{}/trials.log", "sqlite:///{}/trials.db", POSTGRESQL])
def test_two_machines_with_folders_of_their_own_share_the_trials(photos: Path, tmp_path: Path, address: str) -> None:
    if not address:
        pytest.skip("SIGHTLINE_POSTGRESQL names no empty database, such as postgresql://user@host/name")
    folders = [tmp_path / "one", tmp_path / "two"]
    shared = ["--storage", address.format(tmp_path)]
    both = [started(photos, folder, *shared) for folder in folders]
    assert [process.wait() for process in both] == [0, 0]
    assert [started(photos, folder, *shared).wait() for folder in folders] == [0, 0]
    one, two = ({path.name for path in (folder / "runs").glob("trial-????")} for folder in folders)
    assert one.isdisjoint(two)
    found = trials(folders[0])
    assert found == trials(folders[1])
    assert len(one | two) == len(found) in (4, 5)  # a database is asked without a lock: both may take the last
    assert all(trial.state == "complete" and trial.epochs == 2 for trial in found)


def test_a_limit_without_a_cost_is_refused() -> None:
    with pytest.raises(RecipeError, match="--under limits a cost: say which with --against"):
        replace(search(), under=1e6)


@pytest.mark.slow
def test_two_aims_leave_a_front_and_the_best_keeps_to_its_limit(photos: Path, tmp_path: Path) -> None:
    widths = Search(
        recipe=RECIPE, space=space_of(["model.width=0.5,1,2"], RECIPE), trials=4, sampler="random", against="macs"
    )
    found = tune(widths, photos, out=tmp_path / "t", confirm=0)
    assert found.best is not None
    costs = {trial.settings: trial.cost for trial in found.trials}
    assert len(set(costs.values())) == len(costs) > 1
    cheapest = min(found.trials, key=lambda trial: trial.cost or 0.0)
    assert found.front
    for number in found.front:
        trial = found.trials[number]
        assert not any(
            (other.value or 0) >= (trial.value or 0) and (other.cost or 0) < (trial.cost or 0) for other in found.trials
        )
    assert cheapest.cost is not None
    limited = tune(replace(widths, under=cheapest.cost), photos, out=tmp_path / "t", confirm=0)
    assert limited.best is not None
    assert limited.best.cost == cheapest.cost
    assert tune(replace(widths, under=1.0), photos, out=tmp_path / "t", confirm=0).best is None
    with pytest.raises(SightlineError, match="holds a search with another second aim"):
        tune(replace(widths, against=None), photos, out=tmp_path / "t")


@pytest.mark.slow
def test_a_failed_trial_is_recorded_and_the_search_goes_on(photos: Path, tmp_path: Path) -> None:
    hopeless = Search(
        recipe=override(RECIPE, ["optim.lr=1e9"]), space=space_of(["optim.momentum=0.5,0.9"], RECIPE), trials=2
    )
    result = tune(hopeless, photos, out=tmp_path / "t", confirm=0)
    assert [trial.state for trial in result.trials] == ["failed", "failed"]
    assert "optim.lr" in result.trials[0].reason
    assert result.best is None
    assert not (tmp_path / "t" / "best.yaml").exists()


HELD = ("optim.name=sgd", "epochs=2", "batch_size=8", "model.name=resnet20", "data.image_size=16", "data.resize=16")
COMMAND = [
    *(sys.executable, "-m", "sightline", "tune", "DATA", "--search", SPACE, "--trials", "4", "--confirm", "0"),
    *("--no-prune", "--set", "train.fast=off", *(word for setting in HELD for word in ("--set", setting))),
]


def started(photos: Path, out: Path, *more: str) -> "subprocess.Popen[bytes]":
    words = [str(photos) if word == "DATA" else word for word in COMMAND]
    return subprocess.Popen([*words, *more, "--out", str(out)], start_new_session=True, stdout=subprocess.DEVNULL)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def trials(out: Path) -> list[TrialFigures]:
    return [TrialFigures(**trial) for trial in json.loads((out / "tune.json").read_text())["trials"]]


@pytest.mark.slow
def test_after_a_kill_no_trial_is_lost_or_counted_twice(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "t"
    process = started(photos, out)
    wait_for((out / "runs" / "trial-0001" / "metrics.csv").exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert started(photos, out).wait() == 0
    assert [(trial.number, trial.state) for trial in trials(out)] == [(number, "complete") for number in range(4)]


@pytest.mark.slow
def test_two_processes_on_one_folder_share_the_trials(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "t"
    both = [started(photos, out), started(photos, out)]
    assert [process.wait() for process in both] == [0, 0]
    assert started(photos, out).wait() == 0  # whoever ended first may have seen the other's last trial running
    found = trials(out)
    assert [(trial.number, trial.state) for trial in found] == [(number, "complete") for number in range(4)]
    assert len({tuple(trial.settings) for trial in found}) == 4


class FakePool:
    """Two places; one training ends at each look."""

    def __init__(self) -> None:
        self.running: list[str] = []

    @property
    def has_room(self) -> bool:
        return len(self.running) < 2

    def start(self, job: str) -> None:
        self.running.append(job)

    def ended(self, _seconds: float) -> list[str]:
        return [self.running.pop(0)]


class FakeTrials:
    """Four trials; who trained while one was told of."""

    num_begun, best_value = 0, None

    def __init__(self, pool: FakePool) -> None:
        self.beside: dict[str, list[str]] = {}
        self._pool, self._left = pool, ["a", "b", "c", "d"]

    def next(self, *, may_begin: bool) -> str | None:
        return self._left.pop(0) if may_begin and self._left else None

    def report(self, _job: str) -> bool:
        return False

    def end(self, job: str) -> None:
        self.beside[job] = list(self._pool.running)

    def standings(self) -> list[Any]:
        return []


@pytest.mark.parametrize("against", ["latency", "macs", None])
def test_a_latency_is_measured_while_no_trial_trains(against: Any) -> None:
    pool: Any = FakePool()
    trials: Any = FakeTrials(pool)
    board: Any = SimpleNamespace(ended=int, show=lambda *_, **__: None)
    _fill(replace(search(), against=against), trials, pool, board, time.monotonic())
    assert list(trials.beside) == ["a", "b", "c", "d"]
    assert any(trials.beside.values()) == (against != "latency")
