"""Structured pruning: cut whole channels and heads until a share of the cost is left, and train what stays.

The network gets smaller in every dimension that it was cut in, so that any engine runs it faster, without kernels of
its own. Cutting in several steps with training between them loses less than one deep cut.

Source: DepGraph (Fang et al., 2023, https://arxiv.org/abs/2301.12900) for what goes together; see
`pruning/importance.py` for the measures. Differs from the paper: the streams of residual networks with padded
shortcuts, and those that layer norms average over, keep their width.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.compressing.images import Images
from sightline.compressing.tuning import tune, tuning_recipe
from sightline.data.loader import Pixels
from sightline.errors import ModelError, unknown_name
from sightline.model_folder import ModelFolder
from sightline.models import Classifier
from sightline.pruning.groups import Group, Removed, cut, cut_narrowing, find_groups, narrowed, shapes_of
from sightline.pruning.importance import Importance, check_importance, score
from sightline.pruning.selection import Choice, reach
from sightline.recipe import Recipe
from sightline.summary import num_macs, num_parameters

log = logging.getLogger("sightline")

Target = Literal["macs", "params", "latency"]

BATCH_SIZE = 32
SAMPLE = 256
"""Training images that the Taylor importance is measured on."""


@dataclass(frozen=True, kw_only=True)
class Prune:
    """How far to prune, and how."""

    target: Target = "macs"
    """What is to shrink: multiply-accumulates, parameters, or the time of an image in eager torch on this machine."""
    share: float = 0.5
    """Of it that is kept, 0 to 1."""
    importance: Importance = "group_norm"
    """How much a channel matters."""
    steps: int = 1
    """Cuts, equally deep in the target's terms, with training after each."""
    epochs: int = 5
    """Of training after each cut; 0 trains nothing."""
    ranking: Literal["global", "layer"] = "global"
    """global ranks all layers' channels together; layer cuts the same share of each."""
    round_to: int = 8
    """Channels that stay are a multiple of it; 1 rounds nothing."""
    settings: tuple[str, ...] = ()
    """Settings of the training, such as "optim.lr=0.01"; its recipe is the model's own at a tenth of the rate."""

    def __post_init__(self) -> None:
        if self.target not in get_args(Target):
            raise ModelError(
                unknown_name("target", self.target, get_args(Target), listing="`sightline compress --help`")
            )
        check_importance(self.importance)
        if self.ranking not in ("global", "layer"):
            raise ModelError(f"prune: ranking is 'global' or 'layer', got {self.ranking!r}.")
        if not 0 < self.share < 1:
            raise ModelError(f"prune: {self.target} is the share to keep, above 0 and below 1, got {self.share:g}.")
        for name in ("steps", "round_to"):
            if getattr(self, name) < 1:
                raise ModelError(f"prune: {name} must be at least 1, got {getattr(self, name)}.")
        if self.epochs < 0:
            raise ModelError(f"prune: epochs must be at least 0, got {self.epochs}.")

    def recipe(self, own: Recipe, folder: ModelFolder) -> Recipe | None:
        """What is trained by after each cut. Raises RecipeError for settings that can't be."""
        return tuning_recipe(own, folder, self.epochs, self.settings) if self.epochs else None

    def apply(self, folder: ModelFolder, images: Images, work: Path) -> ModelFolder:
        """The pruned model. Raises ModelError for a target out of reach or a network that can't be cut."""
        whole, now = folder.model(), folder
        for step in range(1, self.steps + 1):
            place = work / f"cut-{step}"
            goal = 1 - (1 - self.share) * step / self.steps
            done = (place / "model.json").exists()
            now = ModelFolder.read(place) if done else self._cut(now, whole, goal, images, place)
            if (recipe := self.recipe(images.recipe, now)) is not None:
                now = tune(recipe, images, work / f"tuned-{step}")
        return now

    def _cut(self, folder: ModelFolder, whole: Classifier, goal: float, images: Images, out: Path) -> ModelFolder:
        model, size = folder.model(), folder.spec.preprocess.image_size
        found = find_groups(model, size)
        if found.refused:
            log.info(f"Left whole, since others compute with them: {', '.join(found.refused)}.")
        losses = _losses(model, folder, images) if self.importance == "taylor" else ()
        scores = score(model, found.groups, self.importance, losses)
        removed = reach(self._choice, scores, self._cost(model, whole, size), target=goal, words=self.target)
        return _write(folder, model, removed, out)

    @property
    def _choice(self) -> Choice:
        return Choice(ranking=self.ranking, round_to=self.round_to)

    def _cost(self, model: Classifier, whole: Classifier, size: int) -> Callable[[Removed], float]:
        """The target's measure of what is left, as a share of the whole network's."""
        if self.target == "latency":
            return lambda removed: _time_ratio(narrowed(model, removed), whole, size)
        measure: Callable[[Classifier], int] = (
            (lambda network: num_macs(network, size)) if self.target == "macs" else num_parameters
        )
        total = measure(whole)
        return lambda removed: measure(narrowed(model, removed)) / total


def _losses(model: Classifier, folder: ModelFolder, images: Images) -> Iterator[Tensor]:
    """The loss of training images as evaluation sees them, batch by batch."""
    spec = folder.spec
    places = images.sample(SAMPLE)
    targets = torch.from_numpy(images.table.numbered(spec.classes))
    pixels = Pixels(images.table, spec.preprocess, canvas=False)
    for start in range(0, len(places), BATCH_SIZE):
        chosen = places[start : start + BATCH_SIZE]
        logits = model(spec.preprocess.normalize(pixels.batch(chosen)))
        truth = targets[chosen]
        if truth.ndim == 1:
            yield F.cross_entropy(logits, truth)
        else:
            yield F.binary_cross_entropy_with_logits(logits, truth.float())


def _time_ratio(network: Classifier, whole: Classifier, size: int) -> float:
    """The median time of one image beside the whole network's, in turns, so that a busy moment hits both."""
    image = torch.zeros(1, 3, size, size)
    ratios: list[float] = []
    with torch.inference_mode():
        for turn in range(13):
            seconds: list[float] = []
            for module in (network, whole):
                began = perf_counter()
                for _ in range(3):
                    module(image)
                seconds.append(perf_counter() - began)
            ratios += [seconds[0] / seconds[1]] if turn > 1 else []  # the first ones take memory
    return median(ratios)


def _write(folder: ModelFolder, model: Classifier, removed: Removed, out: Path) -> ModelFolder:
    """The folder of the network without the removed units, after a look at what it answers."""
    smaller = narrowed(model, removed)
    size = folder.spec.preprocess.image_size
    with torch.inference_mode():
        maps = smaller.feature_maps(torch.zeros(1, 3, size, size)) if smaller.stages else []
    with torch.device("meta"):
        plain = shapes_of(replace(folder.spec.architecture, narrowing=None).build())
    narrowing = cut_narrowing(plain, model, removed)
    narrowing = replace(narrowing, stage_channels=tuple(feature_map.shape[1] for feature_map in maps))
    spec = replace(
        folder.spec,
        architecture=replace(folder.spec.architecture, narrowing=narrowing),
        provenance=replace(folder.spec.provenance, parent=folder.spec.fingerprint),
        figures={},
    )
    log.info(f"Cut {_counted(removed)}.")
    return ModelFolder.write(out, spec, cut(model.state_dict(), removed))


def _counted(removed: Removed) -> str:
    def going(groups: list[Group]) -> str:
        return f"{sum(int(removed[group].sum()) for group in groups)} of {sum(group.num_units for group in groups)}"

    channels = [group for group in removed if group.attention is None]
    heads = [group for group in removed if group.attention is not None]
    parts = [f"{going(channels)} channels in {len(channels)} layers"] if channels else []
    parts += [f"{going(heads)} heads in {len(heads)} attentions"] if heads else []
    return " and ".join(parts) or "nothing: the target is met as it is"


ENTRY = Prune
