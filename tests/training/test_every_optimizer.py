"""The contract of every optimiser: it learns, repeats, resumes to the bit, and touches nothing it should not."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.recipe import OptimConfig
from sightline.recipe.optim import OptimizerName
from sightline.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sightline.training.optimizers import build_optimizer

NAMES = get_args(OptimizerName)
RATES = {"sgd": 0.05, "adagrad": 0.05, "lion": 1e-3, "lamb": 0.02, "rmsprop": 2e-3, "nadam": 3e-3, "radam": 3e-2}
every_optimizer = pytest.mark.parametrize("name", NAMES)


class Small(nn.Sequential):
    """A stem, a hidden kernel, a norm, a hidden matrix, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.kernel = nn.Conv2d(6, 8, 3)
        self.norm = nn.GroupNorm(2, 8)
        self.act = nn.ReLU()
        self.flat = nn.Flatten()
        self.matrix = nn.Linear(8 * 4 * 4, 12)
        self.act2 = nn.ReLU()
        self.head = nn.Linear(12, 3)


def config(name: Any, **settings: Any) -> OptimConfig:
    return OptimConfig(**{"name": name, "lr": RATES.get(name, 5e-3), "weight_decay": 0.01} | settings)


def network() -> Small:
    torch.manual_seed(0)
    return Small()


def problem() -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(1)
    images = torch.randn(24, 3, 8, 8, generator=draws)
    return images, images.mean((2, 3)).argmax(1)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, *, bf16: bool = False) -> list[float]:
    """The losses before each step; the gradients are computed in the closure, as Lightning does."""
    images, classes = problem()
    losses: list[float] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(model(images).float(), classes)
        loss.backward()
        losses.append(loss.item())
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    return losses


@every_optimizer
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
def test_the_loss_of_a_small_network_falls(name: str, bf16: bool) -> None:
    model = network()
    losses = train(model, build_optimizer(model, config(name)), 30, bf16=bf16)
    assert losses[-1] < 0.7 * losses[0]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@every_optimizer
def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    first, second = network(), network()
    for model in (first, second):
        train(model, build_optimizer(model, config(name)), 5)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@every_optimizer
def test_a_checkpoint_continues_to_the_bit(name: str, tmp_path: Path) -> None:
    whole = network()
    train(whole, build_optimizer(whole, config(name)), 8)

    model = network()
    optimizer = build_optimizer(model, config(name))
    train(model, optimizer, 3)
    content = Checkpoint(
        recipe="",
        data_fingerprint="",
        progress={},
        journal={},
        model=model.state_dict(),
        optimizer=optimizer.state_dict(),
        scaler={},
    )
    save_checkpoint(tmp_path / "last.pt", content)

    kept = load_checkpoint(tmp_path / "last.pt")  # with weights_only=True
    resumed = Small()
    resumed.load_state_dict(kept.model)
    again = build_optimizer(resumed, config(name))
    again.load_state_dict(kept.optimizer)
    train(resumed, again, 5)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


@every_optimizer
def test_frozen_parameters_stay(name: str) -> None:
    model = network()
    for part in (model.stem, model.kernel):
        part.requires_grad_(requires_grad=False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    train(model, build_optimizer(model, config(name, weight_decay=0.5)), 3)
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {key for key in before if not key.startswith(("stem", "kernel"))}


@every_optimizer
def test_a_head_alone_can_be_trained(name: str) -> None:
    model = network()
    model.requires_grad_(requires_grad=False)
    model.head.requires_grad_()
    assert train(model, build_optimizer(model, config(name)), 2)[1] > 0


def forms(name: str) -> list[str | None]:
    """What optim.decay may say of this optimiser."""
    allowed: dict[str, list[str | None]] = {
        "lamb": [None],
        "muon": [None, "decoupled"],
        "schedulefree_adamw": [None, "decoupled"],
    }
    return allowed.get(name, [None, "decoupled", "l2"])


@pytest.mark.parametrize(("name", "form"), [(name, form) for name in NAMES for form in forms(name)])
def test_decay_moves_kernels_and_matrices_and_nothing_else(name: str, form: str | None) -> None:
    """After one update from the same gradients, since later ones would differ everywhere."""
    plain, decayed = network(), network()
    train(plain, build_optimizer(plain, config(name, weight_decay=0.0)), 1)
    train(decayed, build_optimizer(decayed, config(name, weight_decay=0.5, decay=form)), 1)
    pairs = zip(plain.named_parameters(), decayed.parameters(), strict=True)
    differing = {key for (key, a), b in pairs if not torch.equal(a, b)}
    assert differing == {"stem.weight", "kernel.weight", "matrix.weight", "head.weight"}


@pytest.mark.parametrize("name", [name for name in NAMES if "decoupled" in forms(name)])
def test_decoupled_decay_shrinks_weights_by_the_rate_times_the_decay(name: str) -> None:
    plain, decayed, before = network(), network(), network()
    rate = config(name).lr
    train(plain, build_optimizer(plain, config(name, weight_decay=0.0)), 1)
    train(decayed, build_optimizer(decayed, config(name, weight_decay=0.5, decay="decoupled")), 1)
    shrunk = before.matrix.weight * rate * 0.5
    assert torch.allclose(plain.matrix.weight - decayed.matrix.weight, shrunk, atol=1e-6)


def test_lambs_first_update_is_as_long_as_the_rate_says() -> None:
    """Algorithm 2 of the paper: the rate times the weights' length, whatever the step."""
    before, after = network(), network()
    train(after, build_optimizer(after, config("lamb", weight_decay=0.0)), 1)
    length = (after.matrix.weight - before.matrix.weight).norm() / before.matrix.weight.norm()
    assert length.item() == pytest.approx(config("lamb").lr, rel=1e-3)


@pytest.mark.parametrize("name", [name for name in NAMES if "l2" in forms(name)])
def test_l2_is_the_optimiser_on_gradients_with_the_decay_added(name: str) -> None:
    with_l2, by_hand = network(), network()
    train(with_l2, build_optimizer(with_l2, config(name, weight_decay=0.3, decay="l2")), 3)
    optimizer = build_optimizer(by_hand, config(name, weight_decay=0.0))
    images, classes = problem()
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(by_hand(images), classes).backward()
        for parameter in by_hand.parameters():
            assert parameter.grad is not None
            if parameter.ndim > 1:
                parameter.grad += 0.3 * parameter.detach()
        optimizer.step()
    for a, b in zip(with_l2.parameters(), by_hand.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-4 if name in {"lion", "rmsprop"} else 1e-5)


@every_optimizer
def test_groups_keep_their_factor_and_their_rate(name: str) -> None:
    model = network()
    optimizer = build_optimizer(model, config(name, head_lr=10))
    before = {key: value.clone() for key, value in model.named_parameters()}
    for group in optimizer.param_groups:
        group["lr"] = 0.0 if group["factor"] == 1 else 1e-3
    train(model, optimizer, 1)
    assert {key for key, value in model.named_parameters() if not torch.equal(value, before[key])} == {
        "head.weight",
        "head.bias",
    }
