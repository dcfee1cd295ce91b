"""A folder in which timm keeps a model: model.safetensors, and config.json with what it says of itself."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.errors import ModelError, RecipeError
from sightline.preprocess import Preprocess
from sightline.pretrained import timm_preprocess


@dataclass(frozen=True, kw_only=True)
class TimmFolder:
    """What such a folder tells."""

    weights: Path
    model: str
    """As `create_model` takes it."""
    preprocess: Preprocess
    unlike: tuple[str, ...]
    """Sentences on what `preprocess` can't have of what the folder says."""
    label_names: Any
    """As the folder has them, unchecked; None where it doesn't name the classes."""


def read_timm_folder(path: Path) -> TimmFolder | None:
    """What the folder says; None for a file. Raises ModelError for a folder that isn't timm's."""
    if not path.is_dir():
        return None
    if (path / "model.json").is_file():
        raise ModelError(f"{str(path)!r} is a model folder already.")
    weights = path / "model.safetensors"
    try:
        content: dict[str, Any] = json.loads((path / "config.json").read_text(encoding="utf-8"))
        settings = content["pretrained_cfg"]
        preprocess, unlike = timm_preprocess(settings)
        model = f"timm/{content['architecture']}"
        label_names = content.get("label_names") or None
    except RecipeError as error:
        raise ModelError(f"The preprocessing in {str(path / 'config.json')!r} can't be: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{str(path)!r} is no folder of a timm model: it has no config.json that tells the architecture and the "
            "preprocessing. Name the file of weights instead."
        ) from error
    if not weights.is_file():
        raise ModelError(f"{str(path)!r} has no model.safetensors. Name the file of weights instead.")
    return TimmFolder(weights=weights, model=model, preprocess=preprocess, unlike=unlike, label_names=label_names)
