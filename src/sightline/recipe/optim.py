"""Settings of the optimiser and the learning rate."""

from dataclasses import dataclass
from typing import Literal

from sightline.errors import RecipeError
from sightline.recipe.checks import MOST, at_least


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How weights are updated."""

    name: Literal["sgd", "adamw"] = "adamw"
    """The optimiser."""
    lr: float = 1e-3
    """Peak learning rate, for the whole batch; it is never rescaled silently."""
    momentum: float = 0.9
    """Of SGD: the share of the last update that is kept, 0 to 1; 0 is plain SGD. AdamW uses betas instead."""
    nesterov: bool = False
    """Of SGD: look ahead along the momentum."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW: how slowly the running mean and the running square forget, each 0 to 1."""
    weight_decay: float = 0.05
    """Applied to matrices and kernels only, never to biases, norms or scales."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The learning rate's course after the warm-up; cosine ends at 0, and changes at every step."""
    warmup_epochs: float = 0.0
    """Epochs in which the learning rate climbs from 0 to its peak."""
    accumulate: int = 1
    """Batches whose gradients are averaged into one update."""
    clip_norm: float | None = None
    """Longest gradient, as a norm over all parameters; longer ones are shortened to it. null: no limit."""

    def __post_init__(self) -> None:
        if not 0 < self.lr <= MOST:
            raise RecipeError(f"optim.lr must be greater than 0 and at most {MOST:,}, got {self.lr}.")
        if self.weight_decay < 0:
            raise RecipeError(f"optim.weight_decay must be at least 0, got {self.weight_decay}.")
        if not 0 <= self.momentum < 1:
            raise RecipeError(f"optim.momentum must be at least 0 and below 1, got {self.momentum}.")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise RecipeError(f"Each of optim.betas must be at least 0 and below 1, got {list(self.betas)}.")
        if self.warmup_epochs < 0:
            raise RecipeError(f"optim.warmup_epochs must be at least 0, got {self.warmup_epochs}.")
        at_least("optim.accumulate", self.accumulate, 1)
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise RecipeError(f"optim.clip_norm must be greater than 0, or null for no limit, got {self.clip_norm}.")
        if self.name == "sgd" and self.betas != (0.9, 0.999):
            raise RecipeError("optim.betas is AdamW's; optim.name is 'sgd', which would ignore it. Remove one of them.")
        if self.name == "adamw" and (self.nesterov or self.momentum != 0.9):
            setting = "optim.nesterov" if self.nesterov else "optim.momentum"
            raise RecipeError(f"{setting} is SGD's; optim.name is 'adamw', which would ignore it. Remove one of them.")
        if self.nesterov and self.momentum == 0:
            raise RecipeError(
                "optim.nesterov needs optim.momentum greater than 0: there is nothing to look ahead along."
            )
