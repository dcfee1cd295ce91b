"""What null stands for in a recipe: the value that a search begins with and compares by."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

from sightline.errors import ModelError
from sightline.recipe import Recipe
from sightline.recipe.optim import OWN
from sightline.recipe_text import to_plain


def in_full(recipe: Recipe, settings: Iterable[str]) -> dict[str, Any]:
    """The recipe as YAML would hold it, with the value in the place of null where one of these settings has any."""
    plain = to_plain(recipe)
    for setting in settings:
        section, _, name = setting.partition(".")
        if setting in _MEANT and plain[section][name] is None:
            plain[section][name] = _MEANT[setting](recipe)
    return plain


def _own_rate(recipe: Recipe, name: Literal["dropout", "drop_path"]) -> float | None:
    """The architecture's; None where it has none, or where several layers have each its own."""
    import torch

    from sightline import surgery
    from sightline.training.job import architecture

    try:
        with torch.device("meta"):
            model = architecture(recipe, num_classes=2).build()
            return surgery.dropout_of(model) if name == "dropout" else surgery.drop_path_of(model)
    except ModelError:
        return None


_MEANT: dict[str, Callable[[Recipe], Any]] = {
    "model.width": lambda _: 1.0,
    "model.depth": lambda _: 1.0,
    "model.dropout": lambda recipe: _own_rate(recipe, "dropout"),
    "model.drop_path": lambda recipe: _own_rate(recipe, "drop_path"),
    "data.resize": lambda recipe: recipe.data.preprocess().resize,
    "loss.name": lambda recipe: "cross_entropy" if recipe.data.label_separator is None else "binary",
    "optim.momentum": lambda recipe: recipe.optim.own_momentum,
    "optim.betas": lambda recipe: list(recipe.optim.own_betas),
    "optim.schedule": lambda recipe: recipe.optim.course,
    "optim.end_factor": lambda recipe: recipe.optim.own_end_factor,
    "optim.target_batch": lambda recipe: recipe.batch_size * recipe.accumulate,
    **{f"optim.{name}": lambda _, value=value: value for name, value in OWN.items()},
}
"""By setting; where null stands for no value at all, such as no limit, it is not here."""
