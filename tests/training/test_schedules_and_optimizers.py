import itertools

import pytest
import torch

from sightline.models import create_model
from sightline.recipe import OptimConfig
from sightline.training.optimizers import build_optimizer, parameter_groups
from sightline.training.schedules import learning_rate


def rates(config: OptimConfig, updates: int = 100, per_epoch: float = 10) -> list[float]:
    return [learning_rate(config, update, updates, per_epoch) for update in range(updates)]


def test_cosine_starts_at_the_peak_and_ends_near_zero() -> None:
    values = rates(OptimConfig(lr=0.4))
    assert values[0] == 0.4
    assert values[50] == pytest.approx(0.2)
    assert 0 < values[-1] < 0.001
    assert values == sorted(values, reverse=True)


def test_cosine_is_torch_s_own() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.4)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100)
    expected: list[float] = []
    for _ in range(100):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert rates(OptimConfig(lr=0.4)) == pytest.approx(expected)


def test_the_warm_up_climbs_in_equal_steps_and_the_peak_follows_it() -> None:
    values = rates(OptimConfig(lr=1.0, warmup_epochs=2))
    steps = [b - a for a, b in itertools.pairwise(values[:21])]
    assert steps == pytest.approx([1 / 21] * 20)
    assert max(values) == values[20] == 1.0


def test_a_constant_rate_is_constant() -> None:
    assert set(rates(OptimConfig(lr=0.1, schedule="constant"))) == {0.1}


def test_only_matrices_and_kernels_decay() -> None:
    model = create_model("resnet20")
    decayed, kept = parameter_groups(model, 0.1)
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert {p.ndim for p in kept["params"]} == {1}
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("name", "tables"),
    [("vit_ti_16", {"cls_token", "pos_embed"}), ("swin_t", {"relative_position_bias_table"})],
)
def test_position_tables_and_class_tokens_do_not_decay(name: str, tables: set[str]) -> None:
    with torch.device("meta"):
        model = create_model(name)
    kept = {id(p) for p in parameter_groups(model, 0.1)[1]["params"]}
    found = {n.rpartition(".")[2]: p for n, p in model.named_parameters() if n.rpartition(".")[2] in tables}
    assert set(found) == tables
    assert all(id(parameter) in kept for parameter in found.values())


def test_frozen_parameters_are_left_out() -> None:
    model = create_model("resnet20")
    model.conv1.weight.requires_grad = False
    assert all(p is not model.conv1.weight for group in parameter_groups(model, 0.1) for p in group["params"])


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (OptimConfig(name="sgd", momentum=0.8, nesterov=True), torch.optim.SGD),
        (OptimConfig(name="adamw", betas=(0.8, 0.9)), torch.optim.AdamW),
    ],
)
def test_every_setting_reaches_torch_s_optimiser(config: OptimConfig, kind: type) -> None:
    optimizer = build_optimizer(create_model("resnet20"), config)
    assert type(optimizer) is kind
    group = optimizer.param_groups[0]
    assert group["weight_decay"] == config.weight_decay
    if config.name == "sgd":
        assert (group["momentum"], group["nesterov"]) == (0.8, True)
    else:
        assert group["betas"] == (0.8, 0.9)
