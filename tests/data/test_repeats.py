"""data.repeats: a batch holds each of its images several times, as samples of their own."""

from collections import Counter

import numpy as np
import torch

from sightline.data.order import APPEARANCE, TrainingOrder
from sightline.randomness import Draws


def order(
    repeats: int, *, count: int = 10, batch_size: int = 6, balance: bool = False, start: int = 0
) -> TrainingOrder:
    classes = np.r_[np.zeros(count - 2, dtype=np.int64), np.ones(2, dtype=np.int64)]
    numbers = classes if balance else None
    return TrainingOrder(np.arange(count) + 3, batch_size, 0, 2, start=start, balance=numbers, repeats=repeats)


def test_a_batch_holds_each_of_its_images_that_often() -> None:
    parts = list(order(3))
    assert parts
    for part in parts:
        counts = Counter(sample % APPEARANCE for sample in part)
        assert set(counts.values()) == {3}
        assert len(part) <= 6


def test_an_epoch_holds_every_image_that_often() -> None:
    shown = order(3)
    assert shown.batches_per_epoch == 5
    parts = list(shown)
    assert len(parts) == len(shown) == 10
    first = Counter(sample % APPEARANCE for part in parts[:5] for sample in part)
    assert first == dict.fromkeys(range(3, 13), 3)


def test_no_sample_of_an_epoch_is_another_s_copy() -> None:
    for balance in (False, True):
        parts = list(order(2, balance=balance))
        samples = [sample for part in parts[: len(parts) // 2] for sample in part]
        assert len(set(samples)) == len(samples)


def test_copies_draw_other_numbers_and_the_first_those_of_no_repeats() -> None:
    first, second = next(iter(order(2, batch_size=2)))
    copies = Draws(0, 0, torch.tensor([first, second])).uniform("flip", 4)
    assert not torch.equal(copies[0], copies[1])
    assert torch.equal(copies[0], Draws(0, 0, torch.tensor([first % APPEARANCE])).uniform("flip", 4)[0])


def test_one_repeat_is_the_order_without() -> None:
    assert list(order(1)) == list(TrainingOrder(np.arange(10) + 3, 6, 0, 2))


def test_a_resumed_run_goes_on_where_it_was() -> None:
    assert list(order(3, start=7)) == list(order(3))[7:]
