"""Checkpoints: tensors and plain values only, written whole, read with `weights_only=True`."""

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sightline.errors import ModelError
from sightline.files import whole_file

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything that a run needs to go on as if it had never stopped."""

    recipe: str
    """The recipe as YAML."""
    data_fingerprint: str
    progress: dict[str, Any]
    """The place in the epoch and the sums so far."""
    journal: dict[str, Any]
    """The rows of the logs, the best look at the validation split, how many followed it, and the time spent."""
    model: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    """Of float16's loss scaling; empty for other precisions."""
    average: dict[str, Any] = field(default_factory=dict[str, Any])
    """Of the weights, by their names; empty where the recipe asks for none."""
    gradients: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the epoch's watched batches have shown so far; empty where none is watched."""
    teacher: str = ""
    """The fingerprint of the model that teaches; empty where none does, or where an older version wrote this."""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Raises SightlineError when it can't be written; an older one is left untouched then."""
    with whole_file(path) as aside, aside.open("wb") as file:
        try:
            torch.save({"format": FORMAT} | vars(checkpoint), file)
        except RuntimeError as error:  # torch hides the operating system's reason behind its own
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


def load_checkpoint(path: Path) -> Checkpoint:
    """Raises ModelError when there is none or it is damaged."""
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError as error:
        raise ModelError(f"There is nothing to resume: {str(path)!r} does not exist.") from error
    except (pickle.UnpicklingError, RuntimeError, OSError, ValueError, EOFError, LookupError) as error:
        raise ModelError(f"The checkpoint {str(path)!r} is damaged, or no checkpoint at all.") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise ModelError(f"{str(path)!r} is no checkpoint of this version.")
    try:
        return Checkpoint(**content)
    except TypeError as error:  # a field is missing, or one of another version
        raise ModelError(f"{str(path)!r} is no checkpoint of this version.") from error
