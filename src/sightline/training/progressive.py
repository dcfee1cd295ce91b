"""Whether a network can be trained on images that grow."""

from dataclasses import replace

import torch

from sightline.augmentations.resize_progressively import ResizeProgressively
from sightline.errors import ModelError, RecipeError
from sightline.models import Classifier
from sightline.recipe import Recipe


def check_growth(recipe: Recipe, model: Classifier) -> None:
    """Raise RecipeError unless the network, on the meta device, takes every size that its images will have."""
    image_size = recipe.data.image_size
    for growth in recipe.augment:
        if not isinstance(growth, ResizeProgressively):
            continue
        for size in growth.sizes(image_size):
            reason = _refusal(model, size)
            if reason:
                raise RecipeError(
                    f"{recipe.model.name!r} for images of {image_size} pixels can't be trained on images of {size}, as "
                    f"augment.resize_progressively would have it ({reason}). {_way_out(growth, model, image_size)}"
                )


def _way_out(growth: ResizeProgressively, model: Classifier, image_size: int) -> str:
    """What to do: of some networks no smaller size than the images' own goes through."""
    for start in range(growth.start + 1, image_size):
        if not any(_refusal(model, size) for size in replace(growth, start=start).sizes(image_size)):
            return f"Raise its start to {start}, or remove it."
    return "Remove resize_progressively: the network takes no smaller images."


def _refusal(model: Classifier, size: int) -> str:
    """Why images (2, 3, size, size) don't go through; "" if they do."""
    try:
        model.training_outputs(torch.empty(2, 3, size, size, device="meta"))
    except ModelError as error:
        return str(error).partition(". ")[0].rstrip(".")
    except (AssertionError, RuntimeError, ValueError) as error:  # of torch's and timm's layers
        return f"torch says: {str(error).splitlines()[0]}"
    return ""
