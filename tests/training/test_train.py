import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from making import make_photos
from PIL import Image
from torch import Tensor

from sightline.augmentations import Batch, augment
from sightline.data.loader import Batches, explained_failures
from sightline.errors import DataError, ModelError, RecipeError, SightlineError
from sightline.evaluation import evaluate, read_evaluation
from sightline.evaluation.metrics import Evaluation
from sightline.model_folder import ModelFolder
from sightline.models import create_model
from sightline.recipe import Recipe
from sightline.recipe_text import from_yaml, override
from sightline.reports import write_report
from sightline.training import fast_dev_run, job, train
from sightline.training.losses import Loss
from sightline.training.task import ClassificationTask

RECIPE = override(
    Recipe(),
    ["model.name=resnet20", "data.image_size=16", "data.resize=18", "data.num_workers=0", "epochs=3", "batch_size=8"],
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("data") / "photos", count=20)


@pytest.fixture(scope="module")
def folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return train(override(RECIPE, ["epochs=8"]), data, out=tmp_path_factory.mktemp("run") / "model")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_colours_are_learnt(folder: ModelFolder) -> None:
    assert folder.spec.figures["test"]["accuracy"]["value"] >= 0.8
    assert float(rows(folder.path)[-1]["train_loss"]) < float(rows(folder.path)[0]["train_loss"])


def test_the_folder_holds_what_one_walks_back_by(folder: ModelFolder, data: Path) -> None:
    provenance = folder.spec.provenance
    assert provenance.data["location"] == str(data)
    assert provenance.data["images"] == {"train": 42, "val": 9, "test": 9}
    assert len(provenance.data["fingerprint"]) == 64
    assert provenance.versions["torch"] == torch.__version__.partition("+")[0]
    assert from_yaml((folder.path / "recipe.yaml").read_text()).epochs == 8
    splits = json.loads((folder.path / "splits.json").read_text())
    assert not set(splits["train"]) & set(splits["test"])
    assert any("held out by us" in sentence for sentence in splits["made"])


def test_the_calibration_is_fitted_on_validation_and_says_so(folder: ModelFolder) -> None:
    assert folder.spec.calibration.fitted_on == "the validation split, 9 images"


def test_evaluating_again_gives_the_figures_of_the_training(folder: ModelFolder) -> None:
    stored = read_evaluation(folder, "test")
    assert evaluate(folder.path, device="cpu", num_workers=0) == stored
    assert stored is not None
    assert len(rows_of_predictions(folder)) == stored.num_images


def rows_of_predictions(folder: ModelFolder) -> list[str]:
    return (folder.path / "evaluation" / "test_predictions.csv").read_text().splitlines()[1:]


def test_pictures_that_changed_after_the_training_are_refused_and_the_figures_stay(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", count=20)
    folder = train(RECIPE, photos, out=tmp_path / "run")
    stored = read_evaluation(folder, "test")
    changed = photos / json.loads((folder.path / "splits.json").read_text())["test"][0]
    Image.new("RGB", (20, 16)).save(changed)
    with pytest.raises(DataError, match="Images of the test split have changed in"):
        evaluate(folder)
    assert evaluate(folder, split="val", num_workers=0) == read_evaluation(folder, "val")
    assert read_evaluation(folder, "test") == stored


def test_a_split_that_the_data_does_not_have_is_refused(folder: ModelFolder, data: Path) -> None:
    with pytest.raises(DataError, match="has no val split of its own"):
        evaluate(folder, data, split="val")


def test_damaged_splits_are_one_sentence(folder: ModelFolder, tmp_path: Path) -> None:
    shutil.copytree(folder.path, tmp_path / "copy")
    (tmp_path / "copy" / "splits.json").write_text("{}")
    with pytest.raises(DataError, match="The stored splits are damaged"):
        evaluate(tmp_path / "copy")


def test_what_a_failed_start_left_does_not_block_the_next_run(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", count=6)
    (photos / "red" / "000.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="could not be read"):
        train(RECIPE, photos, out=tmp_path / "run")
    (photos / "red" / "000.jpg").unlink()
    assert train(RECIPE, photos, out=tmp_path / "run").spec.classes == ("blue", "green", "red")


def test_two_runs_cannot_write_to_one_folder(tmp_path: Path) -> None:
    lines = [
        "from pathlib import Path",
        "from sightline.files import claimed",
        f"with claimed(Path({str(tmp_path / 'run')!r})):",
        "    print('claimed', flush=True)",
        "    input()",
    ]
    code = "\n".join(lines)
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"claimed\n"
        with pytest.raises(SightlineError, match="Another process is writing to"):
            train(RECIPE, make_photos(tmp_path / "photos"), out=tmp_path / "run")
        other.communicate(b"\n")
    assert train(RECIPE, tmp_path / "photos", out=tmp_path / "run").path.exists()


def test_a_recipe_may_be_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="Unknown recipe 'small_foldr'"):
        train("small_foldr", tmp_path / "photos", out=tmp_path / "run")


def test_memory_that_runs_out_is_one_sentence() -> None:
    with pytest.raises(SightlineError, match=r"Memory ran out\. Lower batch_size"), explained_failures():
        torch.empty(2**50)


def test_weights_beyond_the_machine_s_memory_are_one_sentence_before_any_image_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "memory", lambda: 10**9)
    why = (
        "The weights of 'resnet20' with these settings take 11 GB, and this machine's memory has 1 GB. "
        "Lower model.width or model.depth, or name a smaller network."
    )
    with pytest.raises(ModelError, match=f"^{why}$"):
        train(override(RECIPE, ["model.width=100"]), tmp_path / "nowhere", out=tmp_path / "run")


def test_other_images_are_taken_whole_and_leave_the_folder_as_it_was(folder: ModelFolder, tmp_path: Path) -> None:
    other = make_photos(tmp_path / "other", classes=("blue", "green"), count=4)
    before = (folder.path / "model.json").read_bytes()
    evaluation = evaluate(folder.path, other, num_workers=0)
    assert evaluation.num_images == 8
    assert evaluation.absent == ("red",)
    assert (folder.path / "model.json").read_bytes() == before


def test_an_unreadable_image_among_other_images_is_named(folder: ModelFolder, tmp_path: Path) -> None:
    other = make_photos(tmp_path / "other", count=3)
    (other / "red" / "001.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 9 images could not be read \('red/001.jpg': the file is empty\)"):
        evaluate(folder.path, other, num_workers=0)


def test_the_report_is_one_page_with_the_figures(folder: ModelFolder) -> None:
    page = write_report(folder).read_text()
    evaluation = read_evaluation(folder, "test")
    assert evaluation is not None
    assert evaluation.accuracy.percent in page
    assert "held out by us" in page


def test_the_report_stands_without_the_images(folder: ModelFolder, data: Path, tmp_path: Path) -> None:
    moved = data.with_name("moved")
    data.rename(moved)
    try:
        assert write_report(folder).exists()
        with pytest.raises(DataError, match="does not exist"):
            evaluate(folder.path)
    finally:
        moved.rename(data)


def test_tensorboard_shows_the_rows_of_the_log(folder: ModelFolder) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder.path / "tensorboard")).Reload()
    shown = [event.value for event in events.Scalars("train_loss")]
    assert shown == pytest.approx([float(row["train_loss"]) for row in rows(folder.path)], rel=1e-6)


def test_the_best_epoch_s_weights_are_kept(folder: ModelFolder) -> None:
    losses = [float(row["val_loss"]) for row in rows(folder.path)]
    evaluation = read_evaluation(folder, "val")
    assert evaluation is not None
    assert evaluation.uncalibrated.log_loss == pytest.approx(min(losses), rel=1e-4)


def test_the_last_weights_are_kept_where_that_is_asked_for(data: Path, tmp_path: Path) -> None:
    last = train(override(RECIPE, ["train.select=last", "optim.lr=0.05"]), data, out=tmp_path / "run")
    evaluation = read_evaluation(last, "val")
    assert evaluation is not None
    assert evaluation.uncalibrated.log_loss == pytest.approx(float(rows(last.path)[-1]["val_loss"]), rel=1e-4)


def test_the_log_s_figures_are_those_of_the_epoch_s_images(data: Path, tmp_path: Path) -> None:
    """At a rate of nothing, without augmentation or batch norm, training sees what evaluation sees."""
    settings = ["epochs=1", "batch_size=10", "optim.lr=1e-12", "model.norm=group", "augment=[]", "data.resize=16"]
    still = train(override(RECIPE, settings), data, out=tmp_path / "run", measure=())
    [row] = rows(still.path)
    found = evaluate(still.path, split="train", num_workers=0)
    assert isinstance(found, Evaluation)
    assert float(row["train_loss"]) == pytest.approx(found.uncalibrated.log_loss, rel=1e-4)
    assert float(row["train_accuracy"]) == pytest.approx(found.accuracy.value)


def test_each_step_draws_anew_in_the_network_and_each_epoch_in_the_augmentation(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, epochs = list[float](), list[int]()

    def watched(*arguments: Any) -> Batch:
        drawn.append(torch.rand(()).item())  # what dropout would take its mask from
        epochs.append(arguments[2].epoch)
        return augment(*arguments)

    monkeypatch.setattr("sightline.training.task.augment", watched)
    train(override(RECIPE, ["epochs=2"]), data, out=tmp_path / "run", measure=())
    assert len(set(drawn)) == 12
    assert epochs == [0] * 6 + [1] * 6


def test_another_geometry_reads_no_pixels_of_the_last(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    for number, setting in enumerate(("interpolation=bilinear", "interpolation=bicubic", "image_size=15"), 1):
        train(override(RECIPE, ["epochs=1", f"data.{setting}"]), data, out=tmp_path / setting, measure=())
        assert len(list((tmp_path / "cache" / "packed").iterdir())) == number


def test_validation_looks_every_so_often_and_always_at_the_end(data: Path, tmp_path: Path) -> None:
    folder = train(override(RECIPE, ["train.validate_every=2"]), data, out=tmp_path / "run")
    assert [bool(row["val_loss"]) for row in rows(folder.path)] == [False, True, True]


def test_a_run_stops_early_when_the_validation_loss_has_stopped_falling(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certainty = iter([1.0, 2.0, 1.5, 1.8, 9.0, 9.0])  # of the true class: the loss falls, then rises twice

    def collect(_model: object, batches: Batches, *_: object, **__: object) -> torch.Tensor:
        numbers = [number for part in batches.order for number in part]
        return torch.eye(3)[torch.from_numpy(batches.targets[numbers])] * next(certainty)

    monkeypatch.setattr("sightline.training.run.collect_logits", collect)
    folder = train(override(RECIPE, ["epochs=6", "train.patience=2"]), data, out=tmp_path / "run")
    assert [row["epoch"] for row in rows(folder.path)] == ["1", "2", "3", "4"]


def test_a_loss_that_is_no_number_stops_the_run_with_advice(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match=r"The training loss became nan in epoch 1\. Lower optim\.lr"):
        train(override(RECIPE, ["optim.lr=1e9", "model.name=vit_ti_16"]), data, out=tmp_path / "run")
    with pytest.raises(ModelError):
        ModelFolder.read(tmp_path / "run")


def test_a_dev_run_goes_the_whole_way_and_keeps_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fast_dev_run(RECIPE, data)
    assert list(tmp_path.iterdir()) == []


def test_a_dev_run_tells_what_can_t_be_read_and_names_no_file_of_its_own(photos: Path) -> None:
    (photos / "red" / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"red/broken\.jpg") as caught:
        fast_dev_run(RECIPE, photos)
    assert "audit.json" not in str(caught.value)


def test_a_dev_run_trains_on_every_class_however_rare(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", classes=("blue", "green", "red"), count=40)
    for path in sorted((photos / "green").iterdir())[3:]:
        path.unlink()
    fast_dev_run(override(RECIPE, ["batch_size=4", "loss.class_weights=balanced"]), photos)


def test_runs_without_a_name_are_numbered(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = replace(RECIPE, epochs=1)
    assert [str(train(recipe, data).path) for _ in range(2)] == ["runs/photos", "runs/photos-2"]
    monkeypatch.setattr("sightline.training.is_claimed", lambda folder: str(folder) == "runs/photos-3")
    assert str(train(recipe, data).path) == "runs/photos-4"


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_channels_last_and_bf16_train_too(data: Path, tmp_path: Path, precision: str) -> None:
    recipe = override(RECIPE, ["train.channels_last=true", f"train.precision={precision}", "epochs=2"])
    assert float(rows(train(recipe, data, out=tmp_path / "run").path)[-1]["train_loss"]) < 2


def test_what_a_run_asks_of_torch_ends_with_it(data: Path, tmp_path: Path) -> None:
    asked = list[bool]()

    class Watched(Loss):
        def forward(self, logits: Tensor, targets: Tensor, *, some_unlabelled: bool = False) -> Tensor:
            asked.append(torch.are_deterministic_algorithms_enabled())
            return super().forward(logits, targets, some_unlabelled=some_unlabelled)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sightline.training.labels.Loss", Watched)
        train(override(RECIPE, ["epochs=1", "train.deterministic=true"]), data, out=tmp_path / "run")
    assert asked
    assert all(asked)
    assert not torch.are_deterministic_algorithms_enabled()


def test_accumulating_gives_the_gradients_of_the_large_batch(data: Path, tmp_path: Path) -> None:
    """To rounding, at a rate that lets it grow little; batch norm would see the statistics of the small batches."""
    plain = [
        "epochs=1",
        "train.select=last",
        "optim.name=sgd",
        "optim.momentum=0",
        "optim.lr=0.01",
        "model.norm=group",
    ]
    large = train(override(RECIPE, [*plain, "batch_size=14"]), data, out=tmp_path / "large").model()
    small = train(
        override(RECIPE, [*plain, "batch_size=7", "optim.accumulate=2"]), data, out=tmp_path / "small"
    ).model()
    for (name, a), b in zip(large.named_parameters(), small.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5), name


def test_activations_computed_again_change_no_weight(data: Path, tmp_path: Path) -> None:
    settings = ["epochs=1", "model.dropout=0.1", "model.drop_path=0.1", "train.select=last"]
    kept = train(override(RECIPE, settings), data, out=tmp_path / "kept")
    again = train(override(RECIPE, [*settings, "train.checkpoint_activations=true"]), data, out=tmp_path / "again")
    assert again.spec.weights_sha256 == kept.spec.weights_sha256


@pytest.mark.slow
def test_compiled_training_learns_the_same_to_rounding(data: Path, tmp_path: Path) -> None:
    settings = ["epochs=1", "train.select=last", "model.name=vit_ti_16", "data.image_size=32", "data.resize=32"]
    plain = train(override(RECIPE, settings), data, out=tmp_path / "plain")
    compiled = train(override(RECIPE, [*settings, "train.compile=true"]), data, out=tmp_path / "compiled")
    first, second = (float(rows(folder.path)[0]["train_loss"]) for folder in (plain, compiled))
    assert first == pytest.approx(second, rel=1e-3)


NO_COMPILER = [
    "InvalidCxxCompiler: No working C++ compiler found in torch._inductor.config.cpp.cxx: (None, 'g++')",
    "RuntimeError: Failed to find C compiler. Please specify via CC environment variable or set triton.",
]


@pytest.mark.parametrize("said", NO_COMPILER)
def test_compiling_without_a_compiler_is_one_sentence(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(images: torch.Tensor) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(torch, "compile", lambda _: failing)
    with pytest.raises(SightlineError, match=r"^train\.compile needs a C\+\+ compiler \(g\+\+\), and none works"):
        compiling_task().outputs(torch.randn(2, 3, 16, 16))


@pytest.mark.slow
def test_torch_says_in_these_words_that_no_compiler_works(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config, cpp_builder

    monkeypatch.setattr(config.cpp, "cxx", (None, "/nonexistent/g++"))
    cpp_builder.cpp_compiler_search.cache_clear()
    with pytest.raises(SightlineError, match=r"^train\.compile needs a C\+\+ compiler"):
        compiling_task().outputs(torch.randn(2, 3, 16, 16))
    cpp_builder.cpp_compiler_search.cache_clear()


def compiling_task() -> ClassificationTask:
    recipe = override(RECIPE, ["train.compile=true"])
    return ClassificationTask(create_model("resnet20", num_classes=3), recipe, 1, Loss(recipe.loss))
