"""Weights that were trained elsewhere, each in its place in a network that is known here."""

from pathlib import Path

import torch
from torch import Tensor, nn

from sightline.errors import ModelError
from sightline.foreign_weights import load_weights, read_state
from sightline.model_folder import Architecture
from sightline.models import find_variant, fit_note


def fitted_weights(path: Path, architecture: Architecture) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The network's tensors under our names, all of them from the file but for auxiliary classifiers; and notes.

    Raises ModelError when the file holds no weights, when they belong to another architecture or number of classes
    (which says what is missing and what is left over), or hold or give values that are no numbers.
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
    _check_answers(network, architecture.image_size, called)
    return weights, notes


def _check_answers(network: nn.Module, image_size: int, called: str) -> None:
    """Numbers may be finite and still give none: a variance below 0, say. Raises ModelError."""
    try:
        with torch.inference_mode():
            images = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
            answers = network.eval()(images)
    except RuntimeError as error:  # no memory for images of that size, say
        reason = str(error).splitlines()[0]
        raise ModelError(f"{called} can't be run on images of {image_size} pixels: {reason}") from error
    if not bool(torch.isfinite(answers).all()):
        raise ModelError(f"{called} can't be adopted: the network answers noise by values that are no finite numbers.")
