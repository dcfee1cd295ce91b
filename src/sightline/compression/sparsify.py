"""Sparsity: set the smallest weights to zero, and train the others while those stay zero.

The file shrinks where it is packed. Nothing gets faster by it here: these engines multiply zeros like any other number,
as the times in the table show. 2:4 is what sparse tensor cores compute at up to twice the rate.

Source: see `pruning/zeros.py`.
"""

import logging
import zlib
from dataclasses import dataclass
from pathlib import Path

from sightline.compressing.images import Images
from sightline.compressing.tuning import tune, tuning_recipe
from sightline.errors import ModelError
from sightline.model_folder import ModelFolder
from sightline.pruning.zeros import keep_n_of_m, smallest_to_zero, sparsity, weights_of
from sightline.recipe import Recipe

log = logging.getLogger("sightline")


@dataclass(frozen=True, kw_only=True)
class Sparsify:
    """How many weights become zero: a share of all, or a pattern."""

    share: float | None = None
    """Of the weights of convolutions and matrices, 0 to 1, that become zero."""
    pattern: tuple[int, int] | None = None
    """(2, 4): two of every four weights along a unit's inputs stay."""
    epochs: int = 5
    """Of training afterwards; 0 trains nothing."""
    settings: tuple[str, ...] = ()
    """Settings of the training."""

    def __post_init__(self) -> None:
        if (self.share is None) == (self.pattern is None):
            raise ModelError("sparsify: give a share of the weights, or a pattern such as 2:4.")
        if self.share is not None and not 0 < self.share < 1:
            raise ModelError(f"sparsify: the share that becomes zero is above 0 and below 1, got {self.share:g}.")
        if self.pattern is not None and not 0 < self.pattern[0] < self.pattern[1]:
            kept, of = self.pattern
            raise ModelError(f"sparsify: of N:M weights N stay, at least 1 and fewer than M; got {kept}:{of}.")
        if self.epochs < 0:
            raise ModelError(f"sparsify: epochs must be at least 0, got {self.epochs}.")

    def recipe(self, own: Recipe, folder: ModelFolder) -> Recipe | None:
        """What is trained by afterwards. Raises RecipeError for settings that can't be."""
        return tuning_recipe(own, folder, self.epochs, self.settings) if self.epochs else None

    def apply(self, folder: ModelFolder, images: Images, work: Path) -> ModelFolder:
        """The sparse model. Raises ModelError where the pattern fits no layer, and what training raises."""
        place = work / "zeros"
        now = ModelFolder.read(place) if (place / "model.json").exists() else self._zeroed(folder, place)
        recipe = self.recipe(images.recipe, now)
        return now if recipe is None else tune(recipe, images, work / "tuned")

    def _zeroed(self, folder: ModelFolder, out: Path) -> ModelFolder:
        model = folder.model()
        weights = weights_of(model)
        if self.share is not None:
            smallest_to_zero(weights, self.share)
        else:
            assert self.pattern is not None
            left = keep_n_of_m(weights, *self.pattern)
            if len(left) == len(weights):
                raise ModelError(f"sparsify: no layer has inputs that divide by {self.pattern[1]}.")
            if left:
                log.info(f"Left as they are, since their inputs don't divide by {self.pattern[1]}: {', '.join(left)}.")
        written = ModelFolder.write(out, folder.spec, model.state_dict())
        file = (out / "weights.safetensors").read_bytes()
        packed, whole = (f"{len(content) / 1e6:,.2f}" for content in (zlib.compress(file), file))
        log.info(
            f"{sparsity(model):.1%} of the weights are zero. Packed, the file has {packed} of {whole} MB; "
            "no engine here computes faster by it."
        )
        return written


ENTRY = Sparsify
