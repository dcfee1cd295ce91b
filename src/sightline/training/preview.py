"""What training would see of a few images, pixel for pixel, without training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.augmentations import Batch, Mixing, augment
from sightline.data.loader import Batches, Pixels
from sightline.data.order import APPEARANCE, TrainingOrder
from sightline.data.prepare import Prepared
from sightline.randomness import Draws, permutation
from sightline.recipe import Recipe
from sightline.training.order import training_order


@dataclass(frozen=True)
class Preview:
    """One image as it is read, and as the first epochs would see it."""

    number: int
    """The image's row in the table."""
    original: Tensor
    """(3, H, W) uint8: the canvas that training crops from."""
    versions: tuple[Tensor | None, ...]
    """One an epoch, (3, H, W) uint8; None for an epoch that leaves the image out."""
    targets: tuple[Tensor | None, ...]
    """(K,) each version's shares of the classes."""


def preview(recipe: Recipe, prepared: Prepared, *, num_images: int, num_epochs: int) -> list[Preview]:
    """The first epochs of a few training images, as evenly of all classes as can be. Raises DataError."""
    table = prepared.table
    chosen = _spread(prepared, num_images, recipe.seed)
    pixels = Pixels(table, recipe.data.preprocess(), canvas=True)
    order = replace(training_order(recipe, table, prepared.splits.train), epochs=num_epochs)
    reader = Batches(pixels, [chosen], table.targets, len(table.classes), num_workers=0)
    originals = _read(reader, chosen).images
    epochs = [_epoch(recipe, reader, order, epoch, chosen) for epoch in range(num_epochs)]
    return [
        Preview(
            number,
            original,
            versions=tuple(epoch[number][0] if number in epoch else None for epoch in epochs),
            targets=tuple(epoch[number][1] if number in epoch else None for epoch in epochs),
        )
        for number, original in zip(chosen, originals, strict=True)
    ]


def _spread(prepared: Prepared, num_images: int, seed: int) -> list[int]:
    """Rows of training images: one of each class in turn, in an order drawn from the seed."""
    train = prepared.splits.train
    shuffled = train[permutation(len(train), seed, "preview")].tolist()
    rank: dict[str, int] = {}
    places: list[tuple[int, str, int]] = []
    for row in shuffled:
        label = prepared.table.labels[row]
        rank[label] = rank.get(label, -1) + 1
        places.append((rank[label], label, row))
    return [row for _, _, row in sorted(places)[:num_images]]


def _epoch(
    recipe: Recipe, reader: Batches, order: TrainingOrder, epoch: int, chosen: Sequence[int]
) -> dict[int, tuple[Tensor, Tensor]]:
    """By image, its pixels (3, H, W) uint8 and targets (K,) in that epoch; images that it leaves out are not there."""
    began = replace(order, start=epoch * order.batches_per_epoch)
    seen: dict[int, tuple[Tensor, Tensor]] = {}
    for part in _needed(islice(began, order.batches_per_epoch), chosen, whole=_mixes(recipe)):
        batch = _read(reader, part)
        draws = Draws(recipe.seed, epoch, batch.samples)
        augmented = augment(batch, recipe.augment, draws, recipe.data.image_size)
        for sample, image, target in zip(part, augmented.images, augmented.targets, strict=True):
            if sample % APPEARANCE in chosen:
                seen.setdefault(sample % APPEARANCE, (image, target))
    return seen


def _mixes(recipe: Recipe) -> bool:
    return any(isinstance(augmentation, Mixing) for augmentation in recipe.augment)


def _needed(parts: Iterator[list[int]], chosen: Sequence[int], *, whole: bool) -> Iterator[list[int]]:
    """The batches that hold one of the chosen images: whole ones where images are mixed, else those images alone."""
    for part in parts:
        own = [sample for sample in part if sample % APPEARANCE in chosen]
        if own:
            yield part if whole else own


def _read(reader: Batches, samples: Sequence[int]) -> Batch:
    [batch] = replace(reader, order=[list(samples)])
    return batch


def as_pixels(image: Tensor) -> NDArray[np.uint8]:
    """(3, H, W) -> (H, W, 3), for Pillow."""
    return image.to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
