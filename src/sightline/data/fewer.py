"""Fewer images to train on, for studies and first tries: evenly over the classes, the rest of the splits untouched."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

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
    num_classes = len({labels[place] for place in splits.train.tolist()})
    if limit < num_classes:
        raise RecipeError(
            f"data.max_train_images ({limit}) must be at least the number of classes ({num_classes}): "
            "each needs an image to train on."
        )
    made = f"train: {counted(limit, 'image')} of {len(splits.train):,} taken, evenly over the classes, seed {seed}"
    return replace(splits, train=_evenly(splits.train, labels, limit, seed), made=(*splits.made, made))


def few_of_each_split(splits: Splits, labels: Sequence[str], limit: int, seed: int) -> Splits:
    """At most `limit` images of each split, evenly over the classes, in train no fewer than there are classes.

    `labels` are `rarest_labels` of the whole table.
    """
    num_classes = len({labels[place] for place in splits.train.tolist()})
    fewer = fewer_to_train(splits, labels, max(limit, num_classes), seed)
    val, test = (_evenly(places, labels, limit, seed) for places in (splits.val, splits.test))
    made = f"Of val and of test no more than {counted(limit, 'image')} taken"
    return replace(fewer, val=val, test=test, made=(*fewer.made, made))


def _evenly(places: NDArray[np.int64], labels: Sequence[str], limit: int, seed: int) -> NDArray[np.int64]:
    """At most `limit` of these places, ascending; every class has its share, rounded, and one while there is room."""
    shuffled = places[permutation(len(places), seed, "fewer")]
    order: list[int] = shuffled.tolist()
    sizes = Counter(labels[place] for place in order)
    seen: Counter[str] = Counter()
    shares: list[float] = []  # the first image of each class has 0; the k-th stands at k / size of the way
    for place in order:
        label = labels[place]
        shares.append(seen[label] / sizes[label])
        seen[label] += 1
    return np.sort(shuffled[np.argsort(np.array(shares), kind="stable")[:limit]])
