"""A recipe for a run of a few updates."""

from dataclasses import replace

from sightline.errors import RecipeError
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


def check_steps(recipe: Recipe) -> None:
    """Raise RecipeError for one that never takes a step: there is nothing to find by trying some."""
    if recipe.finetune.probe:
        raise RecipeError(
            "finetune.probe fits the head without training steps, and uses neither optim.lr nor batch_size: there is "
            "nothing to find. Set finetune.probe=false."
        )
