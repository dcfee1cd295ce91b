"""Attention's gradients in float32: torch's answers to the bit, and slopes as near the true ones as torch's."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.models import create_model
from sightline.training import attention_gradients
from sightline.training.attention_gradients import MOST_TOKENS, differentiate_attention_in_float32


class Heads(nn.Module):
    """Attention alone, with what is asked of it beside."""

    num_heads = 3

    def __init__(self, **asked: Any) -> None:
        super().__init__()
        self.asked = asked

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, **self.asked)


def tokens(count: int, *, others: int | None = None, dtype: torch.dtype = torch.bfloat16) -> list[Tensor]:
    """Query, key and value as a layer has them: parts of one tensor, with logits of a trained network's size."""
    generator = torch.Generator().manual_seed(count)
    length = max(count, others or 0)
    both = torch.randn(2, length, 3, 3, 16, generator=generator).mul(1.5).to(dtype).permute(2, 0, 3, 1, 4)
    query, key, value = both.unbind(0)
    return [query[:, :, :count], key[:, :, : others or count], value[:, :, : others or count]]


def slopes(layer: Callable[..., Tensor], inputs: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    output = layer(*leaves)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(7)).to(output.dtype)
    (output * weights).sum().backward()
    return output.detach(), [leaf.grad for leaf in leaves if leaf.grad is not None]


def distance(ours: list[Tensor], true: list[Tensor]) -> float:
    return max(((a.double() - b).norm() / b.norm()).item() for a, b in zip(ours, true, strict=True))


def replaced(**asked: Any) -> nn.Module:
    layer = Heads(**asked)
    assert differentiate_attention_in_float32(layer) == 1
    assert differentiate_attention_in_float32(layer) == 1  # once more changes nothing
    assert type(layer).__name__ == "DifferentiatedHeads"
    return layer


@pytest.mark.parametrize("others", [None, 11])
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("count", [2, 17, 50])
def test_answers_are_torchs_and_gradients_as_near_the_true_ones(
    count: int, scale: float | None, others: int | None
) -> None:
    inputs = tokens(count, others=others)
    _, true = slopes(Heads(scale=scale), [tensor.double() for tensor in inputs])
    expected, theirs = slopes(Heads(scale=scale), inputs)
    output, ours = slopes(replaced(scale=scale, dropout_p=0.0, attn_mask=None, is_causal=False), inputs)
    assert torch.equal(output, expected)
    assert all(slope.dtype == torch.bfloat16 for slope in ours)
    assert distance(ours, true) < 0.01
    assert distance(ours, true) < 1.2 * distance(theirs, true)


@pytest.mark.parametrize(
    "asked",
    [
        {"is_causal": True},
        {"attn_mask": torch.ones(9, 9, dtype=torch.bool).tril()},
        {"dropout_p": 0.5},
    ],
    ids=["causal", "mask", "dropout"],
)
def test_what_else_is_asked_for_goes_the_way_of_torch(asked: dict[str, Any]) -> None:
    inputs = tokens(9)
    torch.manual_seed(0)
    expected, theirs = slopes(Heads(**asked), inputs)
    torch.manual_seed(0)
    output, ours = slopes(replaced(**asked), inputs)
    assert torch.equal(output, expected)
    assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_other_types_go_the_way_of_torch(dtype: torch.dtype) -> None:
    inputs = tokens(9, dtype=dtype)
    assert all(map(torch.equal, slopes(replaced(), inputs)[1], slopes(Heads(), inputs)[1]))


def test_long_rows_of_tokens_go_the_way_of_torch() -> None:
    for count, same in ((MOST_TOKENS, False), (MOST_TOKENS + 1, True)):
        inputs = tokens(count)
        ours, theirs = slopes(replaced(), inputs)[1], slopes(Heads(), inputs)[1]
        assert all(map(torch.equal, ours, theirs)) == same


def test_where_nothing_is_learned_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted(*_: object) -> Tensor:
        raise AssertionError

    monkeypatch.setattr(attention_gradients._Attention, "apply", unwanted)
    inputs = tokens(9)
    assert torch.equal(replaced()(*inputs), Heads()(*inputs))
    with torch.no_grad():
        assert replaced()(*[tensor.requires_grad_() for tensor in inputs]).grad_fn is None
    with pytest.raises(AssertionError):
        replaced()(*inputs)


@pytest.mark.parametrize("name", ["vit_ti_16", "timm/vit_tiny_patch16_224", "timm/swin_tiny_patch4_window7_224"])
def test_a_network_answers_as_before_and_learns_as_before_but_for_rounding(name: str) -> None:
    def network() -> nn.Module:
        torch.manual_seed(0)
        return create_model(name, num_classes=10, image_size=64 if "swin" in name else 32).eval()

    ours, theirs = network(), network()
    names = list(ours.state_dict())
    assert differentiate_attention_in_float32(ours) == 12
    assert list(ours.state_dict()) == names
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    images = F.interpolate(images, scale_factor=2) if "swin" in name else images
    found = list[list[Tensor]]()
    for model in (ours, theirs):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(images)
        logits.float().square().sum().backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        found.append([logits.detach(), *gradients])
    assert torch.equal(found[0][0], found[1][0])
    assert len(found[0]) == len(found[1])
    for slope, wanted in zip(found[0][1:], found[1][1:], strict=True):
        assert F.cosine_similarity(slope.flatten(), wanted.flatten(), dim=0) > 0.99
    same = all(map(torch.equal, found[0], found[1]))
    assert same == ("swin" in name)  # whose attention adds a bias


def test_a_compiled_layer_goes_the_way_of_torch() -> None:
    inputs = tokens(9)
    ours, theirs = slopes(torch.compile(replaced(), backend="eager"), inputs), slopes(Heads(), inputs)
    assert torch.equal(ours[0], theirs[0])
    assert all(map(torch.equal, ours[1], theirs[1]))
