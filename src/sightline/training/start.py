"""The weights that a run starts from, when they aren't random."""

from pathlib import Path

from sightline import pretrained as published
from sightline.errors import RecipeError
from sightline.model_folder import ModelFolder
from sightline.models import find_variant
from sightline.recipe import Recipe


def check_start(recipe: Recipe) -> None:
    """Have the weights to start from at hand, and raise RecipeError when they expect other images than the recipe's."""
    source, data = recipe.model.pretrained, recipe.data
    if source is None:
        return
    found = published.find(source, name=recipe.model.name, timm_name=find_variant(recipe.model.name)[1].timm or "")
    if not isinstance(found, published.Published):
        return
    published.fetch(found)
    expected = found.preprocess
    if (data.mean, data.std, data.interpolation) == (expected.mean, expected.std, expected.interpolation):
        return
    raise RecipeError(
        f"The weights {found.source!r} expect images prepared in another way. Pass "
        f"--set data.mean={list(expected.mean)} "
        f"--set data.std={list(expected.std)} --set data.interpolation={expected.interpolation}."
    )


def parent_of(recipe: Recipe) -> str | None:
    """What the weights came from: a model folder's fingerprint, or the source as the recipe names it."""
    source = recipe.model.pretrained
    if source is not None and (Path(source) / "model.json").exists():
        return ModelFolder.read(source).spec.fingerprint
    return source
