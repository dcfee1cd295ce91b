"""A run is one value: the recipe. Python builds it, `dataclasses.replace` varies it, YAML holds it whole.

Every field is followed by its meaning and unit; `sightline recipes --explain` prints exactly those texts.
"""

from dataclasses import dataclass, field

from sightline.augmentations import Augmentation
from sightline.errors import RecipeError
from sightline.recipe.augment import check_augment
from sightline.recipe.checks import MOST, at_least
from sightline.recipe.data import DataConfig
from sightline.recipe.distill import DistillConfig
from sightline.recipe.finetune import FineTuneConfig
from sightline.recipe.loss import LossConfig, check_labels
from sightline.recipe.model import ModelConfig
from sightline.recipe.optim import OptimConfig
from sightline.recipe.train import TrainConfig

__all__ = [
    "DataConfig",
    "DistillConfig",
    "FineTuneConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "Recipe",
    "TrainConfig",
]


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
    distill: DistillConfig = field(default_factory=DistillConfig)

    def __post_init__(self) -> None:
        at_least("seed", self.seed, 0)
        at_least("epochs", self.epochs, 1, most=MOST)
        at_least("batch_size", self.batch_size, 1, most=MOST)
        check_labels(self.loss, self.data)
        self.distill.check_rest(
            label_separator=self.data.label_separator,
            probe=self.finetune.probe,
            compiled=self.train.compile,
            balanced=self.data.sampling == "balanced",
        )
        check_augment(self.augment, self.data, epochs=self.epochs, batch_size=self.batch_size)
        several_labels = self.data.label_separator is not None
        self.finetune.check_rest(pretrained=self.model.pretrained, epochs=self.epochs, several_labels=several_labels)
        if self.train.fake_quantize and self.finetune.probe:
            raise RecipeError("finetune.probe trains no layer that train.fake_quantize could round. Remove one.")
        self.optim.check_epochs(self.epochs, looks=-(-self.epochs // self.train.validate_every))
        self.train.swa_first_epoch(self.epochs)
        self.optim.batches_per_update(self.batch_size)
        self.optim.check_average(self.train.ema_decay, self.train.swa_start)

    @property
    def accumulate(self) -> int:
        """Batches whose gradients are averaged into one update."""
        return self.optim.batches_per_update(self.batch_size)
