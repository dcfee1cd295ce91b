"""A run is one value: the recipe. Python builds it, `dataclasses.replace` varies it, YAML holds it whole.

Every field is followed by its meaning and unit; `sightline recipes --explain` prints exactly those texts.
"""

from dataclasses import dataclass, field
from typing import Literal

from sightline.augmentations import Augmentation
from sightline.errors import RecipeError
from sightline.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

MOST = 1_000_000_000
"""Of epochs, images in a batch and the like: beyond it lies a slip of the finger."""

LARGEST_SIDE = 4096
"""Of an image, in pixels."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network."""

    name: str = "resnet18"
    """An architecture's name; `sightline models` lists them all."""
    dropout: float | None = None
    """Rate of every dropout layer the network has, the head's included, 0 to 1; null keeps the architecture's own."""
    drop_path: float | None = None
    """Stochastic depth: how often the last block's residual branch is skipped, 0 to 1; null keeps its own."""
    activation: str | None = None
    """Replaces every activation: relu, gelu, silu, ...; null keeps the architecture's own."""
    pretrained: str | None = None
    """Published weights to start from: a source and tag ("torchvision:IMAGENET1K_V2"), or a file; null is random."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How images are split, checked and read."""

    image_size: int = 224
    """Side of the square the network sees, in pixels."""
    resize: int | None = None
    """Short side after resizing, in pixels; training crops within it. null: the image size divided by 0.875."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """Filter for resizing, antialiased."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Subtracted from the red, green and blue channel, on the scale 0 to 1."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Each channel is divided by it."""
    val_fraction: float = 0.15
    """Share of the training images held out to choose by, where the data has no validation split; 0 to 1."""
    test_fraction: float = 0.15
    """Share of all images held out for the final figures, where the data has no test split; 0 to 1."""
    on_unreadable: Literal["error", "leave_out"] = "error"
    """What happens when images can't be read: stop with their list, or leave them out and list them."""
    num_workers: int = 2
    """Processes that read images beside the training; 0 reads in the training process. Never changes a result."""

    def __post_init__(self) -> None:
        _at_least("data.image_size", self.image_size, 1, most=LARGEST_SIDE)
        _at_least("data.resize", self.resize or 1, 1, most=LARGEST_SIDE)
        _at_least("data.num_workers", self.num_workers, 0)
        _share("data.val_fraction", self.val_fraction)
        _share("data.test_fraction", self.test_fraction)
        if self.resize is not None and self.resize < self.image_size:
            raise RecipeError(
                f"data.resize ({self.resize}) must be at least data.image_size ({self.image_size}): "
                "the crop would be larger than the image."
            )
        self.preprocess()

    def preprocess(self) -> Preprocess:
        """The Preprocess these settings describe."""
        return Preprocess(
            image_size=self.image_size,
            resize=self.resize if self.resize is not None else round(self.image_size / 0.875),
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
        )


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How weights are updated."""

    name: Literal["sgd", "adamw"] = "adamw"
    """The optimiser."""
    lr: float = 1e-3
    """Peak learning rate, for the whole batch; it is never rescaled silently."""
    momentum: float = 0.9
    """Of SGD: the share of the last update that is kept, 0 to 1; 0 is plain SGD. AdamW uses betas instead."""
    nesterov: bool = False
    """Of SGD: look ahead along the momentum."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW: how slowly the running mean and the running square forget, each 0 to 1."""
    weight_decay: float = 0.05
    """Applied to matrices and kernels only, never to biases, norms or scales."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The learning rate's course after the warm-up; cosine ends at 0, and changes at every step."""
    warmup_epochs: float = 0.0
    """Epochs in which the learning rate climbs from 0 to its peak."""
    accumulate: int = 1
    """Batches whose gradients are averaged into one update."""
    clip_norm: float | None = None
    """Longest gradient, as a norm over all parameters; longer ones are shortened to it. null: no limit."""

    def __post_init__(self) -> None:
        if not 0 < self.lr <= MOST:
            raise RecipeError(f"optim.lr must be greater than 0 and at most {MOST:,}, got {self.lr}.")
        if self.weight_decay < 0:
            raise RecipeError(f"optim.weight_decay must be at least 0, got {self.weight_decay}.")
        if not 0 <= self.momentum < 1:
            raise RecipeError(f"optim.momentum must be at least 0 and below 1, got {self.momentum}.")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise RecipeError(f"Each of optim.betas must be at least 0 and below 1, got {list(self.betas)}.")
        if self.warmup_epochs < 0:
            raise RecipeError(f"optim.warmup_epochs must be at least 0, got {self.warmup_epochs}.")
        _at_least("optim.accumulate", self.accumulate, 1)
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise RecipeError(f"optim.clip_norm must be greater than 0, or null for no limit, got {self.clip_norm}.")
        if self.name == "sgd" and self.betas != (0.9, 0.999):
            raise RecipeError("optim.betas is AdamW's; optim.name is 'sgd', which would ignore it. Remove one of them.")
        if self.name == "adamw" and (self.nesterov or self.momentum != 0.9):
            setting = "optim.nesterov" if self.nesterov else "optim.momentum"
            raise RecipeError(f"{setting} is SGD's; optim.name is 'adamw', which would ignore it. Remove one of them.")
        if self.nesterov and self.momentum == 0:
            raise RecipeError(
                "optim.nesterov needs optim.momentum greater than 0: there is nothing to look ahead along."
            )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised: cross-entropy."""

    label_smoothing: float = 0.0
    """Share of each target spread evenly over all classes, 0 to 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise RecipeError(f"loss.label_smoothing must be at least 0 and below 1, got {self.label_smoothing}.")


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
        _at_least("train.validate_every", self.validate_every, 1)
        if self.patience is not None:
            _at_least("train.patience", self.patience, 1)
        if self.checkpoint_minutes < 0:
            raise RecipeError(f"train.checkpoint_minutes must be at least 0, got {self.checkpoint_minutes}.")


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

    def __post_init__(self) -> None:
        _at_least("seed", self.seed, 0)
        _at_least("epochs", self.epochs, 1, most=MOST)
        _at_least("batch_size", self.batch_size, 1, most=MOST)
        if self.optim.warmup_epochs >= self.epochs:
            raise RecipeError(
                f"optim.warmup_epochs ({self.optim.warmup_epochs}) must be less than epochs ({self.epochs}): "
                "the run would end before it reaches the peak learning rate. Lower the warm-up or train longer."
            )


def _at_least(name: str, value: int, least: int, *, most: int | None = None) -> None:
    if value < least:
        raise RecipeError(f"{name} must be at least {least}, got {value}.")
    if most is not None and value > most:
        raise RecipeError(f"{name} must be at most {most:,}, got {value}.")


def _share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise RecipeError(f"{name} must be greater than 0 and less than 1, got {value}.")
