"""A model folder's network in another runtime's form, made once and kept in the cache.

What is kept is an exported folder, so that a damaged one is noticed and made again. It was compared with the network
on noise, which catches a conversion that went wrong; `sightline export` compares on real images and measures accuracy.
"""

import hashlib
import logging
import os
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sightline.deps import require, require_torch
from sightline.errors import ModelError
from sightline.exported_folder import Artefact, ExportedFolder
from sightline.files import cache_folder, keep_latest, whole_folder
from sightline.formats import Format, Graph, Tolerance, find_format, open_exported
from sightline.model_folder import ModelFolder, ModelSpec, sha256

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger("sightline")

NUM_IMAGES = 4
"""Of noise, that a conversion is compared on."""

KEPT = 32
"""Conversions in the cache; those that were not used for longest make room."""


def converted(folder: ModelFolder, form: str) -> ExportedFolder:
    """The network in that format, normalised images in, logits out, float32 weights.

    Raises MissingPackageError, and ModelError when the network can't be converted or answers differently then.
    """
    chosen = find_format(form)
    path = cache_folder() / "engines" / f"{folder.spec.fingerprint[:16]}-{form}-{_versions_hash(chosen)}"
    with suppress(ModelError):  # none yet, or a damaged one
        found = ExportedFolder.read(path)
        with suppress(OSError):  # of a cache that may be read only
            os.utime(path)
        return found
    require_torch(f"Converting the model for {form}")
    for module in chosen.modules:
        require(module, extra=chosen.extra or "train", purpose=f"Converting the model for {form}")
    log.info(f"Converting the model for {form}, once; kept in {str(path)!r}.")
    with whole_folder(path) as aside:
        network = folder.model()
        artefact = _write(folder, network, form, chosen, aside)
        pixels = noise(folder.spec, NUM_IMAGES)
        import torch

        with torch.inference_mode():
            expected = network(folder.spec.preprocess.normalize(torch.from_numpy(pixels))).numpy()
        found = open_exported(artefact)(pixels).logits
        distance = farthest(expected, found)
        if not within(distance, chosen.tolerances["float32"]):
            raise ModelError(
                f"Converted for {form} the network doesn't give its own answers: logits differ by {distance:.2g} of "
                "their spread on noise. Use another engine, torch for one."
            )
    keep_latest((entry for entry in path.parent.iterdir() if entry.is_dir()), KEPT)
    return ExportedFolder(path, artefact.spec, artefact.artefact)


def noise(spec: ModelSpec, count: int) -> NDArray[np.uint8]:
    """(count, 3, image_size, image_size) pixels, the same each time."""
    side = spec.preprocess.image_size
    return np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8)


def farthest(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """The largest difference of two networks' logits (B, K), in units of the expected ones' spread."""
    if expected.shape != found.shape:
        return float("inf")
    reference = expected.astype(np.float64)
    centred = reference - reference.mean(axis=1, keepdims=True) if reference.shape[1] > 1 else reference
    spread = max(float(np.sqrt((centred**2).mean())), 1e-6)  # fresh heads of zeros have none
    return float(np.abs(reference - found).max() / spread)


def within(distance: float, tolerance: Tolerance) -> bool:
    """Whether `farthest` is small enough; a distance that is no number isn't."""
    return distance <= tolerance.max_difference


def _write(folder: ModelFolder, network: "nn.Module", form: str, chosen: Format, path: Path) -> ExportedFolder:
    import torch

    side = folder.spec.preprocess.image_size
    graph = Graph(
        module=network,
        example=torch.zeros(2, 3, side, side),
        input_name="images",
        output_names=("logits",),
        metadata={"producer": "sightline", "parent": folder.spec.fingerprint},
    )
    details = chosen.write(graph, path)
    artefact = Artefact(
        format=form,
        precision="float32",
        pixels=False,
        files={file.name: sha256(file) for file in sorted(path.iterdir())},
        details=details,
        parent=folder.spec.fingerprint,
        command="",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={name: version(name) for name in ("sightline", "torch", *chosen.modules)},
        parity={},
    )
    exported = ExportedFolder(path, folder.spec, artefact)
    exported.write()
    return exported


def _versions_hash(chosen: Format) -> str:
    """Names the packages' versions: another version converts again. A package that is missing has none."""
    found: list[str] = []
    for name in ("sightline", "torch", *chosen.modules):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(name)
    return hashlib.sha256(" ".join(found).encode()).hexdigest()[:8]
