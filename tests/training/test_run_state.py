"""Each state that a run carries beside the weights comes back from a checkpoint to the bit."""

import csv
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from making import make_photos

from sightline.errors import RecipeError
from sightline.model_folder import ModelFolder
from sightline.recipe import Recipe, TrainConfig
from sightline.recipe_text import override
from sightline.training import fast_dev_run, resume, train
from sightline.training import run as run_module
from sightline.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sightline.training.journal import Journal
from sightline.training.limits import Clock, outlook
from sightline.training.metrics_log import Row
from sightline.training.task import ClassificationTask

RECIPE = override(
    Recipe(),
    [
        "model.name=resnet20",
        "data.image_size=16",
        "data.resize=16",
        "data.num_workers=0",
        "epochs=4",
        "batch_size=8",  # 3 batches an epoch
        "optim.accumulate=2",
        "optim.lr=0.01",
        "train.checkpoint_minutes=0",
        "train.select=last",
    ],
)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("data") / "photos")


def kill_at_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    original: Callable[..., Any] = ClassificationTask.training_step
    calls = iter(range(1, 10_000))

    def killing(*arguments: Any) -> Any:
        if next(calls) == step:
            raise Killed
        return original(*arguments)

    monkeypatch.setattr(ClassificationTask, "training_step", killing)


def run_killed(recipe: Recipe, data: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *, step: int) -> ModelFolder:
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_step(patch, step)
        train(recipe, data, out=out)
    return resume(data, out=out)


@pytest.mark.parametrize(
    ("settings", "step"),
    [
        pytest.param(["train.ema_decay=0.9"], 6, id="exponential average"),
        pytest.param(["train.swa_start=0.5", "train.swa_lr=0.005", "model.dropout=0.1"], 11, id="equal mean"),
        pytest.param(["train.max_norm=1"], 6, id="max-norm"),
    ],
)
def test_a_killed_run_ends_with_the_same_bits_and_the_lever_changes_them(
    settings: list[str], step: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = override(RECIPE, settings)
    whole = train(recipe, data, out=tmp_path / "whole")
    killed = run_killed(recipe, data, tmp_path / "killed", monkeypatch, step=step)
    assert killed.spec.weights_sha256 == whole.spec.weights_sha256
    plain = train(RECIPE, data, out=tmp_path / "plain")
    assert plain.spec.weights_sha256 != whole.spec.weights_sha256


def test_watching_gradients_changes_no_weight_and_its_rows_survive_a_kill(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = override(RECIPE, ["train.watch_gradients=true", "epochs=3"])
    whole = train(recipe, data, out=tmp_path / "whole")
    killed = run_killed(recipe, data, tmp_path / "killed", monkeypatch, step=6)  # within an epoch
    blind = train(override(RECIPE, ["epochs=3"]), data, out=tmp_path / "blind")
    assert whole.spec.weights_sha256 == blind.spec.weights_sha256 == killed.spec.weights_sha256
    assert (killed.path / "gradients.csv").read_bytes() == (whole.path / "gradients.csv").read_bytes()
    with (whole.path / "gradients.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["stage"] for row in rows[:5]] == ["stem", "layer1", "layer2", "layer3", "head"]
    assert {row["epoch"] for row in rows} == {"1", "2", "3"}
    assert all(float(row["gradient_norm"]) > 0 for row in rows)


def test_validation_and_the_folder_see_the_average(data: Path, tmp_path: Path) -> None:
    """One that hardly moves is still close to the fresh weights, whatever the training does."""
    still = train(override(RECIPE, ["train.ema_decay=0.9999", "epochs=2"]), data, out=tmp_path / "ema")
    weights, trained = still.model().state_dict(), load_checkpoint(still.path / "checkpoints" / "last.pt")
    assert all((weights[name] == mean).all() for name, mean in trained.average.items())
    assert any((weights[name] != trained.model[name]).any() for name in trained.average)


def test_patience_counts_gains_larger_than_the_least_one() -> None:
    config = TrainConfig(patience=2, min_gain=0.1)
    journal = Journal()
    best = [journal.look(row(epoch, loss=loss), config) for epoch, loss in enumerate((1.0, 0.95, 0.85, 0.84, 0.80), 1)]
    assert best == [True] * 5  # kept as the best, though two of the last three are no gain that counts
    assert journal.looks_without_gain == 2
    assert journal.is_out_of_patience(config)


def test_accuracy_may_decide_instead_of_the_loss() -> None:
    journal, config = Journal(), TrainConfig(monitor="accuracy", patience=5)
    figures = [(1.0, 0.5), (0.5, 0.4), (2.0, 0.6)]
    assert [journal.look(row(1, loss=loss, accuracy=a), config) for loss, a in figures] == [True, False, True]


def test_a_journal_comes_back_from_its_plain_values() -> None:
    journal = Journal(seconds=12.5)
    for epoch, loss in enumerate((1.0, 1.5, 0.5, 0.6), 1):
        journal.rows.append(row(epoch, loss=loss))
        journal.look(journal.rows[-1], TrainConfig())
    assert Journal.read(asdict(journal)) == journal
    assert journal.looks_without_gain == 1


def row(epoch: int, *, loss: float, accuracy: float = 0.5) -> Row:
    return Row(
        epoch=epoch,
        train_loss=1.0,
        train_accuracy=0.5,
        val_loss=loss,
        val_accuracy=accuracy,
        lr=0.1,
        seconds=1.0,
        images_per_second=1.0,
    )


def test_the_clock_counts_all_parts_of_a_run() -> None:
    clock = Clock(max_hours=1)
    clock.begin(spent=3599.0)
    assert not clock.is_up
    clock.begin(spent=3600.0)
    assert clock.is_up


@pytest.mark.parametrize(
    ("settings", "falls"),
    [(["optim.name=sgd"], True), (["optim.schedule=constant"], False), (["optim.name=schedulefree_adamw"], False)],
)
def test_what_a_limit_leaves_time_for_speaks_of_a_rate_that_falls(settings: list[str], *, falls: bool) -> None:
    said = outlook(override(Recipe(), ["train.max_hours=1", *settings]), 3.2)
    assert ("before the learning rate has come down" in said) == falls


def test_a_run_that_is_out_of_time_ends_with_a_model_folder_and_says_so(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="sightline"):
        folder = train(override(RECIPE, ["train.max_hours=1e-9"]), data, out=tmp_path / "run")
    assert ModelFolder.read(folder.path).spec.figures
    assert "Stopped by train.max_hours (1e-09) after 0.7 of 4 epochs, at a learning rate of" in caplog.text


def test_time_spent_before_a_kill_counts(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, last = override(RECIPE, ["train.max_hours=1"]), tmp_path / "run" / "checkpoints" / "last.pt"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_step(patch, 6)
        patch.setattr(Clock, "seconds", property(lambda _: 3599.999999))
        train(recipe, data, out=tmp_path / "run")
    assert load_checkpoint(last).journal["seconds"] == 3599.999999
    resume(data, out=tmp_path / "run", measure=())
    assert load_checkpoint(last).journal["stopped"] == "max_hours"


@pytest.mark.parametrize(("minutes", "often"), [(1, True), (30, False)])
def test_checkpoints_come_every_so_many_minutes_beside_those_of_the_epochs_ends(
    minutes: int, often: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[float] = []  # by a clock that goes on by half a minute whenever it is asked
    saved: list[Path] = []
    monkeypatch.setattr(run_module, "time", SimpleNamespace(monotonic=lambda: passed.append(30.0) or sum(passed)))
    monkeypatch.setattr(run_module, "save_checkpoint", lambda path, _: saved.append(path))
    settings = ["epochs=2", "optim.accumulate=1", f"train.checkpoint_minutes={minutes}"]
    train(override(RECIPE, settings), data, out=tmp_path / "run", measure=())
    assert (len(saved) > 2) == often


def test_an_epoch_s_seconds_are_those_of_its_steps(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def saved_slowly(path: Path, checkpoint: Checkpoint) -> None:
        passed.append(100.0)
        save_checkpoint(path, checkpoint)

    passed: list[float] = []  # by a clock that goes on by a second whenever it is asked
    clock = SimpleNamespace(monotonic=lambda: passed.append(1.0) or sum(passed))
    monkeypatch.setattr(run_module, "time", clock)
    monkeypatch.setattr(run_module, "save_checkpoint", saved_slowly)
    folder = train(RECIPE, data, out=tmp_path / "run")
    assert passed.count(100.0) > 4  # after every update
    with (folder.path / "metrics.csv").open() as file:
        assert [float(row["seconds"]) < 50 for row in csv.DictReader(file)] == [True] * 4


def test_a_resumed_run_says_where_it_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="sightline"):
        run_killed(RECIPE, data, tmp_path / "run", monkeypatch, step=6)
    assert "Going on with epoch 2 of 4, after 1 of its 3 batches." in caplog.text


def test_a_dev_run_of_an_averaging_recipe_goes_the_whole_way(data: Path) -> None:
    fast_dev_run(override(RECIPE, ["train.swa_start=0.5", "train.swa_lr=0.1"]), data)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.ema_decay=0.9", "train.swa_start=0.5"], r"train\.ema_decay and train\.swa_start are two ways"),
        (["train.swa_start=0.99"], r"train\.swa_start \(0\.99\) leaves nothing to average"),
        (["train.swa_lr=0.1"], r"train\.swa_lr is of train\.swa_start"),
        (["train.ema_decay=1"], r"train\.ema_decay must be greater than 0 and less than 1"),
        (["train.min_gain=0.1"], r"train\.min_gain is of train\.patience"),
        (["train.monitor=accuracy"], r"train\.monitor would be ignored"),
        (["train.max_hours=0"], r"train\.max_hours must be greater than 0"),
        (["train.max_norm=-1"], r"train\.max_norm must be greater than 0"),
        (["train.watch_gradients=true", "train.compile=true"], r"train\.watch_gradients can't see into"),
    ],
)
def test_settings_that_would_be_ignored_are_refused_by_name(settings: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        override(RECIPE, settings)


def test_the_constant_rate_holds_from_where_averaging_begins() -> None:
    train_config = replace(RECIPE.train, swa_start=0.5, swa_lr=0.3)
    assert [train_config.swa_rate(epoch, 4) for epoch in range(4)] == [None, None, 0.3, 0.3]
