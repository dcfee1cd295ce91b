"""Images without labels: which are taken, what they count for, and runs with them that repeat."""

import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from making import make_folder, make_photos

from sightline.augmentations import Batch
from sightline.data.loader import Batches, Pixels
from sightline.data.order import APPEARANCE
from sightline.data.prepare import Prepared, prepare
from sightline.data.unlabelled import NO_LABEL, labelled, with_unlabelled
from sightline.decode import decode
from sightline.errors import DataError, ModelError
from sightline.evaluation.seen import num_seen
from sightline.model_folder import ModelFolder
from sightline.models import create_model
from sightline.preprocess import Preprocess
from sightline.recipe import DataConfig, LossConfig, Recipe
from sightline.recipe_text import override
from sightline.training import resume, train
from sightline.training.losses import Loss
from sightline.training.task import ClassificationTask

SETTINGS = [
    *("model.name=resnet20", "data.image_size=16", "data.resize=18", "data.num_workers=0", "data.cache=false"),
    *("epochs=1", "batch_size=12", "optim.lr=3e-3", "train.checkpoint_minutes=0"),
]


@pytest.fixture
def prepared(photos: Path) -> Prepared:
    return prepare(photos, DataConfig(), seed=0)


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """Five images that the data hasn't, in folders that mean nothing."""
    made = make_photos(tmp_path / "made", classes=("x", "y", "z"), count=15)
    for number, file in enumerate(sorted(made.rglob("*.jpg"))[-5:]):
        target = tmp_path / "others" / ("deep/er" if number % 2 else "") / f"{number}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(file, target)
    return tmp_path / "others"


def test_they_stand_behind_the_data_and_are_read_from_their_own_place(prepared: Prepared, others: Path) -> None:
    pool = with_unlabelled(prepared, str(others), leave_out_unreadable=False)
    own = len(prepared.table)
    assert (pool.num_labelled, pool.num_unlabelled) == (own, 5)
    assert pool.places.tolist() == [*prepared.splits.train.tolist(), *range(own, own + 5)]
    assert pool.targets[own:].tolist() == [NO_LABEL] * 5
    preprocess = Preprocess(image_size=16, resize=18)
    pixels = Pixels(pool.table, preprocess, canvas=True).batch(np.arange(own - 1, own + 5))
    files = sorted(others.rglob("*.jpg"), key=lambda file: str(file.relative_to(others)))
    for row, file in zip(pixels[1:], files, strict=True):
        assert np.array_equal(row.permute(1, 2, 0).numpy(), preprocess.canvas(decode(file.read_bytes())))
    last = decode(prepared.table.source.read(prepared.table.paths[-1]))
    assert np.array_equal(pixels[0].permute(1, 2, 0).numpy(), preprocess.canvas(last))


def test_batches_have_rows_of_zeros_for_them(prepared: Prepared, others: Path) -> None:
    pool = with_unlabelled(prepared, str(others), leave_out_unreadable=False)
    own = len(prepared.table)
    read = Pixels(pool.table, Preprocess(image_size=16, resize=18), canvas=True)
    (batch,) = Batches(read, [[own + 1, 0, own + 4 + APPEARANCE]], pool.targets, 3, num_workers=0)
    wanted = torch.zeros(3, 3)
    wanted[1, prepared.table.targets[0]] = 1
    assert torch.equal(batch.targets, wanted)


def test_the_fingerprint_is_of_both(prepared: Prepared, others: Path) -> None:
    first = with_unlabelled(prepared, str(others), leave_out_unreadable=False).fingerprint
    assert labelled(prepared).fingerprint == prepared.fingerprint
    assert first == with_unlabelled(prepared, str(others), leave_out_unreadable=False).fingerprint
    next(others.rglob("*.jpg")).unlink()
    assert first != with_unlabelled(prepared, str(others), leave_out_unreadable=False).fingerprint


def test_copies_of_the_data_s_own_are_left_out(
    prepared: Prepared, photos: Path, others: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "sightline")
    shutil.copytree(photos / "red", others / "copies")
    assert with_unlabelled(prepared, str(others), leave_out_unreadable=False).num_unlabelled == 5
    assert "12 copies of the data's own left out" in caplog.text
    with pytest.raises(DataError, match="isn't in the data already"):
        with_unlabelled(prepared, str(photos), leave_out_unreadable=False)


def test_an_unreadable_one_stops_the_run_or_is_left_out(
    prepared: Prepared, others: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (others / "torn.jpg").write_bytes(b"\xff\xd8\xff torn")
    with pytest.raises(DataError, match=r"1 of 6 images .* could not be read \('torn.jpg'"):
        with_unlabelled(prepared, str(others), leave_out_unreadable=False)
    caplog.set_level("INFO", "sightline")
    assert with_unlabelled(prepared, str(others), leave_out_unreadable=True).num_unlabelled == 5
    assert "1 file left out that can't be read, such as 'torn.jpg'" in caplog.text


def test_a_place_that_isn_t_there_or_is_empty_is_named(prepared: Prepared, tmp_path: Path) -> None:
    for name in (str(tmp_path / "nowhere"), "~no-such-user/x", ""):
        with pytest.raises(DataError, match="does not exist"):
            with_unlabelled(prepared, name, leave_out_unreadable=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="There are no images in"):
        with_unlabelled(prepared, str(tmp_path / "empty"), leave_out_unreadable=False)


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "binary"])
def test_the_labels_loss_is_nothing_for_them(name: str) -> None:
    loss = Loss(LossConfig(name=name, label_smoothing=0.0 if name == "focal" else 0.1))  # pyright: ignore[reportArgumentType]
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.eye(3)[[0, 1, 2, 0]]
    few = loss(logits[:3], targets[:3]) * 3 / 4
    targets[3] = 0
    torch.testing.assert_close(loss(logits, targets, some_unlabelled=True), few)


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "binary"])
def test_an_image_mixed_with_one_of_them_counts_by_its_share(name: str) -> None:
    loss = Loss(LossConfig(name=name, label_smoothing=0.0 if name == "focal" else 0.1))  # pyright: ignore[reportArgumentType]
    logits, whole = torch.tensor([[1.0, -0.5, 0.2]]), torch.eye(3)[[1]]
    torch.testing.assert_close(loss(logits, 0.25 * whole, some_unlabelled=True), 0.25 * loss(logits, whole))


def test_a_missing_place_stops_a_run_before_anything_is_written(photos: Path, others: Path, tmp_path: Path) -> None:
    recipe = override(Recipe(), [*SETTINGS, f"distill.teacher={make_folder(tmp_path / 'teacher').path}"])
    with pytest.raises(DataError, match="'nowhere' does not exist"):
        train(override(recipe, ["distill.unlabelled=nowhere"]), photos, out=tmp_path / "out", measure=())
    with pytest.raises(DataError, match="lies inside the images' own folder"):
        train(override(recipe, [f"distill.unlabelled={others}"]), photos, out=others / "out", measure=())
    assert not (tmp_path / "out" / "audit.json").exists()
    assert not (others / "out").exists()


def test_the_training_accuracy_is_of_those_with_a_label() -> None:
    recipe = override(Recipe(), SETTINGS)
    task = ClassificationTask(create_model("resnet20", num_classes=3, image_size=16), recipe, 1, Loss(LossConfig()))
    task.num_labelled = 10
    samples = torch.tensor([1, 9, 10, 11 + APPEARANCE])
    batch = Batch(torch.zeros(4, 3, 18, 18, dtype=torch.uint8), torch.eye(3)[[0, 1, 0, 0]], samples)
    batch.targets[2:] = 0
    task._count(torch.tensor(1.0), torch.eye(3)[[0, 0, 0, 0]], batch)  # pyright: ignore[reportPrivateUsage]
    assert (task.progress.seen, task.progress.unlabelled, task.progress.accuracy) == (4, 2, 0.5)


def test_a_student_learns_from_them_and_says_how_many(photos: Path, others: Path, tmp_path: Path) -> None:
    teacher = make_folder(tmp_path / "teacher")
    recipe = override(Recipe(), [*SETTINGS, f"distill.teacher={teacher.path}"])
    without = train(recipe, photos, out=tmp_path / "without", measure=())
    found = train(override(recipe, [f"distill.unlabelled={others}"]), photos, out=tmp_path / "with", measure=())
    assert found.spec.provenance.data["unlabelled_images"] == 5
    assert found.spec.weights_sha256 != without.spec.weights_sha256
    assert found.spec.provenance.data["images"] == without.spec.provenance.data["images"]
    digests = [sha256(path.read_bytes()).hexdigest()[:16] for path in others.rglob("*.*")]
    assert (num_seen(without.path, digests), num_seen(found.path, digests)) == (0, 5)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_weights_and_only_with_the_same_images(
    photos: Path, others: Path, tmp_path: Path
) -> None:
    teacher = make_folder(tmp_path / "teacher")
    settings = [*SETTINGS, "epochs=2", f"distill.teacher={teacher.path}", f"distill.unlabelled={others}"]
    recipe = override(Recipe(), [*settings, "data.cache=true"])
    whole = train(recipe, photos, out=tmp_path / "whole", measure=())
    calls = iter(range(100))
    original = ClassificationTask.training_step

    def killing(*arguments: object) -> object:
        if next(calls) == 4:
            raise Killed
        return original(*arguments)  # pyright: ignore[reportArgumentType]

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(ClassificationTask, "training_step", killing)
        train(recipe, photos, out=tmp_path / "killed", measure=())
    place = next(others.rglob("*.jpg"))
    kept = place.rename(tmp_path / "kept.jpg")
    with pytest.raises(ModelError, match="are not those the run"):
        resume(photos, out=tmp_path / "killed", measure=())
    kept.rename(place)
    found: ModelFolder = resume(photos, out=tmp_path / "killed", measure=())
    assert found.spec.weights_sha256 == whole.spec.weights_sha256


def test_the_command_wants_a_teacher_for_them(tmp_path: Path, run_cli: Callable[..., tuple[int, str, str]]) -> None:
    code, _, said = run_cli("compress", tmp_path, "--prune", "macs=0.5", "--unlabelled", tmp_path)
    assert (code, "--unlabelled belongs to --distill" in said) == (2, True)
