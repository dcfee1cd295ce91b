"""Predictor: a model folder behind one `predict()`, and the logits of whole data sets."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from sightline.data.loader import Batches, explained_failures
from sightline.decode import decode, upright_rgb
from sightline.errors import SightlineError, UnreadableImageError
from sightline.model_folder import ModelFolder
from sightline.preprocess import Preprocess
from sightline.progress import track
from sightline.views import TestTimeAugmentation, averaged, check_views, needs_canvas

ImageLike: TypeAlias = str | Path | bytes | Image.Image | NDArray[Any]
"""A file's path, a file's bytes, a Pillow image in any mode, or an array (H, W), (H, W, 3) or (H, W, 4) of uint8."""

TOP_K = 5
"""Classes that are given for an image unless asked otherwise."""

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Guess:
    """A class and how probable it is."""

    label: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The answer for one image: the most probable classes first, or why there is none."""

    name: str
    """The file's path, or "image 3" for the third image without one."""
    guesses: tuple[Guess, ...] = ()
    """Of a model for several labels an image those at or above their thresholds; there may be none."""
    error: str | None = None


class Predictor:
    """Answers for images, with the preprocessing and calibration that the model folder states."""

    def __init__(self, folder: ModelFolder, *, device: str = "auto", tta: TestTimeAugmentation | None = None) -> None:
        check_views(tta, folder.spec.preprocess)
        self.spec = folder.spec
        self.tta: TestTimeAugmentation | None = tta
        self.device = pick_device(device)
        self.model = folder.model().to(self.device)

    @classmethod
    def open(cls, path: str | Path, *, device: str = "auto", tta: TestTimeAugmentation | None = None) -> "Predictor":
        """Read a model folder. `device` is auto, cpu, cuda or mps. Raises ModelError.

        `tta` averages the logits over several views of each image ("flip" or "five_crop"); it takes as many times as
        long. Raises RecipeError for views the model's images don't allow.
        """
        return cls(ModelFolder.read(path), device=device, tta=tta)

    def predict(
        self, images: Sequence[ImageLike], *, top_k: int | None = None, batch_size: int = 32
    ) -> list[Prediction]:
        """One Prediction for each image, in order; an unreadable image gets one with an error.

        `top_k` is how many classes to give: 5 if left out; of a model for several labels an image, every
        class at or above its threshold if left out, else the most probable ones whatever their thresholds.
        """
        if isinstance(images, str | bytes | Path | Image.Image):
            raise SightlineError("predict() takes a list of images; put a single one in a list.")
        named = (
            (str(image) if isinstance(image, str | Path) else f"image {number}", image)
            for number, image in enumerate(images, 1)
        )
        return list(self.predict_stream(named, top_k=top_k, batch_size=batch_size))

    def predict_stream(
        self,
        images: Iterable[tuple[str, ImageLike | UnreadableImageError]],
        *,
        top_k: int | None = None,
        batch_size: int = 32,
    ) -> Iterator[Prediction]:
        """One Prediction for each (name, image) as batches are done; never holds more than a batch. See `predict`."""
        for name, value in {"top_k": top_k, "batch_size": batch_size}.items():
            if value is not None and value < 1:
                raise SightlineError(f"{name} must be at least 1, got {value}.")
        remaining = iter(images)
        while chunk := list(islice(remaining, batch_size)):
            yield from self._predict_batch(chunk, top_k)

    def logits(self, pixels: Tensor) -> Tensor:
        """(B, 3, image_size, image_size) uint8 -> (B, K) float32 logits, not calibrated, on the CPU.

        With `tta="five_crop"` the pixels are the canvas, (B, 3, resize, resize).
        """
        with torch.inference_mode():
            return averaged(self.model, pixels.to(self.device), self.spec.preprocess, self.tta).float().cpu()

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Pixels as for `logits` -> (B, K) float32, calibrated, on the CPU."""
        return self.spec.probabilities(self.logits(pixels))

    def _predict_batch(
        self, chunk: list[tuple[str, ImageLike | UnreadableImageError]], top_k: int | None
    ) -> Iterator[Prediction]:
        errors: dict[int, str] = {}
        pixels: dict[int, Tensor] = {}
        window = self.spec.preprocess.canvas if needs_canvas(self.tta) else self.spec.preprocess.pixels
        for place, (_, image) in enumerate(chunk):
            try:
                pixels[place] = torch.from_numpy(window(_read(image))).permute(2, 0, 1)
            except UnreadableImageError as error:
                errors[place] = str(error)
        rows = dict(zip(pixels, self.probabilities(torch.stack(list(pixels.values()))), strict=True)) if pixels else {}
        for place, (name, _) in enumerate(chunk):
            if place in errors:
                yield Prediction(name, error=errors[place])
                continue
            yield Prediction(name, self._guesses(rows[place], top_k))

    def _guesses(self, probabilities: Tensor, top_k: int | None) -> tuple[Guess, ...]:
        """The classes to give for one image (K,), the most probable first."""
        best = probabilities.topk(min(top_k or TOP_K, len(probabilities)))
        if self.spec.thresholds is not None and top_k is None:
            chosen = probabilities.double() >= torch.tensor(self.spec.thresholds.values, dtype=torch.float64)
            best = probabilities.where(chosen, -1.0).topk(int(chosen.sum()))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return tuple(Guess(self.spec.classes[number], value) for number, value in pairs)


def collect_logits(
    model: nn.Module,
    batches: Batches,
    preprocess: Preprocess,
    *,
    device: torch.device,
    precision: str = "float32",
    label: str = "Evaluating",
    tta: TestTimeAugmentation | None = None,
) -> Tensor:
    """(N, K) float32 logits on the CPU, in the order of `batches`. The model's mode is put back afterwards.

    With `tta` they are averaged over views of each image; `batches` holds canvases where `needs_canvas(tta)`.
    """
    training = model.training
    model.eval()
    total = sum(len(part) for part in batches.order)
    rows: list[Tensor] = []
    with torch.inference_mode(), autocast(device, precision), explained_failures():
        for batch in track(batches, total=total, label=label, size=batches.batch_size):
            pixels = batch.images.to(device, non_blocking=True)
            rows.append(averaged(model, pixels, preprocess, tta).float().cpu())
    model.train(training)
    return torch.cat(rows)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision on that device; "float32" turns it off."""
    return torch.autocast(device.type, dtype=AUTOCAST.get(precision), enabled=precision in AUTOCAST)


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" is a GPU where there is one. Raises SightlineError where it is missing."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(candidate for candidate in ("cuda", "mps", "cpu") if available[candidate])
    if not available.get(name):
        known = ", ".join(candidate for candidate, there in available.items() if there)
        raise SightlineError(f"The device {name!r} is not available here. Available: {known}.")
    return torch.device(name)


def _read(image: ImageLike | UnreadableImageError) -> Image.Image:
    if isinstance(image, UnreadableImageError):
        raise image
    if isinstance(image, Image.Image):
        return _checked(image)
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, bytes):
        return decode(image)
    if not isinstance(image, str | Path):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers needn't check types
        raise UnreadableImageError(f"expected a path, bytes, a Pillow image or an array, got {type(image).__name__}")
    try:
        return decode(Path(image).read_bytes())
    except OSError as error:
        raise UnreadableImageError(error.strerror or str(error)) from error


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise UnreadableImageError(
            f"an array must be uint8 of shape (H, W), (H, W, 3) or (H, W, 4), got {array.dtype} of shape {array.shape}"
        )
    return _checked(Image.fromarray(array))


def _checked(image: Image.Image) -> Image.Image:
    if 0 in image.size:
        raise UnreadableImageError("the image has no pixels")
    try:
        return upright_rgb(image.copy())
    except ValueError as error:  # Pillow's, for an image that was closed
        raise UnreadableImageError(str(error)) from error
