import itertools
import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from sightline.errors import RecipeError
from sightline.models import create_model
from sightline.recipe import OptimConfig, Recipe
from sightline.recipe_text import override
from sightline.training.muon import MuonWithAdamW, hidden_matrices
from sightline.training.optimizers import build_optimizer, set_rates
from sightline.training.parameter_groups import layer_names, parameter_groups, rate_factors
from sightline.training.schedules import learning_rate


def rates(config: OptimConfig, updates: int = 100, per_epoch: float = 10) -> list[float]:
    return [learning_rate(config, update, updates, per_epoch) for update in range(updates)]


def test_cosine_starts_at_the_peak_and_ends_near_zero() -> None:
    values = rates(OptimConfig(lr=0.4))
    assert values[0] == 0.4
    assert values[50] == pytest.approx(0.2)
    assert 0 < values[-1] < 0.001
    assert values == sorted(values, reverse=True)


def test_the_warm_up_climbs_in_equal_steps_and_the_peak_follows_it() -> None:
    values = rates(OptimConfig(lr=1.0, warmup_epochs=2))
    steps = [b - a for a, b in itertools.pairwise(values[:21])]
    assert steps == pytest.approx([1 / 21] * 20)
    assert max(values) == values[20] == 1.0


def test_only_matrices_and_kernels_decay() -> None:
    model = create_model("resnet20")
    decayed, kept = parameter_groups(model, OptimConfig(weight_decay=0.1))
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
    kept = {id(p) for p in parameter_groups(model, OptimConfig(weight_decay=0.1))[1]["params"]}
    found = {n.rpartition(".")[2]: p for n, p in model.named_parameters() if n.rpartition(".")[2] in tables}
    assert set(found) == tables
    assert all(id(parameter) in kept for parameter in found.values())


def test_frozen_parameters_are_left_out() -> None:
    model = create_model("resnet20")
    model.conv1.weight.requires_grad = False
    groups = parameter_groups(model, OptimConfig())
    assert all(p is not model.conv1.weight for group in groups for p in group["params"])


@pytest.mark.parametrize(
    ("config", "kind", "expected"),
    [
        (OptimConfig(name="sgd", momentum=0.8, nesterov=True), torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
        (OptimConfig(name="sgd"), torch.optim.SGD, {"momentum": 0.9, "nesterov": False}),
        (OptimConfig(name="adam"), torch.optim.Adam, {"betas": (0.9, 0.999), "decoupled_weight_decay": False}),
        (OptimConfig(name="adamw", betas=(0.8, 0.9)), torch.optim.AdamW, {"betas": (0.8, 0.9)}),
        (OptimConfig(name="adamw", decay="l2"), torch.optim.Adam, {"decoupled_weight_decay": False}),
        (OptimConfig(name="adam", decay="decoupled"), torch.optim.AdamW, {"decoupled_weight_decay": True}),
        (OptimConfig(name="nadam", decay="decoupled"), torch.optim.NAdam, {"decoupled_weight_decay": True}),
        (OptimConfig(name="radam"), torch.optim.RAdam, {"decoupled_weight_decay": False}),
        (OptimConfig(name="rmsprop", momentum=0.5), torch.optim.RMSprop, {"momentum": 0.5}),
        (OptimConfig(name="adagrad"), torch.optim.Adagrad, {"lr_decay": 0}),
    ],
)
def test_every_setting_reaches_torch_s_optimiser(config: OptimConfig, kind: type, expected: dict[str, Any]) -> None:
    optimizer = build_optimizer(create_model("resnet20"), config)
    assert type(optimizer) is kind
    group = optimizer.param_groups[0]
    assert group["weight_decay"] == config.weight_decay
    assert {name: group[name] for name in expected} == expected


@pytest.mark.parametrize("name", ["lion", "lamb", "schedulefree_adamw"])
def test_betas_reach_the_libraries_optimisers(name: Any) -> None:
    optimizer = build_optimizer(create_model("resnet20"), OptimConfig(name=name, betas=(0.7, 0.8)))
    assert all(group["betas"] == (0.7, 0.8) for group in optimizer.param_groups)


def test_nothing_is_fused_where_the_gradients_are_scaled() -> None:
    model = create_model("resnet20")
    assert build_optimizer(model, OptimConfig()).param_groups[0]["fused"]
    assert not build_optimizer(model, OptimConfig(), unscales=True).param_groups[0]["fused"]


@pytest.mark.parametrize("name", ["resnet20", "vit_ti_16", "swin_t", "efficientnet_b0_cifar", "vgg16_bn", "googlenet"])
def test_layers_hold_every_parameter_once_from_the_stem_to_the_head(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    layers = layer_names(model)
    assert sorted(itertools.chain(*layers)) == sorted(key for key, _ in model.named_parameters())
    assert "head.weight" in layers[-1]
    assert all(layers)


@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224", "timm/swin_tiny_patch4_window7_224"])
def test_timm_s_blocks_are_layers_too(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    layers = layer_names(model)
    assert sum(any(".attn." in key for key in names) for names in layers) == 12
    assert sorted(itertools.chain(*layers)) == sorted(key for key, _ in model.named_parameters())


def test_layer_decay_falls_from_the_head_to_the_stem_as_in_beit() -> None:
    """BEiT's code: the embeddings are layer 0 of L + 2, block i is layer i + 1, the norm and the head come last."""
    with torch.device("meta"):
        model = create_model("vit_ti_16")
    factors = rate_factors(model, OptimConfig(layer_decay=0.75))
    assert factors["head.weight"] == factors["norm.weight"] == 1
    assert factors["blocks.11.attn.qkv.weight"] == pytest.approx(0.75)
    assert factors["blocks.0.mlp.fc1.bias"] == pytest.approx(0.75**12)
    assert {factors[key] for key in ("cls_token", "pos_embed", "patch_embed.proj.weight")} == {0.75**13}


def test_the_head_s_factor_multiplies_its_rate_alone() -> None:
    model = create_model("resnet20")
    config = OptimConfig(head_lr=10, layer_decay=0.5)
    optimizer = build_optimizer(model, config)
    set_rates(optimizer, config, 0.1, 0.9)
    by_parameter = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: by_parameter[id(parameter)] for name, parameter in model.named_parameters()}
    assert found["head.weight"] == found["head.bias"] == pytest.approx(1.0)
    assert found["layer3.2.conv1.weight"] == pytest.approx(0.05)
    assert found["conv1.weight"] == pytest.approx(0.1 * 0.5**10)


def test_one_cycle_s_momentum_reaches_sgd_and_adam() -> None:
    model = create_model("resnet20")
    for config, key, expected in (
        (OptimConfig(name="sgd", schedule="one_cycle", low_momentum=0.8), "momentum", 0.85),
        (OptimConfig(name="adamw", schedule="one_cycle", low_momentum=0.8), "betas", (0.85, 0.999)),
    ):
        optimizer = build_optimizer(model, config)
        set_rates(optimizer, config, 0.1, 0.85)
        assert {group[key] for group in optimizer.param_groups} == {expected}


def test_muon_moves_hidden_matrices_and_kernels_and_leaves_the_rest_to_adamw() -> None:
    model = create_model("efficientnet_b0_cifar")
    hidden = {name for name, parameter in model.named_parameters() if parameter in hidden_matrices(model)}
    assert "stage2.0.expand.conv.weight" in hidden
    assert "stage2.0.excitation.reduce.weight" in hidden
    assert not hidden & {"stem.conv.weight", "head.weight", "stage2.0.depthwise.conv.weight"}
    with torch.device("meta"):
        vit = create_model("vit_ti_16")
    matrices = {name for name, parameter in vit.named_parameters() if parameter in hidden_matrices(vit)}
    kinds = {name.partition(".")[2].partition(".")[2] for name in matrices}
    assert kinds == {"attn.qkv.weight", "attn.proj.weight", "mlp.fc1.weight", "mlp.fc2.weight"}


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_muon_s_update_of_a_kernel_is_torch_s_on_the_kernel_as_a_matrix(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    model = nn.Sequential()
    model.stem, model.kernel, model.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3, bias=False), nn.Linear(6, 2)
    model.to(memory_format=memory_format)
    matrix = nn.Parameter(model.kernel.weight.detach().clone().contiguous().flatten(1))
    reference = torch.optim.Muon([matrix], lr=0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    optimizer = build_optimizer(model, OptimConfig(name="muon", lr=0.01, weight_decay=0.1))
    assert isinstance(optimizer, MuonWithAdamW)
    for _ in range(3):
        gradient = torch.randn(6, 4, 3, 3)
        model.kernel.weight.grad = gradient.contiguous(memory_format=memory_format)
        matrix.grad = gradient.flatten(1)
        optimizer.step()
        reference.step()
    assert torch.allclose(model.kernel.weight.flatten(1), matrix, atol=2e-3)  # the iteration runs in bfloat16
    assert model.kernel.weight.is_contiguous(memory_format=memory_format)


def orthogonalized(matrix: Tensor) -> Tensor:
    """Newton and Schulz' iteration with the post's coefficients, in float64."""
    x = matrix.double() / matrix.double().norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


@pytest.mark.parametrize(("emulated", "error"), [(True, (0, 1e-5)), (False, (1e-4, 1e-1))])
def test_muon_computes_in_float32_where_a_processor_lacks_bfloat16(
    emulated: bool, error: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.training.muon.emulates_bf16", lambda _: emulated)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 16), nn.Linear(16, 32, bias=False), nn.Linear(32, 2))
    kernel = cast(nn.Linear, model[1]).weight
    before, gradient = kernel.detach().clone(), torch.randn(32, 16)
    kernel.grad = gradient.clone()
    build_optimizer(model, OptimConfig(name="muon", lr=0.01, weight_decay=0.0)).step()
    rate = 0.01 * 0.2 * math.sqrt(32)  # Muon is Scalable for LLM Training, equation 4
    expected = orthogonalized(gradient.T).T
    moved = (before.double() - kernel.detach().double()) / rate
    assert error[0] <= float((moved - expected).norm() / expected.norm()) < error[1]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            ["optim.momentum=0.8"],
            "optim.momentum is for optim.name 'sgd' or 'rmsprop' or 'muon'; optim.name is 'adamw'",
        ),
        (["optim.name=sgd", "optim.betas=[0.9,0.99]"], "optim.betas is for optim.name 'adam' or"),
        (["optim.name=muon", "optim.decay=l2"], "optim.decay 'l2' makes no sense with optim.name 'muon'"),
        (["optim.name=lamb", "optim.decay=decoupled"], "optim.decay 'decoupled' makes no sense with optim.name 'lamb'"),
        (["optim.decay=l2", "optim.weight_decay=0"], "optim.decay 'l2' has nothing to apply"),
        (["optim.layer_decay=1.5"], "optim.layer_decay must be greater than 0 and at most 1, got 1.5"),
        (["optim.head_lr=0"], "optim.head_lr must be greater than 0"),
        (["optim.clip_norm=1", "optim.clip_value=1"], "optim.clip_norm and optim.clip_value both clip gradients"),
        (["optim.clip_adaptive=0"], "optim.clip_adaptive must be greater than 0, or null for no limit, got 0"),
        (["optim.target_batch=128", "optim.accumulate=2"], "optim.target_batch chooses how many batches to accumulate"),
        (["optim.target_batch=16"], "optim.target_batch (16) must be at least batch_size (64)"),
    ],
)
def test_a_setting_that_contradicts_another_is_refused_by_name(settings: list[str], sentence: str) -> None:
    with pytest.raises(RecipeError) as error:
        override(Recipe(), settings)
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize(("target", "batches"), [(64, 1), (65, 2), (128, 2), (250, 4), (256, 4)])
def test_the_target_batch_takes_as_many_batches_as_reach_it(target: int, batches: int) -> None:
    assert Recipe(batch_size=64, optim=OptimConfig(target_batch=target)).accumulate == batches


def test_the_libraries_are_imported_by_who_asks_for_them_alone(tmp_path: Path) -> None:
    """They take seconds."""
    import subprocess
    import sys

    script = (
        "import sys; from sightline.training import task; "
        "print({'pytorch_optimizer', 'schedulefree'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "set()"
