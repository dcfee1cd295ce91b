"""ReLU by integers: torch's values and gradients to the bit, and a network that diverged still says so."""

import copy

import pytest
import torch
from torch import Tensor, nn

from sightline.models import create_model
from sightline.training.fastest import Candidate
from sightline.training.layers import settle_layers
from sightline.training.rectifying import IntegerReLU, rectify_by_integers


def every_bfloat16() -> Tensor:
    """(2, 65536): each of two images holds every number that there is, the infinities too, but no NaN."""
    values = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    return values.masked_fill(values.isnan(), 0).repeat(2, 1)


def both(values: Tensor, inplace: bool, grad: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Output and gradient by torch and by integers."""
    found = list[tuple[Tensor, Tensor]]()
    for kind in (nn.ReLU, IntegerReLU):
        leaf = values.clone(memory_format=torch.preserve_format).requires_grad_()
        output = kind(inplace=inplace)(leaf * 1)
        output.backward(grad)
        assert leaf.grad is not None
        found.append((output.detach(), leaf.grad))
    return found


@pytest.mark.parametrize("inplace", [False, True])
def test_every_number_gives_what_torch_gives(inplace: bool) -> None:
    values = every_bfloat16()
    grad = torch.randn(values.shape, generator=torch.Generator().manual_seed(0)).bfloat16()
    (expected, expected_grad), (output, output_grad) = both(values, inplace, grad)
    assert output.dtype == output_grad.dtype == torch.bfloat16
    assert torch.equal(output, expected)
    assert torch.equal(output_grad, expected_grad)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_any_layout_and_a_gradient_that_was_expanded(layout: torch.memory_format, inplace: bool) -> None:
    values = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    values = values.contiguous(memory_format=layout)
    grad = torch.ones(1, 1, 1, 1, dtype=torch.bfloat16).expand(3, 4, 5, 6)
    (expected, expected_grad), (output, output_grad) = both(values, inplace, grad)
    assert output.stride() == expected.stride()
    assert torch.equal(output, expected)
    assert torch.equal(output_grad, expected_grad)


@pytest.mark.parametrize("inplace", [False, True])
def test_memory_is_taken_where_the_layer_may_not_write(inplace: bool) -> None:
    values = torch.tensor([[-1.0], [-2.0]], dtype=torch.bfloat16)
    IntegerReLU(inplace=inplace)(values)
    assert values.tolist() == ([[0.0], [0.0]] if inplace else [[-1.0], [-2.0]])


def test_where_nothing_is_learned_no_image_s_nan_is_lost() -> None:
    values = torch.tensor([[-1.0], [2.0], [float("nan")], [-float("nan")]], dtype=torch.bfloat16)
    output = IntegerReLU().eval()(values)
    assert output[:2].tolist() == [[0.0], [2.0]]
    assert output[2:].isnan().all()


def test_a_single_number() -> None:
    assert IntegerReLU()(torch.tensor(-1.0, dtype=torch.bfloat16)).item() == 0


def test_other_numbers_are_torch_s() -> None:
    values = torch.tensor([[-1.0, float("nan")], [2.0, float("nan")]])
    output = IntegerReLU()(values)
    assert output[:, 0].tolist() == [0.0, 2.0]
    assert output[:, 1].isnan().all()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_network_that_diverged_has_a_loss_that_says_so(sign: float) -> None:
    torch.manual_seed(0)
    model = create_model("resnet20", num_classes=10, image_size=16).to(memory_format=torch.channels_last)
    assert rectify_by_integers(model) == 19
    with torch.no_grad():
        next(model.parameters())[0] = torch.tensor(float("nan")).copysign(torch.tensor(sign))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(torch.randn(4, 3, 16, 16))
    assert not logits.isfinite().all()


def test_it_is_bfloat16_s_alone_and_the_network_trains_to_the_same_bits() -> None:
    torch.manual_seed(0)
    model = create_model("resnet20", num_classes=10, image_size=16).to(memory_format=torch.channels_last)
    ours, apart = copy.deepcopy(model), copy.deepcopy(model)
    settle_layers(ours, Candidate(precision="bf16", channels_last=True), 32)
    settle_layers(apart, Candidate(precision="float32", channels_last=True), 32)
    kinds = [{type(m) for m in each.modules() if isinstance(m, nn.ReLU)} for each in (ours, apart)]
    assert kinds == [{IntegerReLU}, {nn.ReLU}]
    assert list(ours.state_dict()) == list(model.state_dict())
    images = torch.randn(8, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    for each in (model, ours):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = each(images)
        logits.float().logsumexp(1).sum().backward()
    for mine, theirs in zip(ours.parameters(), model.parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert torch.equal(mine.grad, theirs.grad)
