"""What a run has seen so far: its epochs, its best look at the validation split, why it stopped."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from sightline.recipe import TrainConfig
from sightline.training.gradients import GradientRow
from sightline.training.metrics_log import Row


@dataclass(kw_only=True)
class Journal:
    """Plain values, all of which a checkpoint holds."""

    rows: list[Row] = field(default_factory=list[Row])
    """One for each epoch, as in metrics.csv."""
    gradients: list[GradientRow] = field(default_factory=list[GradientRow])
    """As in gradients.csv; empty unless they are watched."""
    best_gain: float | None = None
    """The best validation figure, greater being better: an accuracy, or a loss with its sign turned."""
    best_epoch: int = 0
    counted_gain: float | None = None
    """The last figure that was better than the one before it by more than train.min_gain."""
    looks_without_gain: int = 0
    stopped: Literal["", "patience", "max_hours"] = ""
    """The setting that ended the run before its last epoch."""
    seconds: float = 0.0
    """Spent in training and validation, over all parts of the run."""

    @classmethod
    def read(cls, stored: dict[str, Any]) -> "Journal":
        """From a checkpoint."""
        journal = cls(**stored)
        journal.rows = [Row(**row) for row in stored["rows"]]
        journal.gradients = [GradientRow(**row) for row in stored["gradients"]]
        return journal

    @property
    def validation_losses(self) -> list[float]:
        """Of every look so far."""
        return [row.val_loss for row in self.rows if row.val_loss is not None]

    def look(self, row: Row, config: TrainConfig) -> bool:
        """Take note of a row with validation figures; whether they are the best so far."""
        gain = row.val_accuracy if config.monitor == "accuracy" else -(row.val_loss or 0.0)
        if gain is None or math.isnan(gain):
            gain = -math.inf
        if self.counted_gain is None or gain > self.counted_gain + config.min_gain:
            self.counted_gain, self.looks_without_gain = gain, 0
        else:
            self.looks_without_gain += 1
        is_best = self.best_gain is None or gain > self.best_gain
        if is_best:
            self.best_gain, self.best_epoch = gain, row.epoch
        return is_best

    def is_out_of_patience(self, config: TrainConfig) -> bool:
        """Whether as many looks as the recipe allows have brought no gain."""
        return config.patience is not None and self.looks_without_gain >= config.patience
