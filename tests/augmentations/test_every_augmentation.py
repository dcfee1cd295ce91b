"""The contract over every augmentation."""

from typing import cast

import pytest
import torch

from sightline import catalog
from sightline.augmentations import Augmentation, Batch, augmentation_class, augmentation_name
from sightline.randomness import Draws

NAMES = catalog.names("sightline.augmentations")


def batch(count: int, *, side: int = 12, dtype: torch.dtype = torch.uint8) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, side, side), generator=generator).to(dtype)
    targets = torch.eye(4)[torch.arange(count) % 4]
    return Batch(images, targets, torch.arange(count) + 100)


def build(name: str) -> Augmentation:
    return cast(Augmentation, augmentation_class(name)())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_images_stay_images_and_targets_sum_to_one(name: str, count: int, dtype: torch.dtype) -> None:
    before = batch(count, dtype=dtype)
    after = build(name)(before, Draws(0, 0, before.samples), 10)
    assert after.images.shape[:2] == (count, 3)
    assert after.images.dtype == dtype
    assert after.images.min() >= 0
    assert after.images.max() <= 255
    assert torch.allclose(after.targets.sum(1), torch.ones(count))
    assert torch.equal(after.samples, before.samples)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_epoch_and_samples_give_the_same_and_another_epoch_another(name: str) -> None:
    before = batch(16)
    first, again, later = (build(name)(before, Draws(0, epoch, before.samples), 10).images for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


@pytest.mark.parametrize("name", NAMES)
def test_the_batch_that_came_in_is_left_as_it_was(name: str) -> None:
    before = batch(5)
    kept = before.images.clone()
    build(name)(before, Draws(0, 0, before.samples), 10)
    assert torch.equal(before.images, kept)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_finds_the_class_that_has_it(name: str) -> None:
    assert augmentation_name(build(name)) == name
