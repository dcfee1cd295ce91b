"""Fine-tuning a compressed network: a run of the project's own training that goes on from a folder."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from sightline.compressing.images import Images
from sightline.data.phrases import counted
from sightline.errors import RecipeError
from sightline.model_folder import ModelFolder
from sightline.pruning.zeros import SPARSE, sparsity
from sightline.recipe import DistillConfig, ModelConfig, Recipe
from sightline.recipe.augment import at_full_size
from sightline.recipe.finetune import FineTuneConfig
from sightline.recipe_text import override
from sightline.training import resume, train

log = logging.getLogger("sightline")

GENTLER = 0.1
"""The learning rate of fine-tuning beside the parent's own, unless another is named."""


_SPLITTING = ("val_fraction", "test_fraction", "max_train_images", "label_separator")
"""Settings of the images that say which are trained on, and which the model is judged on."""


def tuning_recipe(own: Recipe, parent: ModelFolder, epochs: int, settings: tuple[str, ...] = ()) -> Recipe:
    """The model's own recipe, going on from the parent's weights for so many epochs at a tenth of the rate.

    What needs all its epochs is left out: warm-up, images that grow, means of weights, stages that join later.
    Zeros of a sparse parent stay. `settings` are applied last. Raises RecipeError for settings that contradict each
    other.
    """
    recipe = of_other_length(own, epochs)
    sparse = sparsity(parent.model()) >= SPARSE
    recipe = replace(
        recipe,
        optim=replace(recipe.optim, lr=recipe.optim.lr * GENTLER),
        model=_network(parent),
        train=replace(recipe.train, fast="off", max_hours=None, keep_zeros=sparse, fake_quantize=False),
    )
    return overridden(recipe, settings)


def of_other_length(recipe: Recipe, epochs: int) -> Recipe:
    """A recipe for another number of epochs, on weights and labels of whoever asks."""
    kept = recipe.train
    return replace(
        recipe,
        epochs=epochs,
        augment=at_full_size(recipe.augment),
        optim=replace(recipe.optim.constant(), schedule="constant" if recipe.optim.course == "constant" else "cosine"),
        finetune=FineTuneConfig(),
        distill=DistillConfig(),
        train=replace(
            kept,
            swa_start=None,
            swa_lr=None,
            patience=None,
            min_gain=0.0,
            monitor="loss" if kept.select == "last" else kept.monitor,
        ),
    )


def _network(parent: ModelFolder) -> ModelConfig:
    """The parent's network, going on from its weights: it may be another than the model that is compressed."""
    own = parent.spec.architecture
    return ModelConfig(
        name=own.name,
        dropout=own.dropout,
        drop_path=own.drop_path,
        activation=own.activation,
        norm=cast(Any, own.norm),
        width=own.width,
        depth=own.depth,
        pretrained=str(parent.path.resolve()),  # a call that goes on may spell it otherwise
    )


def overridden(recipe: Recipe, settings: tuple[str, ...]) -> Recipe:
    """The recipe with the user's settings.

    Raises RecipeError for one that would change what is compressed, or which images it is judged on.
    """
    if any(setting.strip().startswith("model.") for setting in settings):
        raise RecipeError("--set model.* would make another network than the one that is compressed. Leave it out.")
    changed = override(recipe, settings)
    for name in _SPLITTING:
        if getattr(changed.data, name) != getattr(recipe.data, name):
            raise RecipeError(_other_split(f"data.{name}"))
    if changed.seed != recipe.seed:
        raise RecipeError(_other_split("seed"))
    return changed


def _other_split(name: str) -> str:
    return f"--set {name} would divide the images anew, and train on some that the model is judged on. Leave it out."


def tune(recipe: Recipe, images: Images, out: Path) -> ModelFolder:
    """Train, or go on with what an interrupted call left in `out`. Raises what training raises."""
    if (out / "model.json").exists():
        return ModelFolder.read(out)
    log.info(f"Training for {counted(recipe.epochs, 'epoch')} at a learning rate of {recipe.optim.lr:g} at most.")
    if (out / "checkpoints" / "last.pt").exists():
        return resume(images.location, out=out, recipe=recipe, measure=())
    shutil.rmtree(out, ignore_errors=True)
    return train(recipe, images.location, out=out, measure=())
