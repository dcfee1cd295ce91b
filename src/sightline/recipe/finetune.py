"""Settings of fine-tuning: what of a trained network is trained again, and when."""

from dataclasses import dataclass

from sightline.errors import RecipeError
from sightline.recipe.checks import MOST, at_least


@dataclass(frozen=True, kw_only=True)
class FineTuneConfig:
    """Which of the weights that model.pretrained names are trained; all of them from the start, if nothing is set."""

    freeze: str | None = None
    """Never train the network up to and including this stage, or "all" but the head; null trains everything."""
    head_epochs: int = 0
    """Epochs in which the head alone is trained, before everything that isn't frozen."""
    unfreeze_every: int | None = None
    """Epochs between two stages that join the training, after the head the last stage first (gradual unfreezing,
    Howard and Ruder, 2018); the head trains alone for head_epochs, or for so many. null lets all join at once."""
    probe: bool = False
    """Train the head alone, by logistic regression on features that are computed once: minutes instead of hours. What
    probe_first and keep_statistics ask for is so then."""
    probe_first: bool = False
    """Begin with the probe's head, and train on from there: the first gradients of a fresh one would spoil what the
    weights know (Kumar et al., 2022)."""
    keep_statistics: bool = False
    """Batch norms normalise by the statistics that come with the weights, and never change them; their own weights
    train. Of use where images are few, or unlike those that the weights were trained on."""
    drop_classes: bool = False
    """Let a model folder's classes go that the data lacks; false refuses to."""

    def __post_init__(self) -> None:
        at_least("finetune.head_epochs", self.head_epochs, 0, most=MOST)
        if self.unfreeze_every is not None:
            at_least("finetune.unfreeze_every", self.unfreeze_every, 1, most=MOST)
        later = self.head_epochs > 0 or self.unfreeze_every is not None
        setting = "finetune.head_epochs" if self.head_epochs else "finetune.unfreeze_every"
        if self.freeze == "all" and later:
            raise RecipeError(f"finetune.freeze 'all' never trains more than the head: remove it, or {setting}.")
        if self.probe and (later or self.freeze is not None):
            setting = "finetune.freeze" if self.freeze is not None else setting
            raise RecipeError(f"finetune.probe trains nothing but the head and would ignore {setting}: remove one.")

    @property
    def freezes(self) -> bool:
        """Whether some parameters don't train in some epochs."""
        return self.freeze is not None or self.head_epochs > 0 or self.unfreeze_every is not None

    @property
    def begins_with_probe(self) -> bool:
        """Whether training goes on from the probe's head."""
        return self.probe_first and not self.probe

    def check_rest(self, *, pretrained: str | None, epochs: int, several_labels: bool) -> None:
        """Raise RecipeError where the rest of the recipe contradicts these settings."""
        names = ("freeze", "head_epochs", "unfreeze_every", "probe", "probe_first", "keep_statistics", "drop_classes")
        for name in (name for name in names if getattr(self, name) and pretrained is None):
            raise RecipeError(
                f"finetune.{name} needs trained weights to build on, and model.pretrained is null: the rest of the "
                "network would stay random. Set model.pretrained, or remove it."
            )
        if (self.probe or self.probe_first) and several_labels:
            setting = "probe" if self.probe else "probe_first"
            raise RecipeError(f"finetune.{setting} fits one label an image; data.label_separator is set. Remove one.")
        alone = self.head_epochs or self.unfreeze_every or 0
        if alone >= epochs:
            setting = "head_epochs" if self.head_epochs else "unfreeze_every"
            raise RecipeError(
                f"finetune.{setting} ({alone}) must be less than epochs ({epochs}). "
                "To train nothing but the head, set finetune.freeze=all."
            )
