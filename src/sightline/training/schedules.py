"""The learning rate as a pure function of the update's number: nothing to save, nothing to restore.

Plateau's is one of the validation losses so far too, which the run's journal holds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sightline.recipe import OptimConfig

DIV_FACTOR = 25
"""One-cycle begins at the peak divided by this, torch's figure."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a run an update is."""

    update: int
    """Its number, from 0."""
    warmup: int
    """Updates of warm-up."""
    updates: int
    """Of the whole run."""
    updates_per_epoch: float
    losses: Sequence[float]
    """The validation losses so far."""

    @property
    def length(self) -> int:
        """Updates after the warm-up, at least 1."""
        return max(self.updates - self.warmup, 1)

    @property
    def since(self) -> int:
        """Updates since the warm-up."""
        return self.update - self.warmup

    @property
    def done(self) -> float:
        """The share of the updates after the warm-up that lies before this one, 0 to below 1."""
        return self.since / self.length


def learning_rate(
    config: OptimConfig, update: int, updates: int, updates_per_epoch: float, losses: Sequence[float] = ()
) -> float:
    """The rate of update number `update`, of 0 to `updates` - 1.

    `losses` are those of the looks at the validation split so far; only the plateau schedule asks for them.
    The linear warm-up, to where the schedule begins: Accurate, Large Minibatch SGD (Goyal et al., 2017), section 2.2.
    """
    warmup = round(config.warmup_epochs * updates_per_epoch)
    place = _Place(max(update, warmup), warmup, updates, updates_per_epoch, losses)
    climbed = min((update + 1) / (warmup + 1), 1.0)
    return config.lr * climbed * _COURSES[config.course](config, place)


def momentum(config: OptimConfig, highest: float, update: int, updates: int, updates_per_epoch: float) -> float:
    """Momentum, or the first of betas, at an update: one_cycle moves it against the rate, others leave it `highest`.

    Source: A Disciplined Approach to Neural Network Hyper-Parameters (Smith, 2018), section 4.3.
    """
    if config.low_momentum is None:
        return highest
    warmup = round(config.warmup_epochs * updates_per_epoch)
    place = _Place(max(update, warmup), warmup, updates, updates_per_epoch, ())
    return _between(highest, config.low_momentum, highest, config, place)


def _constant(_config: OptimConfig, _place: _Place) -> float:
    return 1.0


def _step(config: OptimConfig, place: _Place) -> float:
    """A factor every so many epochs, counted from the run's beginning."""
    assert config.step_epochs is not None  # the recipe has seen to it
    size = config.step_epochs * place.updates_per_epoch
    return config.own("factor") ** max(math.ceil((place.update + 0.5) / size) - 1, 0)


def _multistep(config: OptimConfig, place: _Place) -> float:
    passed = [m for m in config.milestones or () if round(m * place.updates_per_epoch) <= place.update]
    return config.own("factor") ** len(passed)


def _exponential(config: OptimConfig, place: _Place) -> float:
    """The same factor at every update, so that end_factor would come after the last."""
    return config.own_end_factor**place.done


def _polynomial(config: OptimConfig, place: _Place) -> float:
    """ParseNet (Liu et al., 2015), section 4: the "poly" policy."""
    end = config.own_end_factor
    return end + (1 - end) * (1 - place.done) ** config.own("power")


def _inverse_sqrt(_config: OptimConfig, place: _Place) -> float:
    """Attention Is All You Need (Vaswani et al., 2017), equation 3, scaled to a peak of 1 where the warm-up ends."""
    return math.sqrt((place.warmup + 1) / (place.update + 1))


def _cosine(config: OptimConfig, place: _Place) -> float:
    """SGDR, Stochastic Gradient Descent with Warm Restarts (Loshchilov and Hutter, 2017), equation 5."""
    cycles, growth = int(config.own("cycles")), config.own("cycle_growth")
    lengths = [growth**number for number in range(cycles)]
    starts = [round(place.length * sum(lengths[:number]) / sum(lengths)) for number in range(cycles + 1)]
    begun = max(start for start in starts if start <= place.since)
    size = min((start for start in starts if start > begun), default=begun + 1) - begun
    done = (place.since - begun) / size
    end = config.own_end_factor
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * done))


def _one_cycle(config: OptimConfig, place: _Place) -> float:
    """Super-Convergence (Smith and Topin, 2018), with the cosine slopes that torch and fastai give it."""
    return _between(1 / DIV_FACTOR, 1.0, config.own_end_factor, config, place)


def _plateau(config: OptimConfig, place: _Place) -> float:
    """A factor after each `patience` looks in a row without a loss lower than any before."""
    patience, best, without, steps = int(config.own("patience")), math.inf, 0, 0
    for loss in place.losses:
        best, without = (loss, 0) if loss < best else (best, without + 1)
        if without == patience:
            steps, without = steps + 1, 0
    return max(config.own("factor") ** steps, config.own_end_factor)


def _between(first: float, middle: float, last: float, config: OptimConfig, place: _Place) -> float:
    """From `first` to `middle` while one_cycle rises, then to `last`, which the last update has."""
    top = max(config.own("rise") * place.length - 1, 0.0)
    if place.since < top:
        return _eased(first, middle, place.since / top)
    return _eased(middle, last, (place.since - top) / max(place.length - 1 - top, 1))


def _eased(start: float, end: float, share: float) -> float:
    """Half a cosine from one value to another."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


_COURSES: dict[str, Callable[[OptimConfig, _Place], float]] = {
    "constant": _constant,
    "step": _step,
    "multistep": _multistep,
    "exponential": _exponential,
    "polynomial": _polynomial,
    "inverse_sqrt": _inverse_sqrt,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
    "plateau": _plateau,
}
"""By its name in the recipe: the rate after the warm-up, as a share of the peak."""
