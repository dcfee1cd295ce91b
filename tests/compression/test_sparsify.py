"""Sparsity: which weights become zero, that they stay zero in training, and that the folder opens anywhere."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sightline.compression import compress
from sightline.compression.distill import Distill
from sightline.compression.sparsify import Sparsify
from sightline.errors import ModelError
from sightline.model_folder import ModelFolder
from sightline.models import create_model
from sightline.pruning.zeros import keep_n_of_m, smallest_to_zero, sparsity, weights_of
from sightline.training.limits import Zeros

Cli = Callable[..., tuple[int, str, str]]


pytestmark = pytest.mark.usefixtures("untimed")


def test_the_smallest_of_all_layers_become_zero() -> None:
    weights = {"a": torch.tensor([[4.0, -1.0], [0.5, 3.0]]), "b": torch.tensor([[-0.1, 8.0]])}
    smallest_to_zero(weights, 0.5)
    assert weights["a"].tolist() == [[4.0, 0.0], [0.0, 3.0]]
    assert weights["b"].tolist() == [[0.0, 8.0]]


def test_equal_weights_leave_the_very_share() -> None:
    weights = {"a": torch.ones(10, 10)}
    smallest_to_zero(weights, 0.3)
    assert int(weights["a"].sum()) == 70


def test_of_every_four_inputs_of_a_unit_two_stay() -> None:
    kernel = torch.randn(5, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    odd = torch.randn(4, 3, 3, 3)
    before = kernel.clone()
    assert keep_n_of_m({"kernel": kernel, "first": odd.clone()}, 2, 4) == ["first"]
    groups = kernel.permute(0, 2, 3, 1).reshape(-1, 4)
    assert ((groups != 0).sum(1) == 2).all()
    was = before.permute(0, 2, 3, 1).reshape(-1, 4).abs()
    assert torch.equal(groups.abs().sum(1), was.topk(2, dim=1).values.sum(1))


@pytest.mark.parametrize("name", ["resnet20", "vit_ti_16", "swin_t", "efficientnet_b0"])
def test_every_kind_of_network_has_weights_to_zero(name: str) -> None:
    model = create_model(name, num_classes=3, image_size=32)
    smallest_to_zero(weights_of(model), 0.6)
    assert sparsity(model) == pytest.approx(0.6, abs=1e-4)


@pytest.mark.parametrize("method", [Sparsify(share=0.7, epochs=2), Sparsify(pattern=(2, 4), epochs=2)])
def test_zeros_stay_zero_in_training_and_the_others_move(method: Sparsify, parent: ModelFolder, tmp_path: Path) -> None:
    rows = compress(parent, [method, Distill(teacher=str(parent.path), epochs=1)], out=tmp_path / "out")
    first, second = (ModelFolder.read(row.path).model() for row in rows[1:])
    whole = dict(parent.model().named_parameters())
    assert sparsity(parent.model()) < 0.001
    assert sparsity(first) >= 0.45
    for name, weight in weights_of(first).items():
        stays = weight != 0
        assert (weights_of(second)[name][~stays] == 0).all()  # the next method's training keeps them, too
        assert (weight[stays] != whole[name][stays]).any()


@pytest.mark.parametrize("optimizer", ["adamw", "schedulefree_adamw"])
def test_zeros_stay_zero_whatever_optimiser_trains(optimizer: str, parent: ModelFolder, tmp_path: Path) -> None:
    settings = (f"optim.name={optimizer}", "optim.schedule=constant")
    [_, row] = compress(parent, [Sparsify(share=0.5, epochs=1, settings=settings)], out=tmp_path / "out")
    assert sparsity(ModelFolder.read(row.path).model()) == pytest.approx(0.5, abs=1e-4)


def test_zeros_to_keep_where_there_are_none_are_told(caplog: pytest.LogCaptureFixture) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    torch.nn.init.ones_(model[0].weight)  # pyright: ignore[reportArgumentType]
    Zeros(model).keep(torch.optim.SGD(model.parameters()))
    assert "train.keep_zeros keeps nothing" in caplog.text
    caplog.clear()
    with torch.no_grad():
        model[0].weight[0, 1] = 0  # pyright: ignore[reportIndexIssue]
    Zeros(model)
    assert not caplog.text


def test_the_command_takes_a_share_or_a_pattern(run_cli: Cli, parent: ModelFolder, tmp_path: Path) -> None:
    code, out, _ = run_cli(
        "compress", str(parent.path), "--sparsify", "2:4", "--epochs", "0", "--out", str(tmp_path / "a")
    )
    assert code == 0
    assert "1-sparsify" in out
    assert 0.45 < sparsity(ModelFolder.read(tmp_path / "a" / "1-sparsify").model()) <= 0.5


@pytest.mark.parametrize("text", ["1", "0", "-0.5", "4:2", "0:4", "2:x", "half"])
def test_what_is_no_sparsity_is_refused(text: str, run_cli: Cli, parent: ModelFolder, tmp_path: Path) -> None:
    code, _, error = run_cli("compress", str(parent.path), "--sparsify", text, "--out", str(tmp_path / "a"))
    assert code == 2
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "a").exists()


def test_a_pattern_that_fits_no_layer_is_refused(parent: ModelFolder, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="divide by 7"):
        compress(parent, [Sparsify(pattern=(2, 7), epochs=0)], out=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_share_and_a_pattern_contradict_each_other() -> None:
    with pytest.raises(ModelError, match="a share of the weights, or a pattern"):
        Sparsify(share=0.5, pattern=(2, 4))
    with pytest.raises(ModelError, match="epochs"):
        Sparsify(share=0.5, epochs=-1)
