"""The learning rate as a pure function of the update's number: nothing to save, nothing to restore."""

import math

from sightline.recipe import OptimConfig


def learning_rate(config: OptimConfig, update: int, updates: int, updates_per_epoch: float) -> float:
    """The rate of update number `update`, of 0 to `updates` - 1.

    Cosine: SGDR, Stochastic Gradient Descent with Warm Restarts (Loshchilov and Hutter, 2017), equation 5,
    without restarts and down to 0. The linear warm-up: Accurate, Large Minibatch SGD (Goyal et al., 2017),
    section 2.2.
    """
    warmup = round(config.warmup_epochs * updates_per_epoch)
    if update < warmup:
        return config.lr * (update + 1) / (warmup + 1)
    if config.schedule == "constant":
        return config.lr
    done = (update - warmup) / max(updates - warmup, 1)
    return config.lr * 0.5 * (1 + math.cos(math.pi * done))
