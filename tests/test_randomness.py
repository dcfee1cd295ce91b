import numpy as np
import pytest
import torch

from sightline.randomness import Draws, key, permutation, seed_torch

EXPECTED = ["0.58233082", "0.14954913", "0.64257669", "0.19982356", "0.31362987", "0.64480269"]


def draws(samples: list[int], *, seed: int = 0, epoch: int = 0) -> Draws:
    return Draws(seed, epoch, torch.tensor(samples))


def test_a_sample_draws_the_same_wherever_in_a_batch_it_stands() -> None:
    together = draws([5, 9, 2]).uniform("flip", 4)
    alone = draws([9]).uniform("flip", 4)
    assert torch.equal(together[1], alone[0])


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}])
def test_another_seed_or_epoch_draws_other_numbers(other: dict[str, int]) -> None:
    assert not torch.equal(draws([1, 2, 3]).uniform("flip"), draws([1, 2, 3], **other).uniform("flip"))


def test_operations_draw_independently() -> None:
    many = draws(list(range(20_000)))
    first, second = many.uniform("flip")[:, 0], many.uniform("crop")[:, 0]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03


def test_draws_are_uniform_and_uncorrelated_between_samples_and_columns() -> None:
    values = draws(list(range(50_000))).uniform("flip", 2).numpy().astype(np.float64)
    assert values.min() >= 0
    assert values.max() < 1
    assert abs(values.mean() - 0.5) < 0.005
    counts = np.histogram(values[:, 0], bins=20, range=(0, 1))[0]
    assert np.abs(counts - 2500).max() < 250  # five standard deviations
    assert abs(np.corrcoef(values[:, 0], values[:, 1])[0, 1]) < 0.02
    assert abs(np.corrcoef(values[:-1, 0], values[1:, 0])[0, 1]) < 0.02


def test_integers_cover_their_range_and_nothing_else() -> None:
    values = draws(list(range(2000))).integers("crop", 5)
    assert sorted(set(values.flatten().tolist())) == [0, 1, 2, 3, 4]


def test_the_bits_are_those_of_every_earlier_release() -> None:
    """A resumed run and a published figure depend on them."""
    values = draws([0, 1, 10**12], seed=3, epoch=7).uniform("flip", 2)
    assert [f"{v:.8f}" for v in values.flatten().tolist()] == EXPECTED


def test_a_permutation_holds_each_number_once_and_depends_on_its_purpose() -> None:
    first, second = permutation(100, 0, 1, "order"), permutation(100, 0, 2, "order")
    assert sorted(first.tolist()) == list(range(100))
    assert first.tolist() != second.tolist()
    assert first.tolist() == permutation(100, 0, 1, "order").tolist()


def test_keys_do_not_run_their_parts_together() -> None:
    assert key(1, 23) != key(12, 3)


def test_seeding_torch_makes_a_step_independent_of_what_was_drawn_before() -> None:
    seed_torch(0, 17, "network")
    first = torch.rand(3)
    torch.rand(1000)
    seed_torch(0, 17, "network")
    assert torch.equal(first, torch.rand(3))
