"""Settings of the loss."""

from dataclasses import dataclass

from sightline.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised: cross-entropy."""

    label_smoothing: float = 0.0
    """Share of each target spread evenly over all classes, 0 to 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise RecipeError(f"loss.label_smoothing must be at least 0 and below 1, got {self.label_smoothing}.")
