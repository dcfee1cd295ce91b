"""Layer sensitivity: what cutting each layer alone costs, before anything is pruned or trained.

The validation split judges, since what is found chooses how to prune. No layer is trained again: the loss shown is the
most that fine-tuning has to win back, not what is left after it.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline.compressing.images import Images, find_images
from sightline.compressing.judging import right
from sightline.data.loader import Batches, Pixels
from sightline.data.order import in_order
from sightline.devices import pick_device
from sightline.errors import ModelError
from sightline.evaluation import BATCH_SIZE
from sightline.evaluation.intervals import Interval, wilson
from sightline.evaluation.paired import PairedTest, compare_paired
from sightline.model_folder import ModelFolder
from sightline.models import Classifier
from sightline.prediction import collect_logits
from sightline.progress import track
from sightline.pruning.groups import find_groups, narrowed
from sightline.pruning.importance import Importance, check_importance, score
from sightline.pruning.selection import Choice

RATIOS = (0.25, 0.5, 0.75)
"""Shares of a layer's channels, or of an attention's heads, that are cut."""


@dataclass(frozen=True)
class Cut:
    """A layer without some of its channels."""

    layer: str
    ratio: float
    """Share that was asked for, 0 to 1."""
    num_units: int
    """Channels or heads before."""
    num_cut: int
    accuracy: Interval
    paired: PairedTest
    """From the whole network's accuracy to this one's, on the same images."""


def sensitivity(
    model: str | Path | ModelFolder,
    data: str | Path | None = None,
    *,
    ratios: tuple[float, ...] = RATIOS,
    importance: Importance = "group_norm",
    num_images: int = 1000,
    device: str = "auto",
) -> list[Cut]:
    """Cut the least important channels of each layer alone, and measure accuracy on up to `num_images` of validation.

    Raises ModelError for a ratio outside 0 to 1, an unknown importance or taylor, which a layer alone doesn't need,
    and for a network that can't be cut; DataError when the images have moved or changed.
    """
    check_importance(importance)
    if importance == "taylor":
        raise ModelError("Sensitivity measures the loss itself. Use magnitude or group_norm.")
    wrong = [ratio for ratio in ratios if not 0 < ratio < 1]
    if wrong or not ratios:
        raise ModelError(f"Ratios are shares to cut, above 0 and below 1, got {wrong or 'none'}.")
    if num_images < 1:
        raise ModelError(f"Sensitivity needs at least 1 image, got {num_images}.")
    folder = model if isinstance(model, ModelFolder) else ModelFolder.read(model)
    network = folder.model()
    groups = find_groups(network, folder.spec.preprocess.image_size).groups
    scores = score(network, groups, importance)
    judge = _Judge(folder, find_images(folder, data), num_images, device)
    whole = judge.right(network)
    found: list[Cut] = []
    choice = Choice(ranking="layer", round_to=1)
    for group in track(groups, total=len(groups), label="Cutting", unit="layers"):
        for ratio in ratios:
            removed = choice.removed({group: scores[group]}, ratio)
            answered = judge.right(narrowed(network, removed))
            found.append(
                Cut(
                    layer=group.name,
                    ratio=ratio,
                    num_units=group.num_units,
                    num_cut=int(removed[group].sum()) if group in removed else 0,
                    accuracy=wilson(int(answered.sum()), len(answered)),
                    paired=compare_paired(whole, answered),
                )
            )
    return found


class _Judge:
    """What a network gets right of the same validation images each time."""

    def __init__(self, folder: ModelFolder, images: Images, num_images: int, device: str) -> None:
        places = images.places("val")
        places = places[np.linspace(0, len(places) - 1, min(num_images, len(places))).round().astype(np.int64)]
        self._spec = folder.spec
        self._truth = images.table.numbered(folder.spec.classes)[places]
        self._device = pick_device(device)
        pixels = Pixels(images.table, folder.spec.preprocess, canvas=False)
        order, targets = in_order(places, BATCH_SIZE), images.table.numbered(folder.spec.classes)
        self._batches = Batches(pixels, order, targets, len(folder.spec.classes), images.recipe.data.num_workers)

    def right(self, network: Classifier) -> NDArray[np.bool_]:
        """(N,) for each image."""
        network = copy.deepcopy(network).eval().to(self._device)  # the next is cut from the one on the CPU
        logits = collect_logits(network, self._batches, self._spec.preprocess, device=self._device)
        return right(self._spec, logits.numpy(), self._truth)
