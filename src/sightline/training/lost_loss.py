"""What to say when the loss is no number any more: the settings that most likely made it so."""

from sightline.recipe import Recipe

LARGEST_INPUT = 10.0
"""Normalised pixels beyond it come from data.mean and data.std that don't fit pixels of 0 to 1."""
HIGH_RATES = {"sgd": 0.5, "muon": 0.1}
"""Learning rates above these are beyond what papers train with; other optimisers' above 0.01."""


def lost_loss(recipe: Recipe, loss: float, epoch: int) -> str:
    """One sentence on what happened and one on what to change, the likeliest setting first."""
    advice = "; or ".join(_advice(recipe))
    return f"The training loss became {loss} in epoch {epoch}. {advice[0].upper()}{advice[1:]}."


def _advice(recipe: Recipe) -> list[str]:
    data, optim, precision = recipe.data, recipe.optim, recipe.train.precision
    found: list[str] = []
    largest = max(max(abs(m), abs(1 - m)) / s for m, s in zip(data.mean, data.std, strict=True))
    if largest > LARGEST_INPUT:
        found.append(f"mend data.mean and data.std, which make pixels as large as {largest:,.0f}, where 2 is usual")
    if optim.lr > HIGH_RATES.get(optim.name, 0.01):
        found.append(f"lower optim.lr ({optim.lr}), which is high for {optim.name}")
    exact = " ".join(["train.fast=off train.precision=float32", *_of_half(recipe)])
    if precision == "fp16":
        found.append(f"set {exact}: fp16 has no number above 65,504")
    if precision == "bf16":
        found.append(f"set {exact}: bf16 keeps no more than 3 digits")
    return found or [f"lower optim.lr ({optim.lr}), lengthen optim.warmup_epochs, or set optim.clip_norm=1"]


def _of_half(recipe: Recipe) -> list[str]:
    """What float32 has no use for, or computes otherwise."""
    names = ("depthwise_float32", "mixed_attention", "fused_attention")
    return [f"train.{name}=false" for name in names if getattr(recipe.train, name)]
