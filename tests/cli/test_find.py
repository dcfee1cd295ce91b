from collections.abc import Callable
from pathlib import Path

SETTINGS = [
    word
    for setting in ("model.name=resnet20", "data.image_size=16", "data.resize=18", "data.num_workers=0", "batch_size=8")
    for word in ("--set", setting)
]


def test_find_lr_writes_its_plot_and_prints_the_setting(
    photos: Path, tmp_path: Path, run_cli: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, _ = run_cli("find", "lr", photos, *SETTINGS, "--out", tmp_path / "found", "--updates", "30")
    assert code == 0
    assert "--set optim.lr=" in out
    assert (tmp_path / "found" / "learning-rate.png").exists()


def test_find_batch_size_prints_what_it_measured_and_the_setting(
    photos: Path, run_cli: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, _ = run_cli("find", "batch-size", photos, *SETTINGS, "--set", "train.device=cpu")
    assert code == 0
    assert "images/s" in out
    assert "--set batch_size=" in out.splitlines()[-1]


def test_a_wrong_range_is_one_sentence(photos: Path, run_cli: Callable[..., tuple[int, str, str]]) -> None:
    code, _, said = run_cli("find", "lr", photos, *SETTINGS, "--updates", "3")
    assert code == 2
    assert said.endswith("error: The range test needs at least 20 updates to see a slope, got 3.\n")


def test_a_folder_among_the_images_is_refused_before_anything_is_trained(
    photos: Path, run_cli: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, said = run_cli("find", "lr", photos, *SETTINGS, "--out", photos / "red", "--updates", "20")
    assert code == 2
    assert "Choose another place." in said
    assert not (photos / "red" / "learning-rate.png").exists()
