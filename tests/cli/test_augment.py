"""`sightline augment`: the contact sheet shows the pixels that training sees."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sightline.augmentations import Batch
from sightline.data.order import APPEARANCE
from sightline.data.prepare import prepare
from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.training import train
from sightline.training.preview import preview
from sightline.training.task import ClassificationTask

SMALL = [
    "model.name=resnet20",
    "data.image_size=16",
    "data.resize=20",
    "data.num_workers=0",
    "batch_size=8",
    "epochs=2",
]
Cli = Callable[..., tuple[int, str, str]]


def settings(*more: str) -> list[str]:
    return [word for setting in (*SMALL, *more) for word in ("--set", setting)]


@pytest.mark.parametrize(
    "more",
    [
        ["augment=[{crop: {padding: 2}}, flip, color_jitter]"],
        ["augment=[crop, mixup, {cutmix: {probability: 0.5}}]"],
        ["augment=[crop, flip]", "data.sampling=balanced"],
        ["augment=[crop, flip, mixup]", "data.repeats=2"],
        ["augment=[crop, {resize_progressively: {start: 8, epochs: 1}}]"],
        ["augment=[]"],
    ],
)
def test_the_pixels_shown_are_those_a_training_sees(
    more: list[str], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = override(Recipe(), [*SMALL, *more])
    seen: list[tuple[int, Batch]] = []
    original = ClassificationTask.augment

    def recording(task: ClassificationTask, batch: Batch, epoch: int) -> Batch:
        augmented = original(task, batch, epoch)
        seen.append((epoch, replace(augmented, images=augmented.images.clone())))
        return augmented

    monkeypatch.setattr(ClassificationTask, "augment", recording)
    train(recipe, photos, out=tmp_path / "run")
    shown = preview(recipe, prepare(photos, recipe.data, recipe.seed), num_images=4, num_epochs=2)
    assert len(shown) == 4
    for row in shown:
        for epoch in (0, 1):
            rows: list[Any] = [
                (sample, batch.images[place], batch.targets[place])
                for of_epoch, batch in seen
                for place, sample in enumerate(batch.samples.tolist())
                if of_epoch == epoch and sample % APPEARANCE == row.number
            ]
            if not rows:
                assert row.versions[epoch] is None
                continue
            _, image, target = rows[0]
            assert torch.equal(row.versions[epoch], image)  # type: ignore[arg-type]
            assert torch.equal(row.targets[epoch], target)  # type: ignore[arg-type]


def test_the_sheet_has_a_row_an_image_and_a_column_an_epoch(photos: Path, tmp_path: Path, run_cli: Cli) -> None:
    sizes: list[tuple[int, int]] = []
    for number, (images, versions) in enumerate([(2, 3), (3, 3), (3, 4)]):
        out = tmp_path / f"{number}.png"
        arguments = settings("augment=[crop, flip]")
        code, said, _ = run_cli(
            "augment", photos, *arguments, "--out", out, "--images", str(images), "--versions", str(versions)
        )
        assert code == 0
        assert said.strip() == str(out)
        with Image.open(out) as sheet:
            sizes.append(sheet.size)
    assert sizes[0][0] == sizes[1][0] < sizes[2][0]
    assert sizes[0][1] < sizes[1][1] == sizes[2][1]


def test_the_same_command_writes_the_same_file(photos: Path, tmp_path: Path, run_cli: Cli) -> None:
    for name in ("a.png", "b.png"):
        run_cli("augment", photos, *settings("augment=[crop, mixup]"), "--out", tmp_path / name, "--images", "2")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_class_s_name_may_hold_a_line_end(photos: Path, tmp_path: Path, run_cli: Cli) -> None:
    (photos / "red").rename(photos / "re\nd")
    code, _, _ = run_cli("augment", photos, *settings("augment=[crop, mixup]"), "--out", tmp_path / "sheet.png")
    assert code == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 0


def test_the_first_images_are_of_different_classes(photos: Path) -> None:
    recipe = override(Recipe(), SMALL)
    prepared = prepare(photos, recipe.data, recipe.seed)
    shown = preview(recipe, prepared, num_images=3, num_epochs=1)
    assert {prepared.table.labels[row.number] for row in shown} == {"blue", "green", "red"}
    assert {row.number for row in shown} <= set(prepared.splits.train.tolist())


def test_a_full_disk_leaves_no_half_a_sheet(photos: Path, full_disk: Path, run_cli: Cli) -> None:
    (full_disk / "filler").write_bytes(b"x" * 250_000)
    code, _, error = run_cli("augment", photos, *settings("augment=[crop, color_jitter]"), "--out", full_disk / "a.png")
    assert code == 2
    assert "Could not write" in error
    assert [path.name for path in full_disk.iterdir()] == ["filler"]


def test_a_wrong_recipe_is_one_sentence(photos: Path, tmp_path: Path, run_cli: Cli) -> None:
    code, _, error = run_cli("augment", photos, "--set", "augment=[flop]", "--out", tmp_path / "a.png")
    assert code == 2
    assert "Unknown augmentation 'flop'. Did you mean 'flip'?" in error
    assert not (tmp_path / "a.png").exists()


def test_a_picture_is_a_png_by_its_name_too(photos: Path, tmp_path: Path, run_cli: Cli) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("seed: 1\n")
    code, _, err = run_cli("augment", photos, "--out", recipe)
    assert (code, err.count("\n")) == (2, 1)
    assert "should end in .png" in err
    assert recipe.read_text() == "seed: 1\n"
