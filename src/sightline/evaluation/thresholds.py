"""Where a probability becomes a yes, for each class: the threshold with the highest F1 on the validation images."""

import numpy as np
from numpy.typing import NDArray

DEFAULT = 0.5
"""Of a class that no validation image, or every one of them, has: nothing there says where yes begins."""


def fit_thresholds(probabilities: NDArray[np.floating], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K,) each class's threshold, 0 to 1, from probabilities (N, K) and targets (N, K) 0 or 1.

    Each lies halfway between two neighbouring probabilities; of equally good ones the nearest to 0.5 is taken, which
    is 0.5 itself where that parts the images as well. A probability at the threshold is a yes.
    """
    columns = range(targets.shape[1])
    return np.array([_best(probabilities[:, k].astype(np.float64), targets[:, k]) for k in columns])


def _best(scores: NDArray[np.float64], targets: NDArray[np.int64]) -> float:
    positives = int(targets.sum())
    if positives in (0, len(targets)):
        return DEFAULT
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.r_[ordered[1:] != ordered[:-1], True]  # of each score: the threshold lies just below it
    found, passed = np.cumsum(targets[order])[last], np.flatnonzero(last) + 1
    f1 = 2 * found / (passed + positives)
    levels = np.r_[ordered[last], 0.0]
    lower, upper = levels[1:], levels[:-1]  # a threshold in (lower, upper] says yes to the same images
    inside = (lower < DEFAULT) & (upper >= DEFAULT)
    candidates = np.where(inside, DEFAULT, (lower + upper) / 2)
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return float(candidates[best[np.abs(candidates[best] - DEFAULT).argmin()]])
