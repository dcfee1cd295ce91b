"""Holding images out so that each class keeps its share, where an image may have several labels.

Source: On the Stratification of Multi-Label Data (Sechidis et al., 2011), algorithm 1, for two parts: the class
with the fewest images left goes first, since it is the hardest to share, and each of its images goes to the part
that still wants most of that class. Where the paper draws at random, the order of the images decides.
"""

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def hold_out(groups: Counts, totals: Counts, *, fraction: float, spared: int) -> NDArray[np.bool_]:
    """(G,) which groups of images to hold out; groups (G, K) images of each class in each, at least one.

    A group moves as a whole, and an image counts for each of its classes. totals (K,) are the images of each class,
    those included that are in no group and stay. Of each class about `fraction` is held out, at least one image,
    and at least `spared` stay.
    """
    wanted = np.minimum(np.maximum(np.rint(totals * fraction).astype(np.int64), 1), totals - spared)
    limit = totals - spared
    fixed = totals - groups.sum(0)
    asked = np.stack([totals - wanted - fixed, wanted]).astype(np.int64)  # (2, K): to stay, to be held out
    overall = asked.sum(1)
    taken = np.zeros_like(totals)
    held = np.zeros(len(groups), dtype=np.bool_)
    undecided = np.ones(len(groups), dtype=np.bool_)
    while undecided.any():
        left = groups[undecided].sum(0)
        rarest = int(np.where(left > 0, left, np.iinfo(np.int64).max).argmin())
        for place in np.flatnonzero(undecided & (groups[:, rarest] > 0)).tolist():
            group = groups[place]
            stay, out = asked[:, rarest].tolist()
            prefers_out = out > stay or (out == stay and overall[1] >= overall[0])
            chosen = int(prefers_out and bool((taken + group <= limit)[group > 0].all()))
            held[place] = bool(chosen)
            taken += group * chosen
            asked[chosen] -= group
            overall[chosen] -= group.sum()
            undecided[place] = False
    return held
