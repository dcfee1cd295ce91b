import torch
from torch import nn

from sightline.training.averaging import WeightAverage, measure_statistics
from sightline.training.limits import shorten_weights


def numbered(value: float) -> nn.Linear:
    layer = nn.Linear(2, 1)
    set_to(layer, value)
    return layer


def set_to(layer: nn.Linear, value: float) -> None:
    with torch.no_grad():
        layer.weight.fill_(value)


def test_the_exponential_average_follows_its_formula_with_a_low_decay_at_first() -> None:
    layer, expected = numbered(0.0), 0.0
    average = WeightAverage(layer)
    for update in range(200):
        set_to(layer, float(update))
        average.take_exponential(update, 0.9)
        decay = min(0.9, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * update
    assert torch.allclose(average.state["weight"], torch.tensor(expected), rtol=1e-5)


def test_the_equal_mean_is_the_mean() -> None:
    layer = numbered(99.0)
    average = WeightAverage(layer)
    for taken, value in enumerate((1.0, 2.0, 6.0)):
        set_to(layer, value)
        average.take_equal(taken)
    assert torch.allclose(average.state["weight"], torch.tensor(3.0))


def test_statistics_are_averaged_and_counters_are_not() -> None:
    average = WeightAverage(nn.BatchNorm2d(3))
    assert set(average.state) == {"weight", "bias", "running_mean", "running_var"}


def test_an_average_shown_and_saved_is_the_same_to_the_bit() -> None:
    layer = numbered(1.0)
    average = WeightAverage(layer)
    set_to(layer, 2.0)
    average.take_exponential(0, 0.5)
    copy = WeightAverage(layer)
    copy.load({name: tensor.clone() for name, tensor in average.state.items()})
    copy.show()
    assert torch.equal(layer.weight, average.state["weight"])


def test_measured_statistics_are_the_means_over_the_batches() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    batches = [torch.randn(4, 3, 5, 5) + 7 for _ in range(3)]
    measure_statistics(norm, batches)
    assert torch.allclose(norm.get_buffer("running_mean"), torch.stack(batches).mean((0, 1, 3, 4)), atol=1e-5)


def test_frozen_statistics_are_not_measured_anew() -> None:
    frozen, trained = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    frozen.eval()
    measure_statistics(nn.Sequential(frozen, trained), [torch.randn(4, 3, 5, 5) + 7])
    assert torch.equal(frozen.get_buffer("running_mean"), torch.zeros(3))
    assert torch.all(trained.get_buffer("running_mean") > 6)
    assert not frozen.training


def test_long_weight_vectors_are_shortened_and_short_ones_stay() -> None:
    layer = nn.Conv2d(1, 2, 2, bias=True)
    with torch.no_grad():
        layer.weight[0], layer.weight[1] = 10.0, 0.1
        assert layer.bias is not None
        layer.bias.fill_(50.0)
    shorten_weights(layer, 3.0)
    norms = layer.weight.detach().flatten(1).norm(dim=1)
    assert torch.allclose(norms, torch.tensor([3.0, 0.2]), atol=1e-5)
    assert (layer.bias == 50).all()
