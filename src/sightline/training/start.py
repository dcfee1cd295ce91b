"""The weights that a run starts from, when they aren't random: published ones, a file's, or a model folder's."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline import pretrained as published
from sightline.data.loader import Pixels, explained_failures
from sightline.data.phrases import counted, listed
from sightline.data.prepare import Prepared
from sightline.errors import ModelError, RecipeError
from sightline.evaluation.seen import num_seen
from sightline.files import expanded
from sightline.model_folder import Architecture, ModelFolder
from sightline.models import Classifier, Start, create_model, find_variant
from sightline.narrowing import Narrowing
from sightline.preprocess import Preprocess
from sightline.recipe import Recipe
from sightline.recipe_text import from_yaml

_HEADS = re.compile(r"(auxiliary\..*\b)?head\.(weight|bias)")
"""The tensors that have a row for each class."""


def check_start(recipe: Recipe) -> None:
    """Have the weights to start from at hand, and raise RecipeError when they don't suit the recipe's settings."""
    source, data = recipe.model.pretrained, recipe.data
    if source is None:
        return
    parent = parent_folder(source)
    if parent is not None:
        _check_parent(recipe, parent)
        return
    if recipe.finetune.drop_classes:
        raise RecipeError(f"finetune.drop_classes needs a model folder, which says its classes; {source!r} is none.")
    found = published.find(
        source, name=recipe.model.name, timm_name=find_variant(recipe.model.name)[1].timm or recipe.model.name
    )
    if not isinstance(found, published.Published):
        return
    if recipe.model.norm not in (None, "batch"):
        raise RecipeError(
            f"The weights {found.source!r} were trained with their own norms, and model.norm is "
            f"{recipe.model.norm!r}. Remove one of them."
        )
    published.fetch(found)
    expected = found.preprocess
    asked = {"data.mean": data.mean, "data.std": data.std, "data.interpolation": data.interpolation}
    needed = {"data.mean": expected.mean, "data.std": expected.std, "data.interpolation": expected.interpolation}
    if asked != needed:  # all three, for they belong together
        raise RecipeError(
            f"The weights {found.source!r} expect images prepared in another way. Pass {_settings(needed)}."
        )


def parent_of(recipe: Recipe) -> str | None:
    """What the weights came from: a model folder's fingerprint, or the source as the recipe names it."""
    source = recipe.model.pretrained
    parent = None if source is None else parent_folder(source)
    return source if parent is None else parent.spec.fingerprint


def parent_folder(source: str) -> ModelFolder | None:
    """The model folder that `model.pretrained` names; None where it names something else."""
    path = expanded(source)
    return ModelFolder.read(path) if (path / "model.json").exists() else None


def narrowing_of(recipe: Recipe) -> Narrowing | None:
    """What pruning has cut out of the network that the weights came from: a run that goes on keeps its form."""
    source = recipe.model.pretrained
    parent = None if source is None else parent_folder(source)
    return None if parent is None else parent.spec.architecture.narrowing


def recipe_from(
    folder: Path, recipe: Recipe | None = None, *, settings: Sequence[str] = (), resuming: bool = False
) -> Recipe:
    """The recipe that goes on from a model folder: its own, or the one given, with `model.pretrained` set.

    `settings` are those that will be applied to it. Raises ModelError when there is no model folder, or it holds no
    recipe and none is given, and RecipeError when a setting names other weights or a run is resumed, which has its own.
    """
    if resuming:
        raise RecipeError("--from begins a run and --resume goes on with one that has its weights: leave --from out.")
    if any(setting.partition("=")[0].strip() == "model.pretrained" for setting in settings):
        raise RecipeError("--from and --set model.pretrained both name the weights to start from. Remove one of them.")
    ModelFolder.read(folder)
    if recipe is None:
        try:
            recipe = from_yaml((folder / "recipe.yaml").read_text(encoding="utf-8"))
        except OSError as error:
            raise ModelError(f"{str(folder)!r} holds no recipe to go on with. Name one with --recipe.") from error
    return replace(recipe, model=replace(recipe.model, pretrained=str(folder)))


def starting_network(recipe: Recipe, network: Architecture, classes: Sequence[str]) -> Classifier:
    """The network in training mode, with the weights that the recipe names; what is fresh is as torch's seed has it.

    A model folder's head goes on, too: each class keeps its row of weights, found by the class's name, and so its
    logits; classes that the folder doesn't know get fresh rows. Raises RecipeError when the data lacks some of the
    folder's classes and finetune.drop_classes is not set.
    """
    source = recipe.model.pretrained
    parent = None if source is None else parent_folder(source)
    if parent is None:
        return create_model(**network.settings(), pretrained=source)
    known = parent.spec.classes
    gone = [name for name in known if name not in classes]
    if gone and not recipe.finetune.drop_classes:
        them = "it" if len(gone) == 1 else "them"
        raise RecipeError(
            f"The data lacks {counted(len(gone), 'class', 'classes')} of the model in {source!r}: {listed(gone)}. "
            f"Add images of {them}, or let {them} go with --set finetune.drop_classes=true."
        )
    model = network.build()
    left_fresh = _continue(model, parent, classes)
    model.start = Start(
        source=str(source), preprocess=parent.spec.preprocess, notes=tuple(_notes(parent, classes, gone, left_fresh))
    )
    return model


def begin_from_images(model: Classifier, pixels: Pixels, preprocess: Preprocess, train: NDArray[np.int64]) -> None:
    """Show a fresh network some of the training images, evenly spaced, where it takes weights from them."""
    if model.start is None and model.num_first_pixels:
        count = max(1, model.num_first_pixels // preprocess.image_size**2)
        shown = train[:: -(-len(train) // count)]
        with explained_failures():
            model.begin_from(preprocess.normalize(pixels.batch(shown)))


def tell_of_seen_images(recipe: Recipe, prepared: Prepared) -> Prepared:
    """The same images, and among what is said of their splits how many of those held out the parent was trained on.

    With the parent's seed few are: the split goes by each image's content, and shifts a little when images are added.
    They are known by their bytes.
    """
    parent = None if recipe.model.pretrained is None else parent_folder(recipe.model.pretrained)
    if parent is None:
        return prepared
    splits = prepared.splits
    told: list[str] = []
    for name, places in splits.named().items():
        digests = (prepared.facts[place].digest for place in places.tolist())
        known = 0 if name == "train" else num_seen(parent.path, digests)
        if known:
            told.append(
                f"{known:,} of the {counted(len(places), 'image')} of {name} are ones that the model this run goes "
                "on from was trained on: their figures flatter it"
            )
    return replace(prepared, splits=replace(splits, made=(*splits.made, *told)))


def _continue(model: Classifier, parent: ModelFolder, classes: Sequence[str]) -> list[str]:
    """Copy the parent's weights into the network, the heads' rows by class; the names of tensors it doesn't have."""
    old = parent.model().state_dict()
    known = {name: row for row, name in enumerate(parent.spec.classes)}
    kept = [(row, known[name]) for row, name in enumerate(classes) if name in known]
    to, of = [row for row, _ in kept], [row for _, row in kept]
    for name, tensor in model.state_dict().items():
        if name not in old:
            continue
        if _HEADS.fullmatch(name):
            tensor[to] = old[name][of]
        else:
            tensor.copy_(old[name])
    return [name for name in model.state_dict() if name not in old]


def _notes(parent: ModelFolder, classes: Sequence[str], gone: Sequence[str], left_fresh: Sequence[str]) -> list[str]:
    new = [name for name in classes if name not in parent.spec.classes]
    notes = [f"Goes on from {str(parent.path)!r} with {counted(len(classes) - len(new), 'class', 'classes')} it knows."]
    if new:
        notes.append(f"New to it, with fresh rows of the head: {listed(new, limit=len(new))}.")
    if gone:
        notes.append(f"Let go, as finetune.drop_classes says: {listed(gone, limit=len(gone))}.")
    if left_fresh:
        notes.append(f"Not in the folder, and fresh: {', '.join(left_fresh)}.")
    return notes


def _check_parent(recipe: Recipe, parent: ModelFolder) -> None:
    """Raise RecipeError with the settings that a model folder's weights need."""
    architecture, preprocess = parent.spec.architecture, parent.spec.preprocess
    data, model = recipe.data, recipe.model
    pairs: dict[str, tuple[object, object]] = {
        "model.name": (model.name, architecture.name),
        "model.activation": (model.activation, architecture.activation),
        "model.norm": (model.norm, architecture.norm),
        "model.width": (model.width, architecture.width),
        "model.depth": (model.depth, architecture.depth),
        "data.image_size": (data.image_size, preprocess.image_size),
        "data.mean": (data.mean, preprocess.mean),
        "data.std": (data.std, preprocess.std),
        "data.interpolation": (data.interpolation, preprocess.interpolation),
    }
    if data.image_size != preprocess.image_size and data.resize is not None:  # one goes with the other
        pairs["data.resize"] = data.resize, preprocess.resize
    needed = {name: theirs for name, (asked, theirs) in pairs.items() if asked != theirs}
    if needed:
        raise RecipeError(f"The model in {str(parent.path)!r} was made with other settings. Pass {_settings(needed)}.")


def _settings(values: Mapping[str, object]) -> str:
    """The options that set these, ready for a shell."""
    shown = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    texts = [f"{name}={'null' if value is None else value}" for name, value in shown.items()]
    return " ".join(f"--set {shlex.quote(text)}" for text in texts)
