"""Fewer images to train on, for studies and first tries: evenly over the classes, the rest of the splits untouched."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sightline.data.phrases import counted
from sightline.data.split import Splits
from sightline.data.table import ImageTable
from sightline.errors import RecipeError
from sightline.randomness import permutation


def rarest_labels(table: ImageTable) -> tuple[str, ...]:
    """The class of each image; of several the rarest, whose images are the fewest to lose; "" where there is none."""
    if not table.multi_label:
        return table.labels
    counts = table.counts
    return tuple(min(names, key=lambda name: counts[name], default="") for names in table.names)


def fewer_to_train(splits: Splits, labels: Sequence[str], limit: int, seed: int) -> Splits:
    """The splits with at most `limit` training images; every class keeps its share, rounded, and at least one.

    `labels` are `rarest_labels` of the whole table. Raises RecipeError when the limit is below the number of classes.
    """
    if len(splits.train) <= limit:
        return splits
    shuffled = splits.train[permutation(len(splits.train), seed, "fewer")]
    order: list[int] = shuffled.tolist()
    sizes = Counter(labels[place] for place in order)
    if limit < len(sizes):
        raise RecipeError(
            f"data.max_train_images ({limit}) must be at least the number of classes ({len(sizes)}): "
            "each needs an image to train on."
        )
    seen: Counter[str] = Counter()
    shares: list[float] = []  # the first image of each class has 0; the k-th stands at k / size of the way
    for place in order:
        label = labels[place]
        shares.append(seen[label] / sizes[label])
        seen[label] += 1
    chosen = shuffled[np.argsort(np.array(shares), kind="stable")[:limit]]
    made = f"train: {counted(limit, 'image')} of {len(shuffled):,} taken, evenly over the classes, seed {seed}"
    return replace(splits, train=np.sort(chosen), made=(*splits.made, made))
