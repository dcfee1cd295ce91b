"""Settings of the optimiser and the learning rate."""

from dataclasses import dataclass, replace
from typing import Literal

from sightline.errors import RecipeError
from sightline.recipe.checks import MOST, at_least, share

OptimizerName = Literal[
    "sgd",
    "adam",
    "adamw",
    "nadam",
    "radam",
    "rmsprop",
    "adagrad",
    "lamb",
    "lion",
    "muon",
    "schedulefree_adamw",
]
Schedule = Literal[
    "constant", "step", "multistep", "exponential", "polynomial", "inverse_sqrt", "cosine", "one_cycle", "plateau"
]
Decay = Literal["decoupled", "l2"]

WITH_BETAS = ("adam", "adamw", "nadam", "radam", "lamb", "lion", "muon", "schedulefree_adamw")
OWN_MOMENTUM = {"sgd": 0.9, "rmsprop": 0.0, "muon": 0.95}
OWN = {
    "layer_decay": 1.0, "factor": 0.1, "power": 1.0, "cycles": 1, "cycle_growth": 1.0, "rise": 0.3, "patience": 3,
}  # fmt: skip
"""What null stands for, by setting, where that is the same for all optimisers and schedules."""
_OWN_END_FACTOR = {"exponential": 0.01, "one_cycle": 4e-6}
"""By schedule; 0 for the others."""

_OPTIMIZERS_TAKING: dict[str, tuple[str, ...]] = {
    "momentum": tuple(OWN_MOMENTUM),
    "nesterov": ("sgd",),
    "betas": WITH_BETAS,
}
_SCHEDULES_TAKING: dict[str, tuple[str, ...]] = {
    "step_epochs": ("step",),
    "milestones": ("multistep",),
    "factor": ("step", "multistep", "plateau"),
    "power": ("polynomial",),
    "cycles": ("cosine",),
    "cycle_growth": ("cosine",),
    "rise": ("one_cycle",),
    "low_momentum": ("one_cycle",),
    "patience": ("plateau",),
    "end_factor": ("exponential", "polynomial", "cosine", "one_cycle", "plateau"),
}
_FORMS: dict[str, tuple[Decay, ...]] = {"lamb": (), "muon": ("decoupled",), "schedulefree_adamw": ("decoupled",)}
"""The forms of weight decay that may be named, where that isn't both."""
_CLIPS = ("clip_norm", "clip_value", "clip_adaptive")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How weights are updated."""

    name: OptimizerName = "adamw"
    """The optimiser. muon moves hidden matrices and kernels by Muon, everything else by AdamW."""
    lr: float = 1e-3
    """Peak learning rate, for the whole batch; it is never rescaled silently."""
    momentum: float | None = None
    """Of SGD, RMSprop and Muon: the share of the last update that is kept, 0 to 1. null: 0.9, 0 and 0.95."""
    nesterov: bool = False
    """Of SGD: look ahead along the momentum."""
    betas: tuple[float, float] | None = None
    """Of Adam's kin: how slowly the running mean and the running square forget, each 0 to 1. null: 0.9 and 0.999,
    for Lion 0.9 and 0.99."""
    weight_decay: float = 0.05
    """Applied to matrices and kernels only, never to biases, norms or scales."""
    decay: Decay | None = None
    """How weights decay: decoupled shrinks them by lr * weight_decay at each update; l2 adds weight_decay times the
    weight to the gradient. null: the optimiser's own form, which is l2 for SGD, Adam, NAdam, RAdam, RMSprop and
    Adagrad, decoupled for the others, and within the layer's trust ratio for LAMB."""
    layer_decay: float | None = None
    """Each layer's rate is this times the next deeper one's, 0 to 1; the head has the full rate. null: one rate."""
    head_lr: float = 1.0
    """The head's learning rate, as a multiple of the others': above 1 for a fresh head on trained weights."""
    schedule: Schedule | None = None
    """The learning rate's course after the warm-up, changing at every update. null: cosine, or constant for
    schedulefree_adamw, which needs no other."""
    warmup_epochs: float = 0.0
    """Epochs in which the learning rate climbs from 0 to the schedule's beginning."""
    end_factor: float | None = None
    """Where the rate ends, as a share of the peak. null: 0 for cosine and polynomial, 0.01 for exponential,
    4e-6 for one_cycle; for plateau, which never goes below it, 0."""
    step_epochs: float | None = None
    """Of step: epochs between two steps."""
    milestones: tuple[float, ...] | None = None
    """Of multistep: the epochs after which the rate steps, such as [30, 60, 80]."""
    factor: float | None = None
    """Of step, multistep and plateau: the rate is multiplied by this at each step, 0 to 1. null: 0.1."""
    power: float | None = None
    """Of polynomial: the exponent of the share of updates left. null: 1, a straight line."""
    cycles: int | None = None
    """Of cosine: how often it falls; each fall but the first begins at the peak again. null: once."""
    cycle_growth: float | None = None
    """Of cosine with several cycles: how much longer each is than the one before. null: 1, all alike."""
    rise: float | None = None
    """Of one_cycle: the share of updates in which the rate rises from a 25th of its peak, 0 to 1. null: 0.3."""
    low_momentum: float | None = None
    """Of one_cycle: momentum, or the first of betas, falls to this as the rate rises, and comes back as it falls,
    0 to 1. null: it stays."""
    patience: int | None = None
    """Of plateau: looks at the validation split without a lower loss before the rate steps. null: 3."""
    accumulate: int = 1
    """Batches whose gradients are averaged into one update."""
    target_batch: int | None = None
    """Images whose gradients make one update, at least: as many batches as it takes are accumulated. null: accumulate
    says how many."""
    clip_norm: float | None = None
    """Longest gradient, as a norm over all parameters; longer ones are shortened to it. null: no limit."""
    clip_value: float | None = None
    """Largest size of any gradient's element; larger ones are cut to it. null: no limit."""
    clip_adaptive: float | None = None
    """Longest gradient of each unit (a kernel's or matrix's row) but the head's, as a share of the unit's own norm;
    the paper uses 0.01. null: no limit."""

    def __post_init__(self) -> None:
        if not 0 < self.lr <= MOST:
            raise RecipeError(f"optim.lr must be greater than 0 and at most {MOST:,}, got {self.lr}.")
        if self.weight_decay < 0:
            raise RecipeError(f"optim.weight_decay must be at least 0, got {self.weight_decay}.")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise RecipeError(f"optim.momentum must be at least 0 and below 1, got {self.momentum}.")
        if self.betas is not None and not all(0 <= beta < 1 for beta in self.betas):
            raise RecipeError(f"Each of optim.betas must be at least 0 and below 1, got {list(self.betas)}.")
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise RecipeError(f"optim.layer_decay must be greater than 0 and at most 1, got {self.layer_decay}.")
        if not 0 < self.head_lr <= MOST:
            raise RecipeError(f"optim.head_lr must be greater than 0 and at most {MOST:,}, got {self.head_lr}.")
        if self.warmup_epochs < 0:
            raise RecipeError(f"optim.warmup_epochs must be at least 0, got {self.warmup_epochs}.")
        self._check_optimizer()
        self._check_schedule()
        self._check_update()

    @property
    def course(self) -> Schedule:
        """The schedule, where null stands for one."""
        return self.schedule or ("constant" if self.name == "schedulefree_adamw" else "cosine")

    @property
    def own_end_factor(self) -> float:
        """Where the rate ends, where null stands for the schedule's own."""
        return _OWN_END_FACTOR.get(self.course, 0.0) if self.end_factor is None else self.end_factor

    def own(self, setting: str) -> float:
        """A setting of `OWN`, where null stands for a value."""
        value = getattr(self, setting)
        return OWN[setting] if value is None else value

    @property
    def own_momentum(self) -> float:
        """The momentum, where null stands for the optimiser's own."""
        return OWN_MOMENTUM.get(self.name, 0.0) if self.momentum is None else self.momentum

    @property
    def own_betas(self) -> tuple[float, float]:
        """The betas, where null stands for the optimiser's own."""
        if self.betas is not None:
            return self.betas
        return (0.9, 0.99) if self.name == "lion" else (0.9, 0.999)

    @property
    def highest_momentum(self) -> float:
        """What `low_momentum` comes back to: the momentum, or the first of betas."""
        if self.name in OWN_MOMENTUM:
            return self.own_momentum
        return self.own_betas[0] if self.name in WITH_BETAS else 0.0

    def constant(self) -> "OptimConfig":
        """The same optimiser with a constant rate and no warm-up, for runs of a few updates."""
        return replace(
            self,
            schedule="constant",
            warmup_epochs=0,
            end_factor=None,
            step_epochs=None,
            milestones=None,
            factor=None,
            power=None,
            cycles=None,
            cycle_growth=None,
            rise=None,
            low_momentum=None,
            patience=None,
        )

    def check_epochs(self, epochs: int, *, looks: int) -> None:
        """Raise RecipeError for what a run of so many epochs, and looks at the validation split, would never reach."""
        patience = int(self.own("patience"))
        if self.course == "plateau" and patience + 1 >= looks:
            raise RecipeError(
                f"optim.schedule 'plateau' could never step: it waits for {patience} looks at the validation split "
                f"without a lower loss after the first, and the run has {looks}. Lower optim.patience or train longer."
            )
        if self.warmup_epochs >= epochs:
            raise RecipeError(
                f"optim.warmup_epochs ({self.warmup_epochs}) must be less than epochs ({epochs}): "
                "the run would end before it reaches the peak learning rate. Lower the warm-up or train longer."
            )
        if self.step_epochs is not None and not self.warmup_epochs < self.step_epochs < epochs:
            raise RecipeError(
                f"optim.step_epochs ({self.step_epochs}) must be more than optim.warmup_epochs ({self.warmup_epochs}) "
                f"and less than epochs ({epochs}), or the rate would never step from its peak."
            )
        for milestone in self.milestones or ():
            if not self.warmup_epochs < milestone < epochs:
                raise RecipeError(
                    f"Each of optim.milestones must be more than optim.warmup_epochs ({self.warmup_epochs}) "
                    f"and less than epochs ({epochs}), got {milestone}."
                )

    def batches_per_update(self, batch_size: int) -> int:
        """Batches whose gradients are averaged into one update. Raises RecipeError when one is more than the target."""
        if self.target_batch is None:
            return self.accumulate
        if self.target_batch < batch_size:
            raise RecipeError(
                f"optim.target_batch ({self.target_batch}) must be at least batch_size ({batch_size}): "
                "an update never takes less than a batch. Lower batch_size."
            )
        return -(-self.target_batch // batch_size)

    def check_average(self, ema_decay: float | None, swa_start: float | None) -> None:
        """Raise RecipeError for averages of weights that the optimiser averages already."""
        if self.name == "schedulefree_adamw" and (ema_decay is not None or swa_start is not None):
            setting = "train.ema_decay" if ema_decay is not None else "train.swa_start"
            raise RecipeError(f"optim.name 'schedulefree_adamw' averages the weights itself. Set {setting} to null.")

    def _check_optimizer(self) -> None:
        for setting, takers in _OPTIMIZERS_TAKING.items():
            if getattr(self, setting) not in (None, False) and self.name not in takers:
                raise RecipeError(_ignored(setting, takers, "optim.name", self.name))
        if self.nesterov and self.momentum == 0:
            raise RecipeError(
                "optim.nesterov needs optim.momentum greater than 0: there is nothing to look ahead along."
            )
        if self.name == "schedulefree_adamw" and self.own_betas[0] == 0:
            raise RecipeError(
                "The first of optim.betas must be greater than 0 for schedulefree_adamw, which divides by it."
            )
        forms = _FORMS.get(self.name, ("decoupled", "l2"))
        if self.decay is not None and self.decay not in forms:
            instead = f"its own is {forms[0]!r}" if forms else "its trust ratio takes the decay in"
            raise RecipeError(
                f"optim.decay {self.decay!r} makes no sense with optim.name {self.name!r}: {instead}. Leave it at null."
            )
        if self.decay is not None and self.weight_decay == 0:
            raise RecipeError(f"optim.decay {self.decay!r} has nothing to apply: optim.weight_decay is 0.")

    def _check_schedule(self) -> None:
        for setting, takers in _SCHEDULES_TAKING.items():
            if getattr(self, setting) is not None and self.course not in takers:
                raise RecipeError(_ignored(setting, takers, "optim.schedule", self.course))
        if self.name == "schedulefree_adamw" and self.course != "constant":
            raise RecipeError(
                f"optim.name 'schedulefree_adamw' averages weights in place of lowering the rate, so optim.schedule "
                f"must be 'constant' or null, got {self.schedule!r}."
            )
        if self.course == "step" and self.step_epochs is None:
            raise RecipeError("optim.schedule 'step' needs optim.step_epochs, the epochs between two steps.")
        if self.course == "multistep" and not self.milestones:
            raise RecipeError("optim.schedule 'multistep' needs optim.milestones, the epochs after which it steps.")
        if self.milestones is not None and list(self.milestones) != sorted(set(self.milestones)):
            raise RecipeError(f"optim.milestones must rise, got {list(self.milestones)}.")
        for name, value in (("factor", self.factor), ("rise", self.rise), ("low_momentum", self.low_momentum)):
            if value is not None:
                share(f"optim.{name}", value)
        if self.low_momentum is not None and self.low_momentum >= self.highest_momentum:
            raise RecipeError(
                f"optim.low_momentum ({self.low_momentum}) must be less than the momentum that {self.name!r} has "
                f"else ({self.highest_momentum:g})."
            )
        self._check_numbers()

    def _check_numbers(self) -> None:
        least = 1e-12 if self.course == "exponential" else 0.0
        if self.end_factor is not None and not least <= self.end_factor <= 1:
            raise RecipeError(f"optim.end_factor must be at least {least:g} and at most 1, got {self.end_factor}.")
        if self.power is not None and not 0 < self.power <= 100:
            raise RecipeError(f"optim.power must be greater than 0 and at most 100, got {self.power}.")
        if self.cycles is not None:
            at_least("optim.cycles", self.cycles, 1, most=100)
        if self.cycle_growth is not None and (self.cycles or 1) == 1:
            raise RecipeError("optim.cycle_growth needs optim.cycles greater than 1: one cycle has nothing to outgrow.")
        if self.cycle_growth is not None and not 1 <= self.cycle_growth <= 10:
            raise RecipeError(f"optim.cycle_growth must be at least 1 and at most 10, got {self.cycle_growth}.")
        if self.patience is not None:
            at_least("optim.patience", self.patience, 1)

    def _check_update(self) -> None:
        at_least("optim.accumulate", self.accumulate, 1, most=MOST)
        if self.target_batch is not None:
            at_least("optim.target_batch", self.target_batch, 1, most=MOST)
            if self.accumulate != 1:
                raise RecipeError(
                    f"optim.target_batch chooses how many batches to accumulate, and optim.accumulate "
                    f"({self.accumulate}) says so too. Remove one of them."
                )
        chosen = [name for name in _CLIPS if getattr(self, name) is not None]
        if len(chosen) > 1:
            raise RecipeError(f"optim.{chosen[0]} and optim.{chosen[1]} both clip gradients. Remove one of them.")
        for name in chosen:
            if getattr(self, name) <= 0:
                raise RecipeError(
                    f"optim.{name} must be greater than 0, or null for no limit, got {getattr(self, name)}."
                )


def _ignored(setting: str, takers: tuple[str, ...], chooser: str, chosen: str) -> str:
    """The sentence for a setting that belongs to another choice."""
    return (
        f"optim.{setting} is for {chooser} {' or '.join(map(repr, takers))}; {chooser} is {chosen!r}, "
        "which would ignore it. Remove one of them."
    )
