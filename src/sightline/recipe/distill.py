"""Settings of distillation."""

import math
from dataclasses import dataclass, fields

from sightline.errors import RecipeError

TEMPERATURE = 4.0
WEIGHT = 0.9
HOTTEST = 1000
"""Temperature: beyond it all classes are alike."""


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """A trained model that the network learns from, beside the labels."""

    teacher: str | None = None
    """A model folder with the same classes, whose probabilities are learned too (Hinton et al., 2015); null: none."""
    temperature: float = TEMPERATURE
    """Both networks' logits are divided by it before they are compared: higher shows more of the unlikely classes."""
    weight: float = WEIGHT
    """Share of the loss that is the teacher's, 0 to 1; the labels have the rest."""
    unlabelled: str | None = None
    """A folder or archive of images without labels, trained on beside those of the data by the teacher's share of the
    loss alone; null: none."""
    attention: float = 0.0
    """What the difference between the two networks' feature maps is multiplied by, before it is added to the loss
    (attention transfer, Zagoruyko and Komodakis, 2017, whose value is 1000); 0 leaves them alone."""

    def __post_init__(self) -> None:
        if not 0 < self.temperature <= HOTTEST:
            raise RecipeError(
                f"distill.temperature must be greater than 0 and at most {HOTTEST:,}, got {self.temperature}."
            )
        if not 0 < self.weight <= 1:
            raise RecipeError(f"distill.weight must be above 0 and at most 1, got {self.weight}.")
        if not 0 <= self.attention < math.inf:
            raise RecipeError(f"distill.attention must be a number of at least 0, got {self.attention}.")
        if self.teacher is None and any(getattr(self, field.name) != field.default for field in fields(self)):
            raise RecipeError("The settings of distill are of distill.teacher, which is null. Set it.")

    def check_rest(self, *, label_separator: str | None, probe: bool, compiled: bool, balanced: bool) -> None:
        """Raise RecipeError where the rest of the recipe contradicts these settings."""
        if self.attention and compiled:
            raise RecipeError(
                "distill.attention can't see into what train.compile makes. Set one of them to 0 or false."
            )
        if self.unlabelled is not None and balanced:
            raise RecipeError(
                "data.sampling balances by labels, which the images of distill.unlabelled don't have. Remove one."
            )
        if self.teacher is not None and probe:
            raise RecipeError("finetune.probe fits the labels alone and would ignore distill.teacher. Remove one.")
        if self.teacher is not None and label_separator is not None:
            raise RecipeError(
                "distill.teacher gives one distribution over all classes, and data.label_separator says that an "
                "image may have several labels. Remove one of them."
            )
