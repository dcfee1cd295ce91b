"""Settings of the run."""

import math
from dataclasses import dataclass
from typing import Literal

from sightline.errors import RecipeError
from sightline.recipe.checks import at_least, share

CHOSEN_BY_AUTO = {
    "precision": "float32",
    "channels_last": False,
    "depthwise_float32": False,
    "matmul_convolutions": False,
    "mixed_attention": False,
    "fused_norms": False,
    "fused_attention": False,
    "packed_gradients": False,
    "winograd": False,
}
"""The settings that train.fast=auto chooses, each with what it is where nothing was chosen."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the run goes."""

    fast: Literal["auto", "off"] = "off"
    """auto tries precisions and memory formats for some steps on this machine and takes the fastest, which the run's
    recipe.yaml then names; off takes precision, channels_last, depthwise_float32, matmul_convolutions,
    mixed_attention, fused_norms, fused_attention, packed_gradients and winograd as they are. --set train.fast=auto
    chooses anew where a recipe names them."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """Of the forward and backward pass: float32, or mixed with bfloat16 or float16 (float16 on a GPU only)."""
    channels_last: bool = False
    """Keep images and kernels with the channel innermost, which convolutions like; no change but in rounding."""
    depthwise_float32: bool = False
    """Of bf16 and fp16: compute depthwise convolutions in float32, more exactly."""
    matmul_convolutions: bool = False
    """Compute 1x1 convolutions as matrix products, and the weights' gradient of larger kernels on planes of at most
    8x8 so, or with images side by side; no change but in rounding. Faster in bf16 on a CPU that has matrix instructions
    for it."""
    mixed_attention: bool = False
    """Of bf16: compute attention with a learned bias (Swin's) by products in bfloat16 and a softmax in float32, where
    torch on a CPU computes all of it in float32."""
    fused_norms: bool = False
    """Of channels_last, in float32 or bf16: compute batch norm, and the ReLU, SiLU or GELU behind it, by loops that
    the machine's C compiler makes, in bf16 in half the time, in float32 in 0.5 to 0.9 of it; no change but in rounding.
    On a CPU with AVX2 (of bf16: AVX-512 BF16), under Linux."""
    fused_attention: bool = False
    """Of bf16: compute attention's gradients by loops that the machine's C compiler makes, in a third to a sixth of
    torch's time, also with a learned bias (Swin's, which gains less). Of float32: attention too, with a learned bias in
    half of torch's time, without one in 0.6 to 1 of it. No change but in rounding. On a CPU with AVX2 (of bf16: AMX),
    under Linux."""
    packed_gradients: bool = False
    """Of float32 and channels_last: compute the gradient of convolutions' weights, and of depthwise ones' images, by
    loops that the machine's C compiler makes, up to 4.7 times as fast; no change but in rounding. On a CPU with AVX2,
    under Linux."""
    winograd: bool = False
    """Of packed_gradients: compute 3x3 convolutions without a stride by Winograd's minimal filtering, some twice as
    fast, by such loops; rounding errors are two to five times float32's, still some millionths."""
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
    monitor: Literal["loss", "accuracy"] = "loss"
    """The validation figure that decides which weights are the best, and when a run stops early."""
    select: Literal["best", "last"] = "best"
    """The weights to keep: those with the best validation figure, or the last."""
    patience: int | None = None
    """Stop early after this many looks at the validation split without a gain; null never stops early."""
    min_gain: float = 0.0
    """Of patience: the change for the better in the monitored figure that counts as a gain must be larger than this."""
    max_hours: float | None = None
    """Stop after this many hours of training, all parts of a resumed run together; null: no limit."""
    ema_decay: float | None = None
    """Validate and keep an exponential moving average of weights and batch-norm statistics, taken after each
    update: the share of the old average that stays, 0 to 1, less in the first updates. null: none."""
    swa_start: float | None = None
    """Validate and keep the mean of the weights after each epoch, from this share of the run on; batch-norm
    statistics are measured anew for each look, by a pass over the training images. null: none."""
    swa_lr: float | None = None
    """Of swa_start: the learning rate while weights are averaged; null leaves it to optim.schedule."""
    max_norm: float | None = None
    """Longest weight vector into one unit (a row of a matrix, a filter of a convolution), after each update.
    null: no limit."""
    keep_zeros: bool = False
    """Weights that are zero when the run begins stay zero: a sparse network is trained on."""
    fake_quantize: bool = False
    """Round weights and activations in the forward pass as int8 would (quantisation-aware training, Jacob et al.,
    2018); the weights that are kept are float32."""
    watch_gradients: bool = False
    """Write gradients.csv, which the report plots: for each stage the gradient's norm and the share of dead units."""
    checkpoint_minutes: float = 5.0
    """Longest time between two checkpoints, in minutes; one is also written after every epoch."""

    def __post_init__(self) -> None:
        self._check_fast()
        at_least("train.validate_every", self.validate_every, 1)
        if self.patience is not None:
            at_least("train.patience", self.patience, 1)
        self._check_looks()
        self._check_averages()
        _positive("train.max_hours", self.max_hours)
        _positive("train.max_norm", self.max_norm)
        if self.watch_gradients and self.compile:
            raise RecipeError(
                "train.watch_gradients can't see into what train.compile makes. Set one of them to false."
            )
        if self.checkpoint_minutes < 0:
            raise RecipeError(f"train.checkpoint_minutes must be at least 0, got {self.checkpoint_minutes}.")

    def swa_first_epoch(self, epochs: int) -> int | None:
        """The epoch, from 1, whose last weights are the first in the mean; None where none is asked for.

        Raises RecipeError where it would be the last of the run's `epochs`.
        """
        if self.swa_start is None:
            return None
        first = max(1, math.ceil(self.swa_start * epochs))
        if first >= epochs:
            raise RecipeError(
                f"train.swa_start ({self.swa_start}) leaves nothing to average: the mean would begin after epoch "
                f"{first} of {epochs}. Lower it or train longer."
            )
        return first

    def swa_rate(self, epoch: int, epochs: int) -> float | None:
        """The constant learning rate of an epoch, from 0, while weights are averaged; None: the schedule's."""
        first = self.swa_first_epoch(epochs)
        return self.swa_lr if first is not None and epoch >= first else None

    def _check_fast(self) -> None:
        for name, default in CHOSEN_BY_AUTO.items():
            if self.fast == "auto" and getattr(self, name) != default:
                raise RecipeError(
                    f"train.fast is 'auto', which chooses train.{name} itself. To choose it, set train.fast=off."
                )
        if self.depthwise_float32 and self.precision == "float32":
            raise RecipeError("train.depthwise_float32 is of bf16 and fp16; train.precision is 'float32' already.")
        if self.mixed_attention and self.precision != "bf16":
            raise RecipeError(f"train.mixed_attention is of bf16; train.precision is {self.precision!r}.")
        if self.fused_attention and self.precision == "fp16":
            raise RecipeError(f"train.fused_attention is of float32 and bf16; train.precision is {self.precision!r}.")
        if self.fused_norms and (self.precision == "fp16" or not self.channels_last):
            raise RecipeError(
                f"train.fused_norms is of channels_last, in float32 or bf16; train.precision is {self.precision!r} and "
                f"train.channels_last {str(self.channels_last).lower()}."
            )

        if self.packed_gradients and (
            self.precision != "float32" or not self.channels_last or self.matmul_convolutions
        ):
            raise RecipeError(
                "train.packed_gradients is of float32 and channels_last, without matmul_convolutions; "
                f"train.precision is {self.precision!r}, train.channels_last {str(self.channels_last).lower()} and "
                f"train.matmul_convolutions {str(self.matmul_convolutions).lower()}."
            )

        if self.winograd and not self.packed_gradients:
            raise RecipeError(
                "train.winograd is of train.packed_gradients, whose loops compute what it doesn't; "
                "train.packed_gradients is false. Set both, or neither."
            )

    def _check_looks(self) -> None:
        if self.min_gain < 0:
            raise RecipeError(f"train.min_gain must be at least 0, got {self.min_gain}.")
        if self.min_gain and self.patience is None:
            raise RecipeError("train.min_gain is of train.patience, which is null and would ignore it. Set both.")
        if self.monitor != "loss" and self.select == "last" and self.patience is None:
            raise RecipeError(
                "train.monitor would be ignored: train.select is 'last' and train.patience is null. Set one of these."
            )

    def _check_averages(self) -> None:
        if self.ema_decay is not None:
            share("train.ema_decay", self.ema_decay)
        if self.swa_start is not None:
            share("train.swa_start", self.swa_start)
        if self.ema_decay is not None and self.swa_start is not None:
            raise RecipeError("train.ema_decay and train.swa_start are two ways to average weights. Set one to null.")
        _positive("train.swa_lr", self.swa_lr)
        if self.swa_lr is not None and self.swa_start is None:
            raise RecipeError("train.swa_lr is of train.swa_start, which is null and would ignore it. Set both.")


def _positive(name: str, value: float | None) -> None:
    if value is not None and value <= 0:
        raise RecipeError(f"{name} must be greater than 0, or null, got {value}.")
