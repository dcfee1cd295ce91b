"""Published weights: where they are, what images they expect, and how they get onto this machine.

torchvision and timm know their own files; they are asked for the address, the hash and the preprocessing.
A file is downloaded once, checked, and kept in the cache. `foreign_weights` reads it.
"""

import hashlib
import json
import math
import re
import urllib.error
import urllib.request
import zipfile
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeGuard, cast, get_args

from sightline import deps, files
from sightline.errors import ModelError, RecipeError
from sightline.preprocess import Interpolation, Preprocess
from sightline.progress import track

TRANSFORMS_INPUT = ("googlenet", "inception_v3")
"""torchvision's networks that turn ImageNet's mean and std into 0.5 and 0.5 inside: Preprocess does it here."""

SAME_NETWORK: Mapping[str, tuple[str, ...]] = {
    "vit_tiny_patch16_224": ("deit_tiny_patch16_224", "vit_tiny_patch16_384"),
    "vit_small_patch16_224": ("deit_small_patch16_224", "vit_small_patch16_384"),
    "vit_base_patch16_224": ("deit_base_patch16_224", "deit_base_patch16_384", "vit_base_patch16_384"),
    "vit_base_patch32_224": ("vit_base_patch32_384",),
    "vit_large_patch16_224": ("vit_large_patch16_384",),
}
"""timm's other names of an architecture's very computation, whose weights it takes; DeiT trains ViT differently.

Weights of any other may fit by name and shape, and answer wrongly: timm's `tf_efficientnet_b0` pads otherwise than its
`efficientnet_b0`, its `resnetaa50` blurs where `resnet50` strides.
"""

OTHERWISE: Mapping[str, str] = {
    "efficientnet_b5": "its batch norms add 1e-5 to the variance, torchvision's and ours 1e-3. Use the model "
    "timm/efficientnet_b5, or the weights torchvision:IMAGENET1K_V1",
}
"""Our architectures that compute otherwise than timm's of the same name and shapes, and what to do."""

LARGEST = 10_000
"""Pixels; a resized side beyond it is a slip."""

_HUGE = 1e30
"""Beyond float32's range, nearly: no setting of images is as large."""
_CHUNK = 1 << 20
_MAX_HEADER = 100_000_000
"""Bytes; safetensors itself reads none that is longer."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A file of weights that someone published."""

    source: str
    """As the user names it: "torchvision:IMAGENET1K_V2"."""
    url: str
    file_name: str
    """In the cache."""
    sha256_prefix: str
    """The first digits of the file's hash; "" where the publisher gives none."""
    preprocess: Preprocess
    """What images the weights were evaluated on."""
    unlike: tuple[str, ...] = ()
    """Sentences on what `preprocess` can't have of that."""

    @property
    def path(self) -> Path:
        """Where the file is kept."""
        return files.cache_folder() / "weights" / self.file_name


def find(source: str, *, name: str, timm_name: str) -> Published | Path:
    """What a source means for an architecture called `name` by torchvision and `timm_name` by timm.

    "torchvision:TAG" and "timm:TAG" (or "timm:ARCHITECTURE.TAG") are published files, "default" the one that
    torchvision prefers, else timm; anything else is a local file, or a model folder.
    Raises ModelError for an unknown tag, an ARCHITECTURE that computes otherwise, and a file that does not exist.
    """
    library, separator, tag = source.partition(":")
    if source == "default":
        library = "torchvision" if name in _torchvision_names() else "timm"
        tag = ""
    elif not separator or library not in ("torchvision", "timm"):
        return _local(files.expanded(source))
    if library == "timm" and name in OTHERWISE:
        raise ModelError(f"timm's weights of {name!r} are for another network: {OTHERWISE[name]}.")
    return _of_torchvision(name, tag) if library == "torchvision" else _of_timm(timm_name, tag)


def _local(path: Path) -> Path:
    path = path / "weights.safetensors" if path.is_dir() else path
    if not path.is_file():
        raise ModelError(
            f"There are no weights at {str(path)!r}. Give a .safetensors or .pth file, a model folder, "
            "or a published source such as torchvision:IMAGENET1K_V1."
        )
    return path


def _torchvision_names() -> list[str]:
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def _of_torchvision(name: str, tag: str) -> Published:
    import torchvision

    if name not in _torchvision_names():
        raise ModelError(f"torchvision publishes no weights for {name!r}. Use a timm: source or a local file.")
    known = cast(Any, torchvision.models.get_model_weights(name))
    if tag and tag not in known.__members__:
        tags = ", ".join(weights.name for weights in known)
        raise ModelError(f"torchvision has no weights {tag!r} for {name!r}, but {tags}.")
    weights = known[tag] if tag else known.DEFAULT
    shown = weights.transforms()
    half = (0.5, 0.5, 0.5)
    preprocess = Preprocess(
        image_size=shown.crop_size[0],
        resize=shown.resize_size[0],
        interpolation=shown.interpolation.value,
        mean=half if name in TRANSFORMS_INPUT else tuple(shown.mean),
        std=half if name in TRANSFORMS_INPUT else tuple(shown.std),
    )
    return _published(f"torchvision:{weights.name}", weights.url, preprocess)


def _of_timm(name: str, tag: str) -> Published:
    timm: Any = deps.require("timm", extra="timm", purpose="Loading timm's weights")
    architecture, _, tag = tag.rpartition(".") if "." in tag else (name, "", tag)
    if architecture not in (name, *SAME_NETWORK.get(name, ())):
        others = "".join(f" or {other!r}" for other in SAME_NETWORK.get(name, ()))
        raise ModelError(
            f"timm's weights of {architecture!r} are for another network; these are for {name!r}{others}. "
            f"The model timm/{architecture} takes them."
        )
    known = [full for full in timm.list_pretrained(architecture) if full.split(".")[0] == architecture]
    full = f"{architecture}.{tag}" if tag else architecture
    if not known:
        raise ModelError(f"timm publishes no weights for {architecture!r}. Use another source or a local file.")
    if tag and full not in known:
        tags = ", ".join(other.partition(".")[2] for other in known)
        raise ModelError(f"timm has no weights {tag!r} for {architecture!r}, but {tags}.")
    settings = timm.models.get_pretrained_cfg(full)
    source = f"timm:{architecture}.{settings.tag}"
    try:
        preprocess, unlike = timm_preprocess(settings.to_dict())
    except RecipeError as error:
        raise ModelError(f"The weights {source!r} can't be used, as their images can't be had here: {error}") from error
    if settings.url and settings.url.endswith(".pth"):
        return replace(_published(source, settings.url, preprocess), unlike=unlike)
    url = f"https://huggingface.co/{settings.hf_hub_id}/resolve/main/model.safetensors"
    file_name = f"{architecture}.{settings.tag}.safetensors"
    return replace(_published(source, url, preprocess, file_name), unlike=unlike)


def timm_preprocess(settings: Mapping[str, Any]) -> tuple[Preprocess, tuple[str, ...]]:
    """What images weights of timm's expect, by their `pretrained_cfg`; and sentences on what Preprocess hasn't of it.

    Raises KeyError for settings that are missing, RecipeError for those that can't be.
    """
    size, cut = _square(settings["input_size"]), settings.get("crop_mode") or "center"
    filtered, share = settings["interpolation"], settings["crop_pct"]
    if not (_is_number(share) and size / LARGEST <= share <= 1):
        raise RecipeError(f"crop_pct must be at most 1, and resize to {LARGEST:,} pixels at most, got {share!r}.")
    mean, std = (three_numbers(name, settings[name]) for name in ("mean", "std"))
    preprocess = Preprocess(
        image_size=size,
        resize=math.floor(size / share),
        interpolation="bilinear" if filtered == "bilinear" else "bicubic",
        mean=mean,
        std=std,
    )
    unlike: list[str] = []
    if cut != "center":
        unlike.append(f"The weights were evaluated on whole images (crop_mode {cut!r}); here the centre is cut out.")
    if filtered not in get_args(Interpolation):
        unlike.append(f"The weights were evaluated on images resized by {filtered!r}, which can't be had here.")
    return preprocess, tuple(unlike)


def three_numbers(name: str, values: object) -> tuple[float, float, float]:
    """One for each channel. Raises RecipeError for what isn't three finite numbers."""
    match values:
        case [red, green, blue] if _is_number(red) and _is_number(green) and _is_number(blue):
            return float(red), float(green), float(blue)
        case _:
            raise RecipeError(f"{name} is of three finite numbers, one for each channel, got {values!r}.")


def _square(input_size: object) -> int:
    match input_size:
        case [3, int(height), int(width)] if height == width and 1 <= width <= LARGEST:
            return width
        case _:
            raise RecipeError(
                f"input_size must be of three channels and a square of at most {LARGEST:,} pixels, got {input_size!r}."
            )


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _HUGE


def _published(source: str, url: str, preprocess: Preprocess, file_name: str = "") -> Published:
    file_name = file_name or url.rpartition("/")[2]
    prefix = re.search(r"-([0-9a-f]{8,})\.", file_name)  # the publishers' custom: name-1a2b3c4d.pth
    return Published(
        source=source,
        url=url,
        file_name=file_name,
        sha256_prefix=prefix[1] if prefix else "",
        preprocess=preprocess,
    )


def fetch(published: Published) -> Path:
    """The file, downloaded if it isn't in the cache, its hash checked.

    Raises ModelError when it can't be had, with the address and where to put it, when it is damaged, or something else.
    """
    path = published.path
    if path.is_file():
        _check(path, published)
    else:
        with files.whole_file(path) as aside:
            _download(published, aside)
            _check(aside, published)
    return path


def _check(path: Path, published: Published) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(published.sha256_prefix):
        raise ModelError(
            f"{str(published.path)!r} is not the file that {published.source!r} names: its SHA-256 begins with "
            f"{found[:8]}, not {published.sha256_prefix}. Delete it, and get it again from {published.url}."
        )
    if not published.sha256_prefix and not _holds_weights(path, published.file_name):
        raise ModelError(
            f"What came from {published.url} for {published.source!r} is no whole file of weights, but the page of a "
            f"network that asks for a login, say. Delete {str(published.path)!r} if it is there, and put the file in "
            "its place."
        )


def _holds_weights(path: Path, name: str) -> bool:
    """Whether a file whose hash nobody gave is what its name says, from its first bytes and its length."""
    if not name.endswith(".safetensors"):
        with path.open("rb") as file:
            return zipfile.is_zipfile(path) or file.read(1) == b"\x80"  # torch's archive, or its older pickle
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length <= _MAX_HEADER else b""
    try:
        tensors: dict[str, dict[str, Any]] = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return False
    return path.stat().st_size == 8 + length + max(ends, default=0)


def _download(published: Published, path: Path) -> None:
    try:
        with path.open("wb") as file:
            for chunk in _chunks(published.url, label=published.file_name):
                file.write(chunk)
    except (urllib.error.URLError, TimeoutError, ConnectionError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise ModelError(
            f"The weights {published.source!r} could not be downloaded ({reason}). "
            f"Get {published.url} on another machine and put it at {str(published.path)!r}."
        ) from error


def _chunks(url: str, *, label: str) -> Generator[bytes]:
    # The address is torchvision's or timm's own, never the user's.
    with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310
        expected = int(response.headers.get("Content-Length") or 0)
        received = 0
        parts = iter(lambda: response.read(_CHUNK), b"")
        for part in track(parts, total=math.ceil(expected / _CHUNK), label=label, unit="MiB"):
            received += len(part)
            yield part
        if received < expected:
            raise ConnectionError(f"only {received} of {expected} bytes arrived")
