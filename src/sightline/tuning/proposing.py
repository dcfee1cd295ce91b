"""Which values a search tries next, and which trials it ends early: Optuna's samplers and pruners.

Sources: Gaussian processes with expected improvement (Jones et al., 1998; Ament et al., 2023), the tree-structured
Parzen estimator (Bergstra et al., 2011), successive halving (Li et al., 2020, https://arxiv.org/abs/1810.05934).
"""

from typing import Any

from sightline.randomness import key
from sightline.tuning.searches import Search

SHORT = 9
"""Runs of fewer epochs are all trained to their end: a third of so few tells little of how they end."""

FEWEST, MOST = 5, 10
"""Trials at random before the model of what is good says anything."""


def sampler_of(optuna: Any, search: Search, number: int) -> Any:
    """What proposes the values of a trial.

    A seed for each trial: a resumed search proposes what it would have, and two processes never the same.
    """
    seed = key(search.recipe.seed, number, "sampler") % 2**32
    at_random = min(MOST, max(FEWEST, search.trials // 4))
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if search.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=at_random)
    return optuna.samplers.GPSampler(seed=seed, n_startup_trials=at_random)


def pruner_of(optuna: Any, search: Search) -> Any:
    """What says when a trial is to end early."""
    epochs = search.recipe.epochs
    if not search.prune or search.against is not None or epochs < SHORT:
        return optuna.pruners.NopPruner()
    return optuna.pruners.SuccessiveHalvingPruner(min_resource=epochs // 9, reduction_factor=3)


def learns_from_all(search: Search) -> bool:
    """Whether trials that ended early or failed have to be told as finished ones, for the sampler to learn of them.

    Gaussian processes are fitted to finished trials alone: what failed once would be proposed again and again.
    """
    return search.sampler == "gp" and search.against is None
