"""That a folder or storage holds one search and no other, and what each of its calls must agree on."""

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from sightline.data.phrases import listed
from sightline.errors import SightlineError
from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.training.fastest import Candidate, resolved
from sightline.tuning.storage import Storage

_FAST = "train.fast"
"""Under which the study keeps how train.fast was settled."""


def begin(study: Any, storage: Storage, known_by: dict[str, Any], *, first: dict[str, Any]) -> None:
    """Write down what a new search is known by, and its first trial's values, where they are not None.

    Raises SightlineError where the storage holds another search.
    """
    known = {name: study.user_attrs.get(name) for name in known_by}
    if not study.get_trials(deepcopy=False) or known["recipe"] is None:
        for name, value in known_by.items():
            study.set_user_attr(name, value)
        study.enqueue_trial({name: value for name, value in first.items() if value is not None})
        return
    other = [
        f"another {name}" if name != "images" else "other images" for name in known_by if known[name] != known_by[name]
    ]
    if other:
        raise SightlineError(
            f"{storage.place!r} holds a search with {' and '.join(other)}. "
            f"Choose another {'--storage' if storage.is_shared else '--out'}."
        )


def check_runs(folder: Path, storage: Storage, begun: Sequence[int]) -> None:
    """Raise SightlineError where runs of another search lie in the folder; `begun` are the numbers of this one's."""
    known = {f"trial-{number:04d}" for number in begun}
    strange = sorted({path.parent.name for path in folder.glob("runs/trial-*/recipe.yaml")} - known)
    if strange:
        raise SightlineError(
            f"{str(folder)!r} holds runs that {storage.place!r} knows nothing of "
            f"({listed(strange, 3)}). Choose another --out."
        )


def settled(study: Any, recipe: Recipe) -> Recipe:
    """The recipe with train.fast settled as it was when the search began, wherever that was."""
    settings = study.user_attrs.get(_FAST)
    if settings is None:
        train = resolved(recipe).train  # once, before anything competes for the cores
        names = ("fast", *(field.name for field in fields(Candidate)))
        settings = [f"train.{name}={json.dumps(getattr(train, name))}" for name in names]
        study.set_user_attr(_FAST, settings)
    return override(recipe, settings)
