"""Attention by compiled loops is as exact as torch's."""

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
from sightline.native import attention, attention_float32, batch_norm, building
from sightline.recipe import TrainConfig
from sightline.training.attention_gradients import differentiate_attention_in_float32
from sightline.training.fastest import Candidate, candidates
from sightline.training.fused_attention import fuse_attention
from sightline.training.layers import settle_layers
from sightline.training.mixed_attention import mix_attention

LOOPS = {"bf16": attention, "float32": attention_float32}
HERE = [precision for precision, loops in LOOPS.items() if loops.available()]
pytestmark = pytest.mark.skipif(not HERE, reason="needs AVX2 and a C compiler")
needs_amx = pytest.mark.skipif("bf16" not in HERE, reason="needs AMX")

DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32}
NEAR = {torch.bfloat16: 0.02, torch.float32: 5e-6}
"""How far a number may be from the exact one, of the largest."""
CPU = torch.device("cpu")


@pytest.fixture(params=DTYPES)
def precision(request: pytest.FixtureRequest) -> str:
    if request.param not in HERE:
        pytest.skip("needs AMX")
    return request.param


@pytest.fixture
def dtype(precision: str) -> torch.dtype:
    return DTYPES[precision]


class Attention(nn.Module):
    """A layer that gives what is put in to torch's attention."""

    num_heads = 1

    def forward(self, *args: Tensor, **named: object) -> Tensor:
        return F.scaled_dot_product_attention(*args, **named)


def drawn(dtype: torch.dtype, *shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def heads(dtype: torch.dtype, *shape: int) -> list[Tensor]:
    """Query, key and value."""
    return [drawn(dtype, *shape, seed=seed) for seed in range(3)]


def distance(values: Tensor, exact: Tensor) -> float:
    """Relative to the exact values' length."""
    return float((values.double() - exact.double()).norm() / exact.double().norm())


def differentiated(layer: nn.Module, given: list[Tensor], grad: Tensor, **named: object) -> tuple[Tensor, list[Tensor]]:
    """The result, and the gradients of query, key and value."""
    leaves = [each.detach().requires_grad_() for each in given]
    output = layer(*leaves, **named)
    output.backward(grad)
    return output.detach(), [leaf.grad for leaf in leaves if leaf.grad is not None]


def fused(dtype: torch.dtype) -> nn.Module:
    ours = Attention()
    assert fuse_attention(ours, "bf16" if dtype == torch.bfloat16 else "float32") == 1
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
    batch: int, heads: int, queries: int, keys: int, depth: int, scale: float | None, dtype: torch.dtype
) -> None:
    query, grad = drawn(dtype, batch, heads, queries, depth), drawn(dtype, batch, heads, queries, depth, seed=1)
    key, value = drawn(dtype, batch, heads, keys, depth, seed=2), drawn(dtype, batch, heads, keys, depth, seed=3)
    assert LOOPS["bf16" if dtype == torch.bfloat16 else "float32"].takes(query, key, value)
    output, found = differentiated(fused(dtype), [query, key, value], grad, scale=scale)
    theirs, usual = differentiated(Attention(), [query, key, value], grad, scale=scale)
    double = [each.double() for each in (query, key, value)]
    true, exact = differentiated(Attention(), double, grad.double(), scale=scale)
    if dtype == torch.bfloat16:
        assert torch.equal(output, theirs)
    else:
        found, usual, exact = [output, *found], [theirs, *usual], [true, *exact]
    for ours, torchs, truth in zip(found, usual, exact, strict=True):
        assert ours.dtype == dtype
        if keys > 1:  # with one key the gradients of query and key are 0
            assert distance(ours, truth) < (1.15 if dtype == torch.bfloat16 else 2) * distance(torchs, truth)
        assert (ours - truth).abs().max() < NEAR[dtype] * truth.abs().max() + 1e-6


def test_heads_and_gradients_that_lie_anyhow(dtype: torch.dtype) -> None:
    # As a layer cuts them out of one product.
    packed = list(drawn(dtype, 2, 50, 3, 4, 32).permute(2, 0, 3, 1, 4).unbind(0))
    grad = torch.ones(1, 1, 1, 1, dtype=dtype).expand(2, 4, 50, 32)
    apart = [each.contiguous() for each in packed]
    wanted, expected = differentiated(fused(dtype), apart, grad.contiguous())
    output, found = differentiated(fused(dtype), packed, grad)
    assert torch.equal(output, wanted)
    assert all(torch.equal(ours, other) for ours, other in zip(found, expected, strict=True))


def test_a_token_s_numbers_that_lie_apart_are_torchs_affair(dtype: torch.dtype) -> None:
    given = [each.transpose(2, 3) for each in heads(dtype, 2, 3, 32, 50)]
    layers = [fused(dtype)]
    if dtype == torch.bfloat16:
        layers.append(Attention())
        differentiate_attention_in_float32(layers[-1])
    theirs, usual = differentiated(Attention(), given, drawn(dtype, 2, 3, 50, 32))
    for ours in layers:
        output, found = differentiated(ours, given, drawn(dtype, 2, 3, 50, 32))
        assert torch.equal(output, theirs)
        assert all(torch.equal(ours, torchs) for ours, torchs in zip(found, usual, strict=True))


def test_any_number_of_threads_gives_the_same_bits() -> None:
    given, grad = heads(torch.float32, 40, 3, 49, 32), drawn(torch.float32, 40, 3, 49, 32, seed=4)
    bias = drawn(torch.float32, 3, 49, 49, seed=5)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            learned = bias.clone().requires_grad_()
            output, found = differentiated(fused(torch.float32), given, grad, attn_mask=learned)
            results.append([output, *found, learned.grad])
    finally:
        torch.set_num_threads(before)
    for others in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(results[0], others, strict=True))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, partial(torch.autocast, "cpu", torch.bfloat16)])
def test_the_loops_are_built_in_any_mode(
    mode: Callable[[], AbstractContextManager[None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path))
    building.built_once.cache_clear()
    with mode():
        assert [name for name, loops in LOOPS.items() if loops.available()] == HERE
        assert batch_norm.available(torch.float32)


@needs_amx
def test_products_of_torchs_own_are_right_afterwards() -> None:
    """oneDNN sets up the same tiles of the processor."""
    half = torch.bfloat16
    left, right = drawn(half, 300, 200), drawn(half, 200, 100, seed=1)
    before = left @ right
    differentiated(fused(half), [drawn(half, 2, 2, 40, 64)] * 3, drawn(half, 2, 2, 40, 64))
    assert torch.equal(left @ right, before)


def test_one_head_s_diverging_says_so(dtype: torch.dtype) -> None:
    given = heads(dtype, 2, 2, 20, 32)
    given[0][1, 1, 3] = float("nan")
    output, (of_query, of_key, _) = differentiated(fused(dtype), given, drawn(dtype, 2, 2, 20, 32, seed=4))
    assert output[1, 1, 3].isnan().all()
    assert output.isnan().sum() == 32
    assert of_query[1, 1, 3].isnan().all()
    assert of_key[1, 1].isnan().all()
    assert not of_query[0].isnan().any()
    assert not of_query[1, 0].isnan().any()


@pytest.mark.parametrize(("queries", "keys", "depth"), [(49, 49, 32), (7, 40, 64), (64, 33, 96)])
def test_a_learned_bias_gets_its_gradient(queries: int, keys: int, depth: int, dtype: torch.dtype) -> None:
    given = [drawn(dtype, 5, 3, tokens, depth, seed=seed) for seed, tokens in enumerate((queries, keys, keys))]
    grad, bias = drawn(dtype, 5, 3, queries, depth, seed=4), drawn(dtype, 3, queries, keys, seed=5).float()
    learned, usual, exact = (
        bias.to(kind, copy=True).requires_grad_() for kind in (bias.dtype, bias.dtype, torch.double)
    )
    output, found = differentiated(fused(dtype), given, grad, attn_mask=learned)
    other = Attention()
    if dtype == torch.bfloat16:
        other.relative_position_bias_table = nn.Parameter(torch.zeros(1))
        assert mix_attention(other) == 1
    theirs, mixeds = differentiated(other, given, grad, attn_mask=usual)
    truth, exacts = differentiated(Attention(), [each.double() for each in given], grad.double(), attn_mask=exact)
    assert distance(output, truth) < 1.1 * distance(theirs, truth)
    pairs = zip([*found, learned.grad], [*mixeds, usual.grad], [*exacts, exact.grad], strict=True)
    for ours, others, right in pairs:
        assert distance(ours, right) < 1.1 * distance(others, right)


@pytest.mark.parametrize("shape", [(5, 3, 20, 20), (20, 20), (1, 20, 20), (3, 1, 20)])
def test_what_is_added_otherwise_goes_the_way_of_torch(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    given, grad = heads(dtype, 5, 3, 20, 32), drawn(dtype, 5, 3, 20, 32, seed=4)
    # Of another shape, and one that isn't learned.
    for mask in (drawn(dtype, *shape).requires_grad_(), drawn(dtype, 3, 20, 20)):
        output, found = differentiated(fused(dtype), given, grad, attn_mask=mask)
        theirs, usual = differentiated(Attention(), given, grad, attn_mask=mask)
        assert torch.equal(output, theirs)
        assert all(torch.equal(ours, torchs) for ours, torchs in zip(found, usual, strict=True))


@pytest.mark.parametrize("shape", [(2, 2, 20, 44), (2, 2, 20, 512), (1, 1, 2100, 32)])
def test_other_shapes_go_the_way_of_torch(shape: tuple[int, ...], precision: str, dtype: torch.dtype) -> None:
    given = heads(dtype, *shape)
    assert not LOOPS[precision].takes(*given)
    output, found = differentiated(fused(dtype), given, drawn(dtype, *shape, seed=4))
    theirs, usual = differentiated(Attention(), given, drawn(dtype, *shape, seed=4))
    assert torch.equal(output, theirs)
    assert all(torch.equal(ours, torchs) for ours, torchs in zip(found, usual, strict=True))


def gradient(model: nn.Module, images: Tensor, precision: str) -> Tensor:
    torch.manual_seed(1)  # Swin leaves out some of its blocks
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        logits = model(images.to(next(model.parameters()).dtype))
    F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), torch.arange(4) % 10).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


@pytest.mark.parametrize("name", ["vit_ti_16", "swin_t", "timm/deit_tiny_patch16_224"])
def test_a_network_learns_the_same(name: str, precision: str) -> None:
    torch.manual_seed(0)
    plain = create_model(name, num_classes=10, image_size=64)
    ours, again, exact = (copy.deepcopy(plain) for _ in range(3))
    settle_layers(plain, Candidate(precision=precision, channels_last=False), 64)
    for model in (ours, again):
        settle_layers(model, Candidate(precision=precision, channels_last=False, fused_attention=True), 64)
    images = torch.randn(4, 3, 64, 64)
    truth = gradient(exact.double(), images, "float64")
    found = gradient(ours, images, precision)
    assert distance(found, truth) < 1.1 * distance(gradient(plain, images, precision), truth)
    assert torch.equal(gradient(again, images, precision), found)
    assert ours.state_dict().keys() == exact.state_dict().keys()


def test_it_is_a_choice_where_there_is_attention() -> None:
    def tried(name: str) -> set[tuple[str, bool, bool]]:
        network = Architecture(name=name, num_classes=10, image_size=32)
        found = candidates(network, CPU)
        return {(each.precision, each.channels_last, each.fused_attention) for each in found}

    full = {("float32", False, False), ("float32", True, "float32" in HERE)}
    for name in ("vit_ti_16", "swin_t"):
        assert {each for each in tried(name) if each[0] == "float32"} == full
        assert {fuses for kind, _, fuses in tried(name) if kind == "bf16"} <= {"bf16" in HERE}
    assert not any(fuses for _, _, fuses in tried("resnet20"))
    with pytest.raises(RecipeError, match=r"train\.fused_attention is of float32 and bf16; train\.precision is 'fp16'"):
        TrainConfig(fused_attention=True, precision="fp16")


@pytest.mark.usefixtures("without_compiler")
def test_without_a_compiler_it_is_refused_and_not_tried(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model("vit_ti_16", num_classes=10, image_size=32)
    with pytest.raises(RecipeError, match=r"train\.fused_attention needs a C compiler"):
        fuse_attention(model, precision)
    network = Architecture(name="vit_ti_16", num_classes=10, image_size=32)
    assert not any(candidate.fused_attention for candidate in candidates(network, CPU))
    monkeypatch.setattr(LOOPS[precision], "fits", lambda _: False)
    with pytest.raises(RecipeError, match="a processor with A"):
        fuse_attention(model, precision)
