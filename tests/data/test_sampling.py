import numpy as np

from sightline.data.order import APPEARANCE, TrainingOrder
from sightline.data.sampling import appearances, balanced, repeats

TARGETS = np.repeat([0, 1, 2], [40, 15, 4])


def test_each_class_comes_equally_often_in_an_epoch_of_the_same_length() -> None:
    for epoch in range(5):
        counts = np.bincount(TARGETS[balanced(TARGETS, 0, epoch)])
        assert counts.sum() == len(TARGETS)
        assert counts.max() - counts.min() <= 1


def test_within_a_class_images_come_equally_often_in_an_epoch() -> None:
    counts = np.bincount(balanced(TARGETS, 0, 0), minlength=len(TARGETS))
    for label in range(3):
        own = counts[np.flatnonzero(label == TARGETS)]
        assert own.max() - own.min() <= 2  # a lap ends and another begins within the epoch


def test_all_images_of_a_large_class_come_in_turn() -> None:
    seen = np.concatenate([balanced(TARGETS, 0, epoch) for epoch in range(3)])
    assert set(np.flatnonzero(TARGETS == 0)) <= set(seen.tolist())


def test_an_epoch_depends_on_the_seed_and_the_epoch_alone() -> None:
    first = balanced(TARGETS, 0, 7)
    assert np.array_equal(first, balanced(TARGETS, 0, 7))
    assert not np.array_equal(first, balanced(TARGETS, 0, 8))
    assert not np.array_equal(first, balanced(TARGETS, 1, 7))


def test_how_often_the_rarest_image_repeats_is_what_happens() -> None:
    label, times = repeats(TARGETS)
    counts = np.bincount(balanced(TARGETS, 0, 0), minlength=len(TARGETS))
    assert label == 2
    assert abs(counts[TARGETS == 2].mean() - times) < 0.5


def test_a_resumed_order_goes_on_where_it_was() -> None:
    whole = TrainingOrder(np.arange(59) + 100, 8, seed=3, epochs=3, balance=TARGETS)
    batches = list(whole)
    assert len(batches) == len(whole) == 24
    for start in (1, 8, 13):
        assert list(TrainingOrder(np.arange(59) + 100, 8, 3, 3, start, TARGETS)) == batches[start:]


def test_an_image_that_comes_again_in_an_epoch_is_another_sample_of_the_same_image() -> None:
    order = TrainingOrder(np.arange(59) + 100, 59, seed=0, epochs=1, balance=TARGETS)
    [samples] = list(order)
    assert len(set(samples)) == 59
    images = {sample % APPEARANCE for sample in samples}
    assert images <= set(range(100, 159))
    assert len(images) < 59


def test_appearances_count_from_zero() -> None:
    assert appearances(np.array([5, 3, 5, 5, 3])).tolist() == [0, 0, 1, 2, 1]
