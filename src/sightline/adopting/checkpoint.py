"""Weights that were trained elsewhere, each in its place in a network that is known here."""

from pathlib import Path

import torch
from torch import Tensor

from sightline.errors import ModelError
from sightline.foreign_weights import load_weights, read_state
from sightline.model_folder import Architecture
from sightline.models import find_variant, fit_note


def fitted_weights(path: Path, architecture: Architecture) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The network's tensors under our names, all of them from the file but for auxiliary classifiers; and notes.

    Raises ModelError when the file holds no weights, when they belong to another architecture or number of classes
    (which says what is missing and what is left over), or hold values that are no numbers.
    """
    family, _ = find_variant(architecture.name)
    state = read_state(path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # what stays fresh is the same each time
        network = architecture.build()
    called = f"The weights in {str(path)!r}"
    try:
        notes = load_weights(network, state, family.renamings, form_changed="", called=called, complete=True)
    except ModelError as error:
        changed = fit_note(architecture.name, architecture.image_size)
        hint = f" At {architecture.image_size} pixels {changed}; timm/NAME takes timm's networks as they are."
        raise ModelError(f"{error}{hint if changed else ''}") from error
    weights = network.state_dict()
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{called} can't be adopted: {name!r} holds values that are no finite numbers.")
    return weights, notes
