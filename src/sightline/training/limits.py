"""Limits of a run: its time, the length of the weight vectors into each unit, and weights that stay zero."""

import logging
import time

import torch
from torch import Tensor, nn

from sightline.recipe import Recipe

log = logging.getLogger("sightline")

WARM_UP, MEASURED = 10, 50
"""Batches of a part of the run before its speed is measured, and those it is measured over."""


class Clock:
    """Seconds of training, over all parts of a run; what a kill lost is not counted."""

    def __init__(self, max_hours: float | None) -> None:
        self._limit = None if max_hours is None else max_hours * 3600
        self._began = time.monotonic()
        self._marks: list[float] = []

    def begin(self, spent: float) -> None:
        """Go on from so many seconds."""
        self._began = time.monotonic() - spent

    @property
    def seconds(self) -> float:
        """Spent so far."""
        return time.monotonic() - self._began

    @property
    def is_up(self) -> bool:
        """Whether the limit is reached."""
        return self._limit is not None and self.seconds >= self._limit

    def batches_in_all(self, position: int) -> int | None:
        """Batches that the limit leaves time for, told once, as soon as the speed is known; else None.

        To be asked after each batch; `position` counts them from the run's start. Validation is left out.
        """
        if self._limit is None or len(self._marks) > WARM_UP + MEASURED:
            return None
        self._marks.append(self.seconds)
        if len(self._marks) <= WARM_UP + MEASURED:
            return None
        speed = (self._marks[-1] - self._marks[WARM_UP]) / MEASURED
        return position + int((self._limit - self.seconds) / speed)


def outlook(recipe: Recipe, epochs: float) -> str:
    """What to expect of a run that has time for so many of its epochs."""
    falls = "" if recipe.optim.course == "constant" else " before the learning rate has come down"
    fitting = max(int(epochs), 1)
    return (
        f"At this speed train.max_hours ({recipe.train.max_hours:g}) ends the run after some {epochs:.1f} of "
        f"{recipe.epochs} epochs{falls}; {fitting} would fit, not counting validation."
    )


def shorten_weights(model: nn.Module, longest: float) -> None:
    """Scale each weight vector into one unit down to that L2 norm, where it is longer.

    A unit's vector is a row of a matrix or a filter of a convolution, the head's among them; biases, norms and
    tables have no limit. Source: Dropout: A Simple Way to Prevent Neural Networks from Overfitting
    (Srivastava et al., 2014), section 5.1.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and parameter.ndim > 1 and name.endswith("weight"):
                parameter.renorm_(2, 0, longest)


class Zeros:
    """The weights of matrices and convolutions that are zero now."""

    def __init__(self, model: nn.Module) -> None:
        layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
        self._masks = [(layer.weight, layer.weight != 0) for layer in layers if not layer.weight.all()]
        if not self._masks:
            log.warning(
                "train.keep_zeros keeps nothing: no weight is zero. `sightline compress --sparsify` makes some."
            )

    def keep(self, optimizer: torch.optim.Optimizer) -> None:
        """Set them to zero again, after an update, and what a schedule-free optimiser computes the shown ones from."""
        with torch.no_grad():
            for weight, mask in self._masks:
                weight.mul_(mask)
                base: Tensor | None = optimizer.state.get(weight, {}).get("z")
                if base is not None:
                    base.mul_(mask)
