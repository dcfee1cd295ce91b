"""Images one by one on several threads: the same results in the same order."""

import threading
from collections.abc import Generator

import pytest
import torch

from sightline.augmentations import Batch
from sightline.augmentations.random_resized_crop import RandomResizedCrop
from sightline.randomness import Draws
from sightline.threads import mapped


@pytest.fixture
def three_threads() -> Generator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_results_come_in_order(count: int) -> None:
    assert mapped(lambda number: number * number, range(count)) == [number * number for number in range(count)]


@pytest.mark.usefixtures("three_threads")
def test_torch_s_number_of_threads_is_used() -> None:
    barrier = threading.Barrier(3, timeout=10)  # nobody passes unless three are at work at once
    mapped(lambda _: barrier.wait(), range(3))


@pytest.mark.usefixtures("three_threads")
def test_what_fails_in_a_thread_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        mapped(lambda number: 1 // number, [1, 2, 0])


@pytest.mark.usefixtures("three_threads")
def test_a_random_resized_crop_has_the_same_bits_on_any_number_of_threads() -> None:
    images = torch.randint(0, 256, (5, 24, 24, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    batch = Batch(images, torch.zeros(5, 2), torch.arange(5))
    several = RandomResizedCrop()(batch, Draws(0, 0, batch.samples), 16).images
    torch.set_num_threads(1)
    assert torch.equal(several, RandomResizedCrop()(batch, Draws(0, 0, batch.samples), 16).images)


@pytest.mark.usefixtures("three_threads")
def test_each_thread_computes_alone_and_torch_s_number_stays() -> None:
    assert mapped(lambda _: torch.get_num_threads(), range(6)) == [1] * 6
    assert torch.get_num_threads() == 3


def test_fewer_images_than_threads_leave_torch_s_number_as_it_is() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(5)  # for which no other test has made threads
    try:
        assert mapped(lambda number: number, range(4)) == [0, 1, 2, 3]
        assert torch.get_num_threads() == 5
    finally:
        torch.set_num_threads(before)
