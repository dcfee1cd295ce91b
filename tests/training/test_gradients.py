import pytest
import torch
from torch import nn

from sightline.models import create_model, variants
from sightline.training.gradients import SAMPLES, GradientWatch, is_sampled, stages


def watched(model: nn.Module, images: torch.Tensor) -> GradientWatch:
    watch = GradientWatch(model)
    watch.begin()
    loss = model(images).square().sum()
    watch.end_forward()
    loss.backward()
    watch.take()
    return watch


def test_norms_are_those_of_the_gradients() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    watch = watched(model, torch.randn(5, 4))
    first = watch.rows(epoch=1)[0]
    gradients = torch.cat([p.grad.flatten() for p in model[0].parameters() if p.grad is not None])
    weights = torch.cat([p.detach().flatten() for p in model[0].parameters()])
    assert (first.epoch, first.stage) == (1, "0")
    assert first.gradient_norm == pytest.approx(gradients.norm().item(), rel=1e-5)
    assert first.gradient_to_weight == pytest.approx((gradients.norm() / weights.norm()).item(), rel=1e-5)


def test_units_that_gave_0_for_every_image_are_dead() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x)

    model = Net()
    with torch.no_grad():
        model.body[0].weight.fill_(1.0)
        model.body[0].bias.copy_(torch.tensor([0.0, -9.0, 0.0, 0.0]))
    [row] = watched(model, torch.rand(2, 1, 3, 3)).rows(epoch=1)
    assert row.dead == 0.25
    assert row.saturated is None


def test_values_far_out_on_a_tanh_are_saturated() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh())
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    rows = watched(model, torch.tensor([[0.0], [1.0], [5.0], [-6.0]])).rows(epoch=1)
    assert [row.saturated for row in rows] == [None]  # the activation is a stage without weights
    nested = nn.Sequential(nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh()))
    with torch.no_grad():
        nested[0][0].weight.fill_(1.0)
    [row] = watched(nested, torch.tensor([[0.0], [1.0], [5.0], [-6.0]])).rows(epoch=1)
    assert row.saturated == 0.5


def test_an_epoch_s_rows_begin_anew() -> None:
    watch = watched(nn.Sequential(nn.Linear(2, 2)), torch.randn(3, 2))
    watch.rows(epoch=1)
    assert watch.rows(epoch=2)[0].gradient_norm is None


def test_no_hook_is_left_behind() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    watched(model, torch.randn(3, 2))
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("batches", [1, 3, 8, 9, 100])
def test_so_many_batches_of_an_epoch_are_watched(batches: int) -> None:
    assert sum(is_sampled(place, batches) for place in range(batches)) == min(SAMPLES, batches)
    assert is_sampled(0, batches)


@pytest.mark.parametrize(
    "name", ["alexnet", "vgg11", "resnet20", "densenet121", "efficientnet_b0", "vit_ti_16", "swin_t"]
)
def test_every_stage_has_parameters_and_follows_the_data(name: str) -> None:
    assert name in variants()
    with torch.device("meta"):
        model = create_model(name, num_classes=10)
    of = stages(model)
    order = list(dict.fromkeys(of[n.rpartition(".")[0]] for n, _ in model.named_parameters()))
    expected = [stage.name for stage in model.stages]
    assert [stage for stage in order if stage in expected] == expected
    assert order[-1] == "head"
    assert set(order) - set(expected) <= {"stem", "top", "head"}


def test_on_tokens_the_last_dimension_counts_units() -> None:
    """In channels-last Swin, too: a ReLU behind a matrix layer there has units in its last dimension."""
    model = create_model("swin_t", num_classes=2, image_size=32, activation="relu")
    watch = watched(model, torch.randn(1, 3, 32, 32))
    widths = {place: len(alive) for place, alive in watch.state["alive"].items()}
    assert widths
    for place, width in widths.items():
        linear = model.get_submodule(place.partition(" ")[0].rpartition(".")[0] + ".fc1")
        assert isinstance(linear, nn.Linear)
        assert width == linear.out_features
