"""Layer sensitivity: each layer alone, judged on the validation split."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from making import make_folder

from sightline.compressing.images import find_images
from sightline.compressing.sensitivity import _Judge, sensitivity
from sightline.data.loader import Batches
from sightline.errors import DataError, ModelError
from sightline.model_folder import ModelFolder
from sightline.models import Classifier
from sightline.pruning.importance import Importance


def test_every_layer_has_a_row_for_each_ratio_and_cuts_that_share_of_it(parent: ModelFolder) -> None:
    cuts = sensitivity(parent, ratios=(0.25, 0.5))
    assert len({cut.layer for cut in cuts}) * 2 == len(cuts) == 18
    assert all(cut.num_cut == cut.ratio * cut.num_units for cut in cuts)


def test_the_command_prints_a_row_a_layer_and_writes_the_plot(
    run_cli: Callable[..., tuple[int, str, str]], parent: ModelFolder, tmp_path: Path
) -> None:
    code, printed, said = run_cli("compress", parent.path, "--sensitivity", tmp_path / "plot.png")
    assert code == 0, said
    assert "layer1.0.conv1" in printed
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    code, _, said = run_cli("compress", parent.path, "--sensitivity", tmp_path / "plot.txt")
    assert (code, "must end in .png" in said) == (2, True)


def test_ratios_outside_0_to_1_are_refused(parent: ModelFolder) -> None:
    with pytest.raises(ModelError, match=r"above 0 and below 1, got \[1.5\]"):
        sensitivity(parent, ratios=(0.5, 1.5))
    with pytest.raises(ModelError, match="measures the loss itself"):
        sensitivity(parent, importance="taylor")


def test_an_unreadable_image_is_to_be_removed_or_replaced(photos: Path, parent: ModelFolder) -> None:
    (photos / "red" / "003.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"the file is empty\).* Remove or replace it\.$"):
        sensitivity(parent, photos)


@pytest.mark.parametrize("importance", ["batch_norm", "taylor"])
def test_a_measure_that_a_network_without_batch_norm_can_t_have_names_two_that_it_can(
    importance: Importance, tmp_path: Path
) -> None:
    folder = make_folder(tmp_path / "vit", network="vit_ti_16", image_size=32)
    with pytest.raises(ModelError, match=r"\. Use magnitude or group_norm\.$"):
        sensitivity(folder, importance=importance)


@pytest.mark.parametrize("option", [("--max-drop", "1"), ("--out", "x"), ("--set", "seed=1"), ("--epochs", "5")])
def test_options_of_steps_are_refused_beside_it(
    run_cli: Callable[..., tuple[int, str, str]], parent: ModelFolder, tmp_path: Path, option: tuple[str, str]
) -> None:
    code, _, said = run_cli("compress", parent.path, "--sensitivity", tmp_path / "plot.png", *option)
    assert (code, f"would ignore {option[0]}" in said) == (2, True), said
    assert not (tmp_path / "plot.png").exists()


def test_what_judges_a_network_leaves_it_where_it_is(parent: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[Classifier] = []

    def collect(network: Classifier, batches: Batches, *_: object, **__: object) -> torch.Tensor:
        judged.append(network)
        return torch.zeros(sum(map(len, batches.order)), 3)

    monkeypatch.setattr("sightline.compressing.sensitivity.collect_logits", collect)
    network = parent.model().train()
    _Judge(parent, find_images(parent, None), 8, "cpu").right(network)
    assert network.training
    assert judged[0] is not network
