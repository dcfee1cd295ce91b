"""Promise 2: killed at any moment and resumed, a run ends with the weights of the uninterrupted run."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from making import make_folder, make_photos

from sightline.errors import DataError, ModelError, RecipeError, SightlineError
from sightline.files import write_text
from sightline.model_folder import ModelFolder
from sightline.recipe import Recipe
from sightline.recipe_text import override, to_yaml
from sightline.training import resume, train
from sightline.training.run import Run
from sightline.training.task import ClassificationTask

SETTINGS = [
    "model.name=resnet20",
    "model.dropout=0.2",  # draws inside the network must be repeated too
    "model.drop_path=0.2",
    "data.image_size=16",
    "data.resize=18",
    "data.num_workers=0",
    "augment=[{crop: {padding: 2}}, flip]",
    "epochs=3",
    "batch_size=5",
    "optim.accumulate=2",
    "optim.clip_norm=1",
    "optim.warmup_epochs=1",
    "loss.label_smoothing=0.1",
    "train.checkpoint_minutes=0",
    "train.fast=off",  # the command's default recipe would choose a precision by the machine
]
RECIPE = override(Recipe(), SETTINGS)
BATCHES = 3 * 5  # epochs, and batches of 5 from the 24 of 36 images that are trained on


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """The uninterrupted run."""
    return train(RECIPE, data, out=tmp_path_factory.mktemp("whole") / "run")


def weights(folder: ModelFolder) -> str:
    return folder.spec.weights_sha256


def kill_in(monkeypatch: pytest.MonkeyPatch, owner: type, method: str, *, call: int) -> None:
    """Make the `call`-th call of a method kill the run."""
    original: Callable[..., Any] = getattr(owner, method)
    calls = iter(range(1, 10_000))

    def killing(*arguments: Any, **named: Any) -> Any:
        if next(calls) == call:
            raise Killed
        return original(*arguments, **named)

    monkeypatch.setattr(owner, method, killing)


def train_until_killed(data: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *, step: int) -> None:
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_in(patch, ClassificationTask, "training_step", call=step)
        train(RECIPE, data, out=out)


@pytest.mark.parametrize(
    ("owner", "method", "call"),
    [
        pytest.param(ClassificationTask, "training_step", 2, id="before the first checkpoint"),
        pytest.param(ClassificationTask, "training_step", 10, id="within an epoch, between two updates"),
        pytest.param(ClassificationTask, "training_step", BATCHES, id="in the last step"),
        pytest.param(Run, "_look", 2, id="when it begins to validate"),
        pytest.param(Run, "save", 3, id="when it begins to write a checkpoint"),
    ],
)
def test_a_killed_run_ends_with_the_weights_of_the_uninterrupted_run(
    owner: type, method: str, call: int, data: Path, whole: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_in(patch, owner, method, call=call)
        train(RECIPE, data, out=tmp_path / "run")
    resumed = resume(data, out=tmp_path / "run")
    assert weights(resumed) == weights(whole)
    assert resumed.spec.figures == whole.spec.figures


def test_two_kills_change_nothing_and_neither_does_the_log(
    data: Path, whole: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_until_killed(data, tmp_path / "run", monkeypatch, step=5)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_in(patch, ClassificationTask, "training_step", call=9)
        resume(data, out=tmp_path / "run")
    resumed = resume(data, out=tmp_path / "run")
    assert weights(resumed) == weights(whole)
    assert losses(resumed.path) == losses(whole.path)


def test_an_epoch_s_speed_counts_the_images_since_the_run_went_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_until_killed(data, tmp_path / "run", monkeypatch, step=5)
    resumed = resume(data, out=tmp_path / "run")
    with (resumed.path / "metrics.csv").open() as rows:
        first = next(csv.DictReader(rows))
    counted = float(first["images_per_second"]) * float(first["seconds"])
    assert counted == pytest.approx(4, rel=0.2)  # the epoch has 24, of which 20 were done before


def losses(folder: Path) -> list[list[str]]:
    """The columns of metrics.csv that don't tell time."""
    return [line.split(",")[:6] for line in (folder / "metrics.csv").read_text().splitlines()]


def test_the_number_of_loader_workers_does_not_change_the_weights(
    data: Path, whole: ModelFolder, tmp_path: Path
) -> None:
    with_workers = train(override(RECIPE, ["data.num_workers=2"]), data, out=tmp_path / "run")
    assert weights(with_workers) == weights(whole)


def test_another_seed_changes_the_weights(data: Path, whole: ModelFolder, tmp_path: Path) -> None:
    assert weights(train(override(RECIPE, ["seed=1"]), data, out=tmp_path / "run")) != weights(whole)


def test_resuming_with_another_recipe_is_refused_by_the_setting_s_name(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_until_killed(data, tmp_path / "run", monkeypatch, step=5)
    with pytest.raises(RecipeError, match=r"begun with optim\.lr [\d.]+ \(asked for: [\d.]+\)\. A"):
        resume(data, out=tmp_path / "run", recipe=override(RECIPE, ["optim.lr=1"]))


def test_resuming_with_a_recipe_edited_by_hand_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_until_killed(data, tmp_path / "run", monkeypatch, step=8)
    file = tmp_path / "run" / "recipe.yaml"
    file.write_text(file.read_text().replace("lr: 0.001", "lr: 0.01"))
    with pytest.raises(RecipeError, match=r"begun with optim\.lr [\d.]+ \(asked for: [\d.]+\)\. A"):
        resume(data, out=tmp_path / "run")


def test_resuming_on_changed_images_is_refused(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = make_photos(tmp_path / "photos")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_in(patch, ClassificationTask, "training_step", call=8)
        train(RECIPE, photos, out=tmp_path / "run")
    (photos / "red" / "000.jpg").write_bytes((photos / "red" / "001.jpg").read_bytes())
    with pytest.raises(ModelError, match="are not those the run"):
        resume(photos, out=tmp_path / "run")


def test_changed_images_are_noticed_before_the_first_checkpoint_too(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_until_killed(photos, tmp_path / "run", monkeypatch, step=1)
    (tmp_path / "run" / "splits.json").unlink()  # killed earlier still
    file = photos / "red" / "000.jpg"
    own = file.read_bytes()
    for bad, words in [((photos / "red" / "001.jpg").read_bytes(), "are not those the run"), (b"", "could not be")]:
        file.write_bytes(bad)
        with pytest.raises(SightlineError, match=words):
            resume(photos, out=tmp_path / "run")
    file.write_bytes(own)
    resume(photos, out=tmp_path / "run", measure=())


@pytest.mark.parametrize("labelled", [True, False])
def test_an_image_that_went_bad_is_to_be_put_back_before_resuming(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labelled: bool
) -> None:
    teacher, others = make_folder(tmp_path / "teacher"), make_photos(tmp_path / "others", count=16)
    distill = [f"distill.teacher={teacher.path}", f"distill.unlabelled={others}"]
    recipe = RECIPE if labelled else override(RECIPE, distill)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_in(patch, ClassificationTask, "training_step", call=BATCHES - 1)
        train(recipe, photos, out=tmp_path / "run")
    file = (photos if labelled else others) / "red" / "003.jpg"
    whole = file.read_bytes()
    file.write_bytes(b"")
    with pytest.raises(DataError, match=r"could not be read .*\. Put back what was there, or train anew\.$"):
        resume(photos, out=tmp_path / "run")
    file.write_bytes(whole)
    resume(photos, out=tmp_path / "run", measure=())


def test_there_is_nothing_to_resume_once_a_run_has_ended(data: Path, whole: ModelFolder) -> None:
    with pytest.raises(ModelError, match="has ended; there is nothing to resume"):
        resume(data, out=whole.path)


def test_a_run_killed_while_it_was_measured_is_measured(
    data: Path, whole: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("sightline.training.job.evaluate_images", killed)
        train(RECIPE, data)
    assert ModelFolder.read(tmp_path / "runs" / "photos").spec.figures == {}
    assert resume(data).spec.figures == whole.spec.figures
    with pytest.raises(ModelError, match="no unfinished run"):
        resume(data)


def test_a_damaged_checkpoint_is_one_sentence(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_until_killed(data, tmp_path / "run", monkeypatch, step=8)
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    last.write_bytes(last.read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"The checkpoint '.*last\.pt' is damaged, or no checkpoint at all\."):
        resume(data, out=tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("checkpoints", [1, 4, 7])
def test_sigkill_changes_nothing(checkpoints: int, data: Path, whole: ModelFolder, tmp_path: Path) -> None:
    """The real signal to the real command, once it has written so many checkpoints, with two loader workers."""
    command = [str(Path(sys.executable).with_name("sightline")), "train", str(data), "--out", str(tmp_path / "run")]
    settings = [word for setting in [*SETTINGS, "data.num_workers=2"] for word in ("--set", setting)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, *settings], env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    last, seen = tmp_path / "run" / "checkpoints" / "last.pt", set[int]()
    while len(seen) < checkpoints:
        if last.exists():
            seen.add(last.stat().st_mtime_ns)
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run" / "model.json").exists()
    subprocess.run([*command, "--resume"], env=environment, check=True, capture_output=True)
    assert weights(ModelFolder.read(tmp_path / "run")) == weights(whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_writes_a_checkpoint_and_says_how_to_go_on(
    number: signal.Signals, data: Path, whole: ModelFolder, tmp_path: Path
) -> None:
    command = [str(Path(sys.executable).with_name("sightline")), "train", str(data), "--out", str(tmp_path / "run")]
    more = ["train.checkpoint_minutes=60", "data.num_workers=2"]
    settings = [word for setting in [*SETTINGS, *more] for word in ("--set", setting)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, *settings], env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        said = ""
        while "epoch   1" not in said:
            said += process.stderr.readline()
        os.killpg(process.pid, number)  # as a terminal does: to the loader's workers too
        said += process.stderr.read()
    assert process.returncode == 130
    assert "--resume" in said
    assert "Traceback" not in said
    subprocess.run([*command, "--resume"], env=environment, check=True, capture_output=True)
    assert weights(ModelFolder.read(tmp_path / "run")) == weights(whole)


@pytest.mark.slow
def test_a_second_ctrl_c_is_one_line_and_the_run_can_be_resumed(data: Path, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("sightline")), "train", str(data), "--out", str(tmp_path / "run")]
    more = ["epochs=30", "data.num_workers=2", "optim.accumulate=150"]  # the first Ctrl-C would wait for an update
    settings = [word for setting in [*SETTINGS, *more] for word in ("--set", setting)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, *settings], env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        said = ""
        while "epoch   2" not in said:
            said += process.stderr.readline()
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
        rest = [line for line in process.stderr.read().splitlines() if line and not line.startswith("epoch")]
    assert process.returncode == 130
    assert rest == ["Stopped at once. The same call goes on (`train`: with --resume) from the last checkpoint."]
    subprocess.run([*command, "--resume"], env=environment, check=True, capture_output=True)
    assert ModelFolder.read(tmp_path / "run").spec.figures


def test_a_run_that_can_t_be_computed_here_goes_on_where_it_was_begun(data: Path, tmp_path: Path) -> None:
    write_text(
        tmp_path / "run" / "recipe.yaml", to_yaml(override(RECIPE, ["train.precision=fp16", "train.device=cpu"]))
    )
    with pytest.raises(
        RecipeError, match=r"^train\.precision 'fp16' needs a GPU\. .* resume it there, or train anew\.$"
    ):
        resume(data, out=tmp_path / "run")
