"""The contract over every augmentation."""

from typing import cast

import pytest
import torch

from sightline import catalog
from sightline.augmentations import Augmentation, Batch, Mixing, augment, augmentation_class, augmentation_name
from sightline.randomness import Draws

NAMES = catalog.names("sightline.augmentations")
ALONE = [name for name in NAMES if not issubclass(augmentation_class(name), Mixing)]
SETTINGS: dict[str, dict[str, object]] = {"resize_progressively": {"start": 6, "epochs": 2, "step": 1}}
"""Where the defaults are for larger images than the tests'."""


def batch(count: int, *, side: int = 12, width: int | None = None, dtype: torch.dtype = torch.uint8) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, side, width or side), generator=generator).to(dtype)
    targets = torch.eye(4)[torch.arange(count) % 4]
    return Batch(images, targets, torch.arange(count) + 100)


def build(name: str) -> Augmentation:
    return cast(Augmentation, augmentation_class(name)(**SETTINGS.get(name, {})))  # pyright: ignore


def applied(name: str, before: Batch, *, seed: int = 0, epoch: int = 0, image_size: int = 10) -> Batch:
    return build(name)(before, Draws(seed, epoch, before.samples), image_size)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_images_stay_images_and_targets_sum_to_one(name: str, count: int, dtype: torch.dtype) -> None:
    before = batch(count, dtype=dtype)
    after = applied(name, before)
    assert after.images.shape[:2] == (count, 3)
    assert after.images.dtype == dtype
    assert after.images.min() >= 0
    assert after.images.max() <= 255
    assert after.targets.dtype == torch.float32
    assert torch.allclose(after.targets.sum(1), torch.ones(count))
    assert torch.equal(after.samples, before.samples)


@pytest.mark.parametrize("name", NAMES)
def test_a_canvas_need_not_be_square(name: str) -> None:
    before = batch(6, side=12, width=17)
    after = applied(name, before)
    assert torch.isfinite(after.images.float()).all()
    whole = augment(before, [build(name)], Draws(0, 9, before.samples), 10)
    assert whole.images.shape == (6, 3, 10, 10)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_epoch_and_samples_give_the_same_and_another_epoch_another(name: str) -> None:
    before = batch(16)
    first, again, later = (applied(name, before, epoch=epoch).images for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "resize_progressively"])  # it draws nothing
def test_another_seed_gives_another(name: str) -> None:
    before = batch(16)
    assert not torch.equal(applied(name, before).images, applied(name, before, seed=1).images)


@pytest.mark.parametrize("name", NAMES)
def test_torch_s_global_generator_is_neither_read_nor_moved(name: str) -> None:
    before = batch(16)
    torch.manual_seed(0)
    first = applied(name, before).images
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert torch.equal(applied(name, before).images, first)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ALONE)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_an_image_s_augmentation_depends_on_itself_alone(name: str, dtype: torch.dtype) -> None:
    before = batch(9, dtype=dtype)
    together = applied(name, before).images
    for row in (0, 5, 8):
        one = Batch(before.images[row : row + 1], before.targets[row : row + 1], before.samples[row : row + 1])
        assert torch.equal(applied(name, one).images[0], together[row])


@pytest.mark.parametrize("name", NAMES)
def test_where_in_the_batch_an_image_stands_changes_nothing(name: str) -> None:
    before = batch(9)
    order = torch.tensor([3, 8, 1, 0, 7, 2, 6, 5, 4])
    moved = Batch(before.images[order], before.targets[order], before.samples[order])
    after, other = applied(name, before), applied(name, moved)
    assert torch.equal(other.images, after.images[order])
    assert torch.equal(other.targets, after.targets[order])


@pytest.mark.parametrize("name", NAMES)
def test_the_batch_that_came_in_is_left_as_it_was(name: str) -> None:
    before = batch(5)
    images, targets = before.images.clone(), before.targets.clone()
    applied(name, before)
    assert torch.equal(before.images, images)
    assert torch.equal(before.targets, targets)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_finds_the_class_that_has_it(name: str) -> None:
    assert augmentation_name(build(name)) == name


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_gpu_gives_what_the_cpu_gives_to_a_level(name: str, dtype: torch.dtype) -> None:
    before = batch(16, dtype=dtype)
    there = Batch(before.images.cuda(), before.targets.cuda(), before.samples)
    after, other = applied(name, before), applied(name, there)
    assert other.images.is_cuda
    assert (after.images.float() - other.images.cpu().float()).abs().max() <= 1
    assert torch.allclose(after.targets, other.targets.cpu())
