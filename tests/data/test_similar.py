import tracemalloc

import numpy as np
import pytest

from sightline.data.similar import connected, near_groups


def compared(hashes: np.ndarray, distance: int) -> list[int]:
    """The groups, from comparing all with all."""
    bits = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    groups = list(range(len(hashes)))
    for group in connected(len(hashes), np.argwhere(bits <= distance).tolist()):
        for place in group:
            groups[place] = group[0]
    return groups


@pytest.mark.parametrize("distance", range(7))
def test_near_groups_are_exactly_those_that_comparing_all_with_all_finds(distance: int) -> None:
    draws = np.random.default_rng(distance)
    seeds = draws.integers(0, 2**63, 40, dtype=np.uint64)
    flips = (np.uint64(1) << draws.integers(0, 64, (40, 10, 4), dtype=np.uint64)).astype(np.uint64)
    near = seeds[:, None] ^ np.bitwise_xor.reduce(flips, axis=2)  # 40 families, members up to 8 bits apart
    hashes = draws.permutation(np.unique(near))
    groups = near_groups(hashes, distance).tolist()
    assert groups == compared(hashes, distance)
    assert 40 <= len(set(groups)) <= len(hashes)


@pytest.mark.parametrize("distance", [0, 1, 2, 4])
def test_hashes_that_share_almost_every_bit_are_compared_too(distance: int) -> None:
    hashes = np.random.default_rng(0).choice(2**14, 300, replace=False).astype(np.uint64)
    assert near_groups(hashes, distance).tolist() == compared(hashes, distance)


def test_hundreds_of_thousands_of_near_pairs_take_no_memory_of_their_own() -> None:
    hashes = np.arange(2000, dtype=np.uint64)  # 548,552 pairs
    tracemalloc.start()
    groups = near_groups(hashes, 4)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not groups.any()
    assert peak < 1_000_000


def test_no_hash_and_one_hash_have_no_others() -> None:
    assert near_groups(np.array([], dtype=np.uint64), 4).tolist() == []
    assert near_groups(np.array([7], dtype=np.uint64), 4).tolist() == [0]


def test_links_connect_into_groups_whatever_their_order() -> None:
    assert connected(7, [(5, 1), (1, 3), (2, 6), (3, 5)]) == [[1, 3, 5], [2, 6]]
    assert connected(3, []) == []
