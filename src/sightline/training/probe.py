"""The linear probe: features of a trained network, computed once, and a head fitted to them by logistic regression.

The features are kept in the cache, so that a second probe of the same weights and images costs seconds.
"""

import hashlib
import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline import files
from sightline.data.loader import Batches, Pixels, explained_failures
from sightline.data.order import in_order
from sightline.data.prepare import Prepared
from sightline.errors import ModelError
from sightline.evaluation import BATCH_SIZE
from sightline.models import Classifier
from sightline.preprocess import Preprocess
from sightline.progress import track
from sightline.recipe import Recipe

log = logging.getLogger("sightline")

GRID = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
"""Inverse strengths of the L2 penalty that are tried: scikit-learn's C, for standardised features."""
MAX_STEPS = 1000
"""Of L-BFGS, for each of them."""
NOT_USED = (
    "epochs, batch_size, augment, loss, optim, data.sampling, data.repeats, model.dropout, model.drop_path, "
    "and train but its device"
)
KEPT = 16
"""Sets of features in the cache; those that were not used for longest make room."""

_ROWS = 4096
"""Features that are in memory at once while they are standardised."""


def fit_head(model: Classifier, recipe: Recipe, prepared: Prepared, device: torch.device) -> None:
    """Fit the head on the training split's features, with the penalty that the validation split likes best.

    The images are prepared as for evaluation, and the network is in evaluation mode. Everything is determined by the
    weights, the images and the machine. Features are on the disk, and mapped into memory as they are needed.
    Raises ModelError for a head without a bias, and like an evaluation when an image can't be read.
    """
    head = model.head
    if not isinstance(head, nn.Linear) or "bias" not in dict(head.named_parameters()):
        setting = "probe" if recipe.finetune.probe else "probe_first"
        raise ModelError(
            f"finetune.{setting} needs a network whose head is a linear layer with a bias. Choose another one."
        )
    if recipe.finetune.probe:
        log.info(f"The probe trains nothing but the head. Of the recipe it does not use {NOT_USED}.")
    splits, targets = prepared.splits, prepared.table.targets
    features = _Features.of(model, recipe, prepared, device)
    coefficients, intercept, strength = _fit(features.train, targets[splits.train], features.val, targets[splits.val])
    weight = coefficients / features.deviation
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(intercept - weight @ features.mean))
    log.info(f"Head fitted by logistic regression with C = {strength:g}, the lowest validation loss of {len(GRID)}.")


class _Features:
    """(N, D) float32 features of the training and of the validation split, standardised by the training split's.

    One file holds both, and in its last two rows the mean and the standard deviation.
    """

    def __init__(self, rows: NDArray[np.float32], num_train: int) -> None:
        self.train = rows[:num_train]
        self.val = rows[num_train:-2]
        self.mean: NDArray[np.float64] = rows[-2].astype(np.float64)
        self.deviation: NDArray[np.float64] = rows[-1].astype(np.float64)

    @classmethod
    def of(cls, model: Classifier, recipe: Recipe, prepared: Prepared, device: torch.device) -> "_Features":
        """From the cache, or computed and kept there."""
        table, splits = prepared.table, prepared.splits
        places = np.concatenate((splits.train, splits.val))
        path = files.cache_folder() / "features" / f"{_key(model, recipe, prepared, device)}.npy"
        shape = (len(places) + 2, model.num_features)
        if not path.exists():
            preprocess = recipe.data.preprocess()
            pixels = Pixels(table, preprocess, canvas=False)
            order = in_order(places, BATCH_SIZE)
            batches = Batches(pixels, order, table.targets, len(table.classes), recipe.data.num_workers)
            with files.whole_file(path) as aside:
                rows = np.lib.format.open_memmap(aside, mode="w+", dtype=np.float32, shape=shape)
                files.reserve(aside)
                _compute(model.to(device), batches, preprocess, device, rows)
                _standardise(rows, len(splits.train))
                rows.flush()
                del rows
            files.keep_latest(path.parent.glob("*.npy"), KEPT)
        else:
            log.info(f"Features found in the cache: {path}.")
            with suppress(OSError):  # of a cache that may be read only
                os.utime(path)
        return cls(_mapped(path, shape), len(splits.train))


def _mapped(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Raises ModelError for a file that is damaged."""
    try:
        rows: NDArray[np.float32] = np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise ModelError(f"The stored features {str(path)!r} are damaged. Delete the file.") from error
    if rows.shape != shape:
        raise ModelError(f"The stored features {str(path)!r} are damaged: {rows.shape}, not {shape}. Delete the file.")
    return rows


def _key(model: Classifier, recipe: Recipe, prepared: Prepared, device: torch.device) -> str:
    """Names the features: another one for other weights before the head, other images, splits or preprocessing."""
    digest = hashlib.sha256()
    network = [recipe.model.name, recipe.model.activation, recipe.model.norm]
    versions = [version("sightline"), torch.__version__, device.type]
    settings = [*network, asdict(recipe.data.preprocess()), prepared.fingerprint, *versions]
    digest.update(json.dumps(settings).encode())
    for places in (prepared.splits.train, prepared.splits.val):
        digest.update(places.tobytes())
    for name, tensor in model.state_dict().items():
        if not name.startswith(("head.", "auxiliary.")):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _compute(
    model: Classifier, batches: Batches, preprocess: Preprocess, device: torch.device, rows: NDArray[np.float32]
) -> None:
    """Fill the first rows with `forward_features` of the batches' images, in their order."""
    training, done = model.training, 0
    model.eval()
    total = sum(len(part) for part in batches.order)
    with torch.inference_mode(), explained_failures():
        for batch in track(batches, total=total, label="Computing features", size=batches.batch_size):
            images = preprocess.normalize(batch.images.to(device, non_blocking=True))
            features: Tensor = model.forward_features(images).float().cpu()
            rows[done : done + len(features)] = features.numpy()
            done += len(features)
    model.train(training)


def _standardise(rows: NDArray[np.float32], num_train: int) -> None:
    """Subtract the training features' mean, divide by their standard deviation, and write both as the last rows.

    A feature that is the same for every image is only shifted.
    """
    mean = sum(part.sum(0, dtype=np.float64) for part in _parts(rows[:num_train])) / num_train
    squares = sum(np.square(part - mean, dtype=np.float64).sum(0) for part in _parts(rows[:num_train])) / num_train
    deviation = np.sqrt(squares)
    deviation = np.where(deviation > 1e-6 * np.maximum(np.abs(mean), 1e-6), deviation, 1.0).astype(np.float32)
    rows[-2], rows[-1] = mean, deviation
    for part in _parts(rows[:-2]):
        part[:] = (part - rows[-2]) / rows[-1]


def _parts(rows: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    yield from (rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS))


def _fit(
    train: NDArray[np.float32],
    train_targets: NDArray[np.int64],
    val: NDArray[np.float32],
    val_targets: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Coefficients (K, D), intercepts (K,) and C of the multinomial regression with the lowest validation loss."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    best: tuple[float, NDArray[np.float64], NDArray[np.float64], float] | None = None
    for strength in track(GRID, total=len(GRID), label="Fitting the head", unit="penalties"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            regression = LogisticRegression(C=strength, max_iter=MAX_STEPS).fit(train, train_targets)
        if caught:
            log.info(f"With C = {strength:g} the regression had not settled after {MAX_STEPS} steps.")
        coefficients: NDArray[np.float64] = np.asarray(regression.coef_, dtype=np.float64)
        intercept: NDArray[np.float64] = np.asarray(regression.intercept_, dtype=np.float64)
        if len(coefficients) == 1:  # two classes: scikit-learn gives the difference of their rows
            coefficients, intercept = (
                np.concatenate((-coefficients, coefficients)) / 2,
                np.array([-0.5, 0.5]) * intercept,
            )
        logits = torch.from_numpy(val @ coefficients.T + intercept)
        loss = float(nn.functional.cross_entropy(logits, torch.from_numpy(val_targets)))
        if best is None or loss < best[0]:
            best = loss, coefficients, intercept, strength
    assert best is not None
    return best[1], best[2], best[3]
