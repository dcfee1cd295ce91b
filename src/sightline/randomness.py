"""Draws as a pure function of (seed, epoch, sample, operation), never of history.

A generator remembers how often it was asked, so a resumed run, or another number of loader workers,
would see other numbers. Here a draw is a hash of what it is for; nothing needs saving or restoring.

The hash is SplitMix64's finaliser (Steele et al., Fast Splittable Pseudorandom Number Generators,
OOPSLA 2014, section 5.1), computed in NumPy's wrapping 64-bit integers: the same bits on every device.
"""

import hashlib
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

Words: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]


def _mix(words: Words) -> Words:
    """A bijection of 64-bit words whose output bits each depend on every input bit."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


@lru_cache(maxsize=4096)
def key(seed: int, *parts: int | str) -> int:
    """A 64-bit key for a purpose, such as `key(seed, epoch, "order")`."""
    text = "\x1f".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def permutation(count: int, seed: int, *parts: int | str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The numbers 0 to count - 1 in an order that depends on the seed and `parts` alone."""
    return np.random.Generator(np.random.Philox(key=key(seed, *parts))).permutation(count)


def seed_torch(seed: int, *parts: int | str) -> None:
    """Seed torch's global generators for one step, for what draws inside a network (dropout)."""
    number = key(seed, *parts) >> 1  # torch takes 63 bits
    if _has_accelerator():
        torch.manual_seed(number)
    else:  # that function writes down the stack for each kind of accelerator that may come, a millisecond a step
        torch.default_generator.manual_seed(number)


@cache
def _has_accelerator() -> bool:
    return torch.accelerator.is_available()


@dataclass(frozen=True, slots=True)
class Draws:
    """The random numbers of one batch: each row belongs to a sample, wherever in a batch it stands."""

    seed: int
    epoch: int
    samples: Tensor
    """(B,) the samples' numbers in the data set, int64, on the CPU."""

    def uniform(self, operation: str, count: int = 1) -> Tensor:
        """(B, count) float32 in [0, 1), on the CPU. Another operation draws independent numbers."""
        samples = self.samples.numpy().astype(np.uint64)
        base = np.uint64(key(self.seed, self.epoch, operation))
        rows = _mix(_mix(samples * _GOLDEN + base) + base)  # (B,)
        columns = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN  # (count,)
        words = _mix(rows[:, None] + columns[None, :])
        return torch.from_numpy((words >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24))

    def integers(self, operation: str, high: int, count: int = 1) -> Tensor:
        """(B, count) int64 in 0 to high - 1, on the CPU."""
        return (self.uniform(operation, count).double() * high).long()

    def seeds(self, operation: str) -> list[int]:
        """A number from 0 to 2**48 - 1 for each sample: the seed of a generator for what takes many draws."""
        halves = self.integers(operation, 2**24, 2).tolist()
        return [high * 2**24 + low for high, low in halves]

    def partners(self, operation: str) -> Tensor:
        """(B,) int64, on the CPU: a permutation of the batch, in which no row is its own partner (but in a batch of 1).

        The samples are put in a random order and each is given the next. So who is whose partner depends on
        the seed, the epoch and which samples the batch holds, not on where in it they stand.
        """
        order = self.uniform(operation)[:, 0].argsort(stable=True)
        partners = torch.empty_like(order)
        partners[order] = order.roll(-1)
        return partners
