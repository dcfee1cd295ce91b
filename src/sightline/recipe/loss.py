"""Settings of the loss."""

from dataclasses import dataclass
from typing import Literal

from sightline.errors import RecipeError
from sightline.recipe.data import DataConfig

GAMMA = 2.0
BETA = 0.999


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised."""

    name: Literal["cross_entropy", "focal", "binary"] | None = None
    """cross_entropy; focal, which turns from easy images to hard ones; binary, a yes or no for each class, averaged
    over the classes (SGD may want a larger optim.lr). null: cross_entropy, or binary with data.label_separator."""
    label_smoothing: float = 0.0
    """Share of each target spread evenly over all classes, or over yes and no with data.label_separator; 0 to 1."""
    focal_gamma: float = GAMMA
    """Of focal: how strongly easy images are played down; 0 plays none down."""
    class_weights: dict[str, float] | Literal["balanced", "effective"] | None = None
    """Weight of a class's images: balanced, by inverse frequency; effective, by the effective number of images; or
    {name: weight}, 1 where a class isn't named. With data.label_separator the weight of each yes. null: all 1."""
    effective_beta: float = BETA
    """Of class_weights=effective, 0 to 1: close to 1 it weights by inverse frequency, at 0 not at all."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise RecipeError(f"loss.label_smoothing must be at least 0 and below 1, got {self.label_smoothing}.")
        if self.focal_gamma < 0:
            raise RecipeError(f"loss.focal_gamma must be at least 0, got {self.focal_gamma}.")
        if not 0 <= self.effective_beta < 1:
            raise RecipeError(f"loss.effective_beta must be at least 0 and below 1, got {self.effective_beta}.")
        if isinstance(self.class_weights, dict):
            _check_weights(self.class_weights)
        if self.name == "focal" and self.label_smoothing:
            raise RecipeError(
                "loss.label_smoothing asks for doubt about every image, and loss.name 'focal' looks away from images "
                "without doubt. Set one of them only."
            )
        if self.name != "focal" and self.focal_gamma != GAMMA:
            raise RecipeError("loss.focal_gamma is the focal loss's. Set loss.name=focal, or remove it.")
        if self.class_weights != "effective" and self.effective_beta != BETA:
            raise RecipeError(
                "loss.effective_beta belongs to loss.class_weights 'effective'. Set loss.class_weights=effective, or "
                "remove it."
            )


def check_labels(loss: LossConfig, data: DataConfig) -> None:
    """Raise RecipeError for a loss or a sampling that presumes one label an image where there are several."""
    if data.label_separator is None:
        return
    if loss.name == "cross_entropy":
        raise RecipeError(
            "loss.name 'cross_entropy' takes one label an image, and data.label_separator says there may be several. "
            "Set loss.name=binary or focal, or leave it null."
        )
    if data.sampling == "balanced":
        raise RecipeError(
            "data.sampling 'balanced' needs one label an image, and data.label_separator says there may be several. "
            "Set loss.class_weights=balanced instead."
        )


def _check_weights(weights: dict[str, float]) -> None:
    if not weights:
        raise RecipeError("loss.class_weights names no class. Set it to null for equal weights.")
    wrong = next((name for name, weight in weights.items() if weight <= 0), None)
    if wrong is not None:
        raise RecipeError(f"loss.class_weights.{wrong} must be greater than 0, got {weights[wrong]}.")
