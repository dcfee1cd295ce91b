"""Settings of the run."""

from dataclasses import dataclass
from typing import Literal

from sightline.errors import RecipeError
from sightline.recipe.checks import at_least


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the run goes."""

    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """Of the forward and backward pass: float32, or mixed with bfloat16 or float16 (float16 on a GPU only)."""
    channels_last: bool = False
    """Keep images and kernels with the channel innermost, which convolutions like; no change but in rounding."""
    compile: bool = False
    """Let torch.compile make faster kernels first: some minutes on a CPU, and it needs a C++ compiler."""
    checkpoint_activations: bool = False
    """Compute activations again in the backward pass: less memory, about a third more time, the same result."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes a GPU when there is one."""
    deterministic: bool = False
    """On a GPU: only algorithms that give the same bits each time, or an error. A CPU always does."""
    validate_every: int = 1
    """Epochs between two looks at the validation split; the last epoch always has one."""
    select: Literal["best", "last"] = "best"
    """The weights to keep: those with the lowest validation loss, or the last."""
    patience: int | None = None
    """Stop early after this many looks at the validation split without a lower loss; null never stops early."""
    checkpoint_minutes: float = 5.0
    """Longest time between two checkpoints, in minutes; one is also written after every epoch."""

    def __post_init__(self) -> None:
        at_least("train.validate_every", self.validate_every, 1)
        if self.patience is not None:
            at_least("train.patience", self.patience, 1)
        if self.checkpoint_minutes < 0:
            raise RecipeError(f"train.checkpoint_minutes must be at least 0, got {self.checkpoint_minutes}.")
