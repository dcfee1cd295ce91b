import pytest
import torch
from test_every_augmentation import batch

from sightline.augmentations import Batch, augment
from sightline.augmentations.cutmix import Cutmix
from sightline.augmentations.mixup import Mixup
from sightline.operations.mixing import dirichlet, mixing_weights
from sightline.randomness import Draws


def plain(count: int) -> Batch:
    """Each image has one colour of its own, so that who was mixed with whom can be seen."""
    levels = torch.arange(count, dtype=torch.float32)[:, None, None, None].expand(-1, 3, 12, 12)
    return Batch(levels.clone(), torch.eye(count), torch.arange(count) + 50)


def many(count: int = 20_000) -> Draws:
    return Draws(0, 0, torch.arange(count))


def test_partners_are_a_permutation_without_fixed_points() -> None:
    partners = Draws(0, 0, torch.arange(9)).partners("mixup partner")
    assert sorted(partners.tolist()) == list(range(9))
    assert (partners != torch.arange(9)).all()


def test_partners_change_with_the_epoch_and_not_with_the_order_of_the_batch() -> None:
    samples = torch.arange(20) + 7
    order = torch.arange(20).flip(0)
    partners = [samples[Draws(0, epoch, samples).partners("mixup partner")] for epoch in (0, 1)]
    assert not torch.equal(*partners)
    moved = samples[order]
    assert torch.equal(moved[Draws(0, 0, moved).partners("mixup partner")], partners[0][order])


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 100.0])
def test_weights_are_beta_s(alpha: float) -> None:
    weights = mixing_weights(many(), "mixup", alpha)
    assert weights.min() >= 0
    assert weights.max() <= 1
    assert weights.mean().item() == pytest.approx(0.5, abs=0.02)
    assert weights.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)  # Beta(alpha, alpha)'s


@pytest.mark.parametrize("alpha", [0.01, 1.0, 100.0])
def test_dirichlet_s_weights_sum_to_one(alpha: float) -> None:
    weights = dirichlet(many(), "chains", alpha, 3)
    assert torch.allclose(weights.sum(1), torch.ones(len(weights), dtype=torch.float64))
    assert weights.mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.02)


@pytest.mark.parametrize("method", [Mixup(alpha=1), Cutmix()])
def test_pixels_and_targets_are_mixed_in_the_same_shares(method: Mixup | Cutmix) -> None:
    before = plain(12)
    after = method(before, Draws(0, 0, before.samples), 12)
    expected = after.targets @ torch.arange(12, dtype=torch.float32)  # each class's level is its number
    assert torch.allclose(after.images.mean(dim=(1, 2, 3)), expected, atol=1e-4)
    assert (after.targets > 0).sum(1).max() == 2


@pytest.mark.parametrize("method", [Mixup(), Cutmix()])
def test_a_batch_of_one_has_nothing_to_mix_with(method: Mixup | Cutmix) -> None:
    before = batch(1)
    after = method(before, Draws(0, 0, before.samples), 12)
    assert torch.equal(after.images, before.images)
    assert torch.allclose(after.targets, before.targets)


def test_half_and_half_chooses_mixup_or_cutmix_for_each_image_and_never_both() -> None:
    before = plain(60)
    draws = Draws(0, 0, before.samples)
    mixed, cut = (
        (method(before, draws, 12).targets.argsort(1) != before.targets.argsort(1)).any(1)
        | (method(before, draws, 12).images != before.images).flatten(1).any(1)
        for method in (Mixup(alpha=1, probability=0.5), Cutmix(probability=0.5))
    )
    assert not (mixed & cut).any()
    assert 15 < mixed.sum() < 45
    assert 15 < cut.sum() < 45


@pytest.mark.parametrize("method", [Mixup(probability=0), Cutmix(probability=0)])
def test_never_is_never(method: Mixup | Cutmix) -> None:
    before = batch(8)
    after = augment(before, [method], Draws(0, 0, before.samples), 12)
    assert torch.equal(after.images, before.images)
    assert torch.equal(after.targets, before.targets)
