from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from sightline.errors import RecipeError
from sightline.recipe import LossConfig
from sightline.training.losses import Loss, class_weights, sigmoid_focal, softmax_focal

SETTINGS = [
    pytest.param(LossConfig(), False, id="cross-entropy"),
    pytest.param(LossConfig(label_smoothing=0.1), False, id="cross-entropy, smoothed"),
    pytest.param(LossConfig(name="focal"), False, id="focal"),
    pytest.param(LossConfig(name="focal", focal_gamma=0.5), False, id="focal with a steep slope"),
    pytest.param(LossConfig(name="binary", label_smoothing=0.1), False, id="binary"),
    pytest.param(LossConfig(label_smoothing=0.1), True, id="binary, several labels"),
    pytest.param(LossConfig(name="focal"), True, id="focal, several labels"),
]


def logits(rows: int = 6, columns: int = 4) -> Tensor:
    return 3 * torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))


def one_label(rows: int = 6, columns: int = 4) -> Tensor:
    return F.one_hot(torch.arange(rows) % columns, columns).float()


def several(rows: int = 6, columns: int = 4) -> Tensor:
    return (torch.rand(rows, columns, generator=torch.Generator().manual_seed(1)) < 0.4).float()


WEIGHTS = np.array([0.5, 1.0, 2.0, 4.0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_is_torch_s_with_mixed_targets_too(smoothing: float, weights: np.ndarray | None) -> None:
    mixed = 0.7 * one_label() + 0.3 * one_label().flip(0)
    expected = F.cross_entropy(
        logits(), mixed, None if weights is None else torch.tensor(weights).float(), label_smoothing=smoothing
    )
    assert torch.allclose(Loss(LossConfig(label_smoothing=smoothing), weights=weights)(logits(), mixed), expected)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_binary_with_several_labels_is_torch_s_weights_and_all(weights: np.ndarray | None) -> None:
    expected = F.binary_cross_entropy_with_logits(
        logits(), several(), pos_weight=None if weights is None else torch.tensor(weights).float()
    )
    assert torch.allclose(Loss(LossConfig(), multi_label=True, weights=weights)(logits(), several()), expected)


def test_binary_with_one_label_is_torch_s_on_each_class() -> None:
    loss = Loss(LossConfig(name="binary"))
    assert torch.allclose(loss(logits(), one_label()), F.binary_cross_entropy_with_logits(logits(), one_label()))


def test_smoothing_spreads_over_the_classes_of_one_label_and_over_yes_and_no_of_several() -> None:
    one = Loss(LossConfig(name="binary", label_smoothing=0.2))(logits(), one_label())
    assert torch.allclose(one, F.binary_cross_entropy_with_logits(logits(), one_label() * 0.8 + 0.2 / 4))
    many = Loss(LossConfig(label_smoothing=0.2), multi_label=True)(logits(), several())
    assert torch.allclose(many, F.binary_cross_entropy_with_logits(logits(), several() * 0.8 + 0.1))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_sigmoid_focal_is_torchvision_s(gamma: float) -> None:
    expected = sigmoid_focal_loss(logits(), several(), alpha=-1, gamma=gamma).mean(1)
    assert torch.allclose(sigmoid_focal(logits(), several(), gamma), expected, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_softmax_focal_of_two_classes_is_torchvision_s_of_their_difference(gamma: float) -> None:
    two, targets = logits(columns=2), one_label(columns=2)
    expected = sigmoid_focal_loss(two[:, 1] - two[:, 0], targets[:, 1], alpha=-1, gamma=gamma)
    assert torch.allclose(softmax_focal(two, targets, gamma), expected, atol=1e-6)


def test_focal_without_gamma_is_cross_entropy() -> None:
    weights = torch.tensor(WEIGHTS).float()
    expected = F.cross_entropy(logits(), one_label(), weights, reduction="none")
    assert torch.allclose(softmax_focal(logits(), one_label(), 0.0, weights), expected, atol=1e-6)


@pytest.mark.parametrize(("config", "multi_label"), SETTINGS)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_certain_answers_right_or_wrong_give_finite_slopes(
    config: LossConfig, multi_label: bool, weights: np.ndarray | None
) -> None:
    extreme = torch.tensor([[1e4, -1e4, 0.0, 0.0], [-1e4, 1e4, 0.0, 0.0]], requires_grad=True)
    targets = torch.tensor([[1.0, 0, 0, 0], [1, 0, 0, 0]])
    loss = Loss(config, multi_label=multi_label, weights=weights)(extreme, targets)
    loss.backward()
    assert torch.isfinite(loss)
    assert extreme.grad is not None
    assert torch.isfinite(extreme.grad).all()


@pytest.mark.parametrize(("config", "multi_label"), SETTINGS)
def test_logits_in_bf16_are_computed_in_float32(config: LossConfig, multi_label: bool) -> None:
    targets = several() if multi_label else one_label()
    loss = Loss(config, multi_label=multi_label)
    rounded = logits().bfloat16()
    assert loss(rounded, targets).dtype == torch.float32
    assert torch.equal(loss(rounded, targets), loss(rounded.float(), targets))


@pytest.mark.parametrize(("config", "multi_label"), SETTINGS)
def test_validation_is_the_loss_without_smoothing_from_class_numbers_too(config: LossConfig, multi_label: bool) -> None:
    targets = several() if multi_label else one_label()
    loss = Loss(config, multi_label=multi_label, weights=WEIGHTS)
    plain = Loss(LossConfig(name=config.name, focal_gamma=config.focal_gamma), multi_label=multi_label, weights=WEIGHTS)
    given = targets.long() if multi_label else targets.argmax(1)
    assert loss.validation(logits(), given) == pytest.approx(plain(logits(), targets).item(), rel=1e-5)


def test_balanced_weights_are_inverse_to_the_counts_with_mean_one_over_the_images() -> None:
    weights = class_weights(LossConfig(class_weights="balanced"), ("a", "b"), (90, 10))
    assert weights is not None
    assert weights[1] / weights[0] == pytest.approx(9)
    assert (weights * [0.9, 0.1]).sum() == pytest.approx(1)


def test_effective_weights_are_cui_s_and_lie_between_equal_and_balanced() -> None:
    config = LossConfig(class_weights="effective", effective_beta=0.99)
    weights = class_weights(config, ("a", "b"), (900, 10))
    assert weights is not None
    assert weights[1] / weights[0] == pytest.approx((1 - 0.99**900) / (1 - 0.99**10))
    assert 1 < weights[1] / weights[0] < 90
    assert (weights * [900, 10]).sum() == pytest.approx(910)


@pytest.mark.parametrize("name", ["balanced", "effective"])
def test_a_class_without_images_weighs_nothing_and_the_others_as_if_it_were_not_there(
    name: Literal["balanced", "effective"],
) -> None:
    config = LossConfig(class_weights=name)
    weights = class_weights(config, ("a", "b", "c"), (90, 0, 10))
    without = class_weights(config, ("a", "c"), (90, 10))
    assert weights is not None
    assert without is not None
    assert weights.tolist() == [without[0], 0, without[1]]


def test_weights_by_name_leave_the_others_at_one_and_an_unknown_name_gets_the_nearest() -> None:
    named = class_weights(LossConfig(class_weights={"cat": 3.0}), ("bee", "cat"), (5, 5))
    assert named is not None
    assert named.tolist() == [1, 3]
    with pytest.raises(RecipeError, match=r"loss\.class_weights: Unknown class 'cta'\. Did you mean 'cat'"):
        class_weights(LossConfig(class_weights={"cta": 3.0}), ("bee", "cat"), (5, 5))
