"""A recipe for a run of a few updates."""

from dataclasses import replace

from sightline.recipe import Recipe
from sightline.recipe.augment import at_full_size


def shortened(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe without what needs all its epochs: schedule, warm-up, stages that join later, means of weights."""
    return replace(
        recipe,
        epochs=epochs,
        optim=recipe.optim.constant(),
        finetune=replace(recipe.finetune, head_epochs=0, unfreeze_every=None),
        augment=at_full_size(recipe.augment),
        train=replace(recipe.train, fast="off", swa_start=None, swa_lr=None),
    )
