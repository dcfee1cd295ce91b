"""A run is one value: the recipe. Python builds it, `dataclasses.replace` varies it, YAML holds it whole.

Every field is followed by its meaning and unit; `sightline recipes --explain` prints exactly those texts.
"""

from dataclasses import dataclass, field

from sightline.augmentations import Augmentation
from sightline.errors import RecipeError
from sightline.recipe.checks import MOST, at_least
from sightline.recipe.data import DataConfig
from sightline.recipe.finetune import FineTuneConfig
from sightline.recipe.loss import LossConfig
from sightline.recipe.model import ModelConfig
from sightline.recipe.optim import OptimConfig
from sightline.recipe.train import TrainConfig

__all__ = ["DataConfig", "FineTuneConfig", "LossConfig", "ModelConfig", "OptimConfig", "Recipe", "TrainConfig"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a run's result, beside the data and the machine."""

    seed: int = 0
    """Chooses the weights at the start, the split, the order of images and every random draw."""
    epochs: int = 20
    """Passes over the training images."""
    batch_size: int = 64
    """Images in a batch on each device."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: tuple[Augmentation, ...] = ()
    """Applied to each training batch, in this order."""
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    finetune: FineTuneConfig = field(default_factory=FineTuneConfig)

    def __post_init__(self) -> None:
        at_least("seed", self.seed, 0)
        at_least("epochs", self.epochs, 1, most=MOST)
        at_least("batch_size", self.batch_size, 1, most=MOST)
        self.finetune.check_start(self.model.pretrained)
        self.finetune.check_epochs(self.epochs)
        if self.optim.warmup_epochs >= self.epochs:
            raise RecipeError(
                f"optim.warmup_epochs ({self.optim.warmup_epochs}) must be less than epochs ({self.epochs}): "
                "the run would end before it reaches the peak learning rate. Lower the warm-up or train longer."
            )
