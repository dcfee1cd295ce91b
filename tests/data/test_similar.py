import numpy as np
import pytest

from sightline.data.similar import connected, near_pairs


def all_pairs(hashes: np.ndarray, distance: int) -> list[list[int]]:
    bits = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    return [[i, j] for i, j in np.argwhere(bits <= distance).tolist() if i < j]


@pytest.mark.parametrize("distance", range(7))
def test_near_pairs_are_exactly_those_that_comparing_all_with_all_finds(distance: int) -> None:
    draws = np.random.default_rng(distance)
    seeds = draws.integers(0, 2**63, 40, dtype=np.uint64)
    flips = (np.uint64(1) << draws.integers(0, 64, (40, 10, 4), dtype=np.uint64)).astype(np.uint64)
    near = seeds[:, None] ^ np.bitwise_xor.reduce(flips, axis=2)  # 40 families, members up to 8 bits apart
    hashes = np.unique(near)
    assert near_pairs(hashes, distance).tolist() == all_pairs(hashes, distance)


def test_hashes_that_share_almost_every_bit_are_compared_too() -> None:
    hashes = np.arange(300, dtype=np.uint64)  # all in one band but the lowest
    assert near_pairs(hashes, 2).tolist() == all_pairs(hashes, 2)


def test_no_hash_and_one_hash_have_no_pairs() -> None:
    assert near_pairs(np.array([], dtype=np.uint64), 4).shape == (0, 2)
    assert near_pairs(np.array([7], dtype=np.uint64), 4).shape == (0, 2)


def test_links_connect_into_groups_whatever_their_order() -> None:
    assert connected(7, [(5, 1), (1, 3), (2, 6), (3, 5)]) == [[1, 3, 5], [2, 6]]
    assert connected(3, []) == []
