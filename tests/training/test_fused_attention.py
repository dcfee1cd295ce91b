"""Attention's gradients by compiled loops are as exact as torch's in bfloat16."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import RecipeError
from sightline.model_folder import Architecture
from sightline.models import create_model
from sightline.native import attention, batch_norm, building
from sightline.recipe import TrainConfig
from sightline.training.attention_gradients import differentiate_attention_in_float32
from sightline.training.fastest import Candidate, candidates
from sightline.training.fused_attention import fuse_attention
from sightline.training.layers import settle_layers
from sightline.training.mixed_attention import mix_attention

pytestmark = pytest.mark.skipif(not attention.available(), reason="needs AMX and a C compiler")

PLAIN = Candidate(precision="bf16", channels_last=False)
FUSED = Candidate(precision="bf16", channels_last=False, fused_attention=True)
CPU = torch.device("cpu")


class Attention(nn.Module):
    """A layer that gives what is put in to torch's attention."""

    num_heads = 1

    def forward(self, *args: Tensor, **named: object) -> Tensor:
        return F.scaled_dot_product_attention(*args, **named)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """bfloat16."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def distance(values: Tensor, exact: Tensor) -> float:
    """Relative to the exact values' length."""
    return float((values.double() - exact.double()).norm() / exact.double().norm())


def differentiated(layer: nn.Module, given: list[Tensor], grad: Tensor, **named: object) -> tuple[Tensor, list[Tensor]]:
    """The result, and the gradients of query, key and value."""
    leaves = [each.detach().requires_grad_() for each in given]
    output = layer(*leaves, **named)
    output.backward(grad)
    return output.detach(), [leaf.grad for leaf in leaves if leaf.grad is not None]


def fused(layer: nn.Module) -> nn.Module:
    ours = copy.deepcopy(layer)
    assert fuse_attention(ours) == 1
    return ours


@pytest.mark.parametrize(
    ("batch", "heads", "queries", "keys", "depth"),
    [
        (2, 3, 197, 197, 64),
        (5, 2, 17, 17, 32),
        (1, 1, 1, 1, 64),
        (2, 2, 33, 70, 96),
        (1, 2, 64, 32, 128),
        (1, 1, 65, 600, 256),
    ],
)
@pytest.mark.parametrize("scale", [None, 0.3])
def test_gradients_are_as_exact_as_torchs(
    batch: int, heads: int, queries: int, keys: int, depth: int, scale: float | None
) -> None:
    query, grad = drawn(batch, heads, queries, depth), drawn(batch, heads, queries, depth, seed=1)
    key, value = drawn(batch, heads, keys, depth, seed=2), drawn(batch, heads, keys, depth, seed=3)
    output, found = differentiated(fused(Attention()), [query, key, value], grad, scale=scale)
    theirs, usual = differentiated(Attention(), [query, key, value], grad, scale=scale)
    double = [each.double() for each in (query, key, value)]
    _, exact = differentiated(Attention(), double, grad.double(), scale=scale)
    assert torch.equal(output, theirs)
    for ours, torchs, truth in zip(found, usual, exact, strict=True):
        assert ours.dtype == torch.bfloat16
        if keys > 1:  # with one key the gradients of query and key are 0
            assert distance(ours, truth) < 1.15 * distance(torchs, truth)
        assert (ours - truth).abs().max() < 0.02 * truth.abs().max() + 1e-6


def test_heads_and_gradients_that_lie_anyhow() -> None:
    packed = list(drawn(2, 50, 3, 4, 32).permute(2, 0, 3, 1, 4).unbind(0))  # as a layer cuts them out of one product
    grad = torch.ones(1, 1, 1, 1, dtype=torch.bfloat16).expand(2, 4, 50, 32)
    apart = [each.contiguous() for each in packed]
    _, expected = differentiated(fused(Attention()), apart, grad.contiguous())
    _, found = differentiated(fused(Attention()), packed, grad)
    assert all(torch.equal(ours, other) for ours, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("settle", [fuse_attention, differentiate_attention_in_float32])
def test_a_token_s_numbers_that_lie_apart_are_torchs_affair(settle: Callable[[nn.Module], int]) -> None:
    given = [drawn(2, 3, 32, 50, seed=seed).transpose(2, 3) for seed in range(3)]
    ours = Attention()
    settle(ours)
    (output, found), (theirs, usual) = (
        differentiated(layer, given, drawn(2, 3, 50, 32)) for layer in (ours, Attention())
    )
    assert torch.equal(output, theirs)
    assert all(torch.equal(ours, torchs) for ours, torchs in zip(found, usual, strict=True))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, partial(torch.autocast, "cpu", torch.bfloat16)])
def test_the_loops_are_built_in_any_mode(
    mode: Callable[[], AbstractContextManager[None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path))
    building.built_once.cache_clear()
    with mode():
        assert attention.available()
        assert batch_norm.available(torch.bfloat16)


def test_products_of_torchs_own_are_right_afterwards() -> None:
    """oneDNN sets up the same tiles of the processor."""
    left, right = drawn(300, 200), drawn(200, 100, seed=1)
    before = left @ right
    differentiated(fused(Attention()), [drawn(2, 2, 40, 64)] * 3, drawn(2, 2, 40, 64))
    assert torch.equal(left @ right, before)


def test_one_head_s_diverging_says_so() -> None:
    given = [drawn(2, 2, 20, 32, seed=seed) for seed in range(3)]
    given[0][1, 1, 3] = float("nan")
    _, (of_query, of_key, _) = differentiated(fused(Attention()), given, drawn(2, 2, 20, 32, seed=4))
    assert of_query[1, 1, 3].isnan().all()
    assert of_key[1, 1].isnan().all()
    assert not of_query[0].isnan().any()
    assert not of_query[1, 0].isnan().any()


@pytest.mark.parametrize(("queries", "keys", "depth"), [(49, 49, 32), (7, 40, 64), (64, 33, 96)])
def test_a_learned_bias_gets_its_gradient(queries: int, keys: int, depth: int) -> None:
    given = [drawn(5, 3, tokens, depth, seed=seed) for seed, tokens in enumerate((queries, keys, keys))]
    grad, bias = drawn(5, 3, queries, depth, seed=4), drawn(3, queries, keys, seed=5).float()
    learned, usual, exact = (
        bias.to(kind, copy=True).requires_grad_() for kind in (bias.dtype, bias.dtype, torch.double)
    )
    output, found = differentiated(fused(Attention()), given, grad, attn_mask=learned)
    mixed = Attention()
    mixed.relative_position_bias_table = nn.Parameter(torch.zeros(1))
    assert mix_attention(mixed) == 1
    theirs, mixeds = differentiated(mixed, given, grad, attn_mask=usual)
    truth, exacts = differentiated(Attention(), [each.double() for each in given], grad.double(), attn_mask=exact)
    assert distance(output, truth) < 1.1 * distance(theirs, truth)
    pairs = zip([*found, learned.grad], [*mixeds, usual.grad], [*exacts, exact.grad], strict=True)
    for ours, others, right in pairs:
        assert distance(ours, right) < 1.1 * distance(others, right)


@pytest.mark.parametrize("shape", [(5, 3, 20, 20), (20, 20), (1, 20, 20), (3, 1, 20)])
def test_what_is_added_otherwise_goes_the_way_of_torch(shape: tuple[int, ...]) -> None:
    given, grad = [drawn(5, 3, 20, 32, seed=seed) for seed in range(3)], drawn(5, 3, 20, 32, seed=4)
    for mask in (drawn(*shape).requires_grad_(), drawn(3, 20, 20)):  # of another shape, and one that isn't learned
        output, found = differentiated(fused(Attention()), given, grad, attn_mask=mask)
        theirs, usual = differentiated(Attention(), given, grad, attn_mask=mask)
        assert torch.equal(output, theirs)
        assert all(torch.equal(ours, torchs) for ours, torchs in zip(found, usual, strict=True))


@pytest.mark.parametrize("shape", [(2, 2, 20, 48), (2, 2, 20, 512), (1, 1, 2100, 32)])
def test_other_shapes_go_the_way_of_float32(shape: tuple[int, ...]) -> None:
    given = [drawn(*shape, seed=seed) for seed in range(3)]
    assert not attention.takes(given[0], given[1], given[2])
    _, found = differentiated(fused(Attention()), given, drawn(*shape, seed=4))
    _, usual = differentiated(Attention(), given, drawn(*shape, seed=4))
    assert all(torch.equal(ours, torchs) for ours, torchs in zip(found, usual, strict=True))


def gradient(model: nn.Module, images: Tensor, *, half: bool = True) -> Tensor:
    torch.manual_seed(1)  # Swin leaves out some of its blocks
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        logits = model(images)
    F.cross_entropy(logits.float(), torch.arange(len(images)) % 10).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


@pytest.mark.parametrize("name", ["vit_ti_16", "swin_t", "timm/deit_tiny_patch16_224"])
def test_a_network_learns_the_same(name: str) -> None:
    torch.manual_seed(0)
    plain = create_model(name, num_classes=10, image_size=64)
    ours, again, exact = (copy.deepcopy(plain) for _ in range(3))
    settle_layers(plain, PLAIN, 64)
    settle_layers(ours, FUSED, 64)
    settle_layers(again, FUSED, 64)
    images = torch.randn(4, 3, 64, 64)
    truth = gradient(exact, images, half=False)
    found = gradient(ours, images)
    assert distance(found, truth) < 1.1 * distance(gradient(plain, images), truth)
    assert torch.equal(gradient(again, images), found)
    assert ours.state_dict().keys() == exact.state_dict().keys()


def test_it_is_a_choice_in_bf16_where_there_is_attention() -> None:
    def tried(name: str) -> set[tuple[str, bool]]:
        network = Architecture(name=name, num_classes=10, image_size=32)
        return {(candidate.precision, candidate.fused_attention) for candidate in candidates(network, CPU)}

    assert tried("vit_ti_16") == tried("swin_t") == {("float32", False), ("bf16", True)}
    assert tried("resnet20") == {("float32", False), ("bf16", False)}
    with pytest.raises(RecipeError, match=r"train\.fused_attention is of bf16; train\.precision is 'float32'"):
        TrainConfig(fused_attention=True)


@pytest.mark.usefixtures("without_compiler")
def test_without_a_compiler_it_is_refused_and_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model("vit_ti_16", num_classes=10, image_size=32)
    with pytest.raises(RecipeError, match=r"train\.fused_attention needs a C compiler"):
        fuse_attention(model)
    network = Architecture(name="vit_ti_16", num_classes=10, image_size=32)
    assert not any(candidate.fused_attention for candidate in candidates(network, CPU))
    monkeypatch.setattr(attention, "fits", lambda _: False)
    with pytest.raises(RecipeError, match="a processor with AMX"):
        fuse_attention(model)
