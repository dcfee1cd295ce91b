"""Predictor: a model folder, or an exported one, behind one `predict()`; and the logits of whole data sets.

An exported model is answered for without importing torch, unless its format is torch's own.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.decode import decode, upright_rgb
from sightline.devices import autocast, cores
from sightline.engines import AUTO, Folder, Settings, answers_alone, default_precision, engines_for, open_network
from sightline.errors import SightlineError, UnreadableImageError
from sightline.exported_folder import open_folder
from sightline.preprocess import Preprocess
from sightline.progress import track
from sightline.views import TestTimeAugmentation, averaged, check_views, needs_canvas, views

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from sightline.data.loader import Batches

Prepared: TypeAlias = NDArray[np.uint8] | UnreadableImageError
"""What the network sees of an image, (3, image_size, image_size), or why there is nothing."""

ImageLike: TypeAlias = str | Path | bytes | Image.Image | NDArray[Any]
"""A file's path, a file's bytes, a Pillow image in any mode, or an array (H, W), (H, W, 3) or (H, W, 4) of uint8."""

BATCH_SIZE = 32
"""Images that are answered at once unless asked otherwise, or unless each is answered alone."""

MOST_DECODERS = 8
"""Threads that decode ahead of the network at most."""

TOP_K = 5
"""Classes that are given for an image unless asked otherwise."""


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
    """Answers for images, with the preprocessing and calibration that the folder states."""

    def __init__(
        self,
        folder: Folder,
        *,
        device: str = "auto",
        tta: TestTimeAugmentation | None = None,
        engine: str | None = None,
        precision: str | None = None,
        threads: int | None = None,
        batch_size: int | None = None,
    ) -> None:
        check_views(tta, folder.spec.preprocess)
        self.spec = folder.spec
        self.tta: TestTimeAugmentation | None = tta
        settings = Settings(precision=precision or default_precision(folder), threads=threads, device=device)
        if engine == AUTO:
            from sightline.measuring.choice import choose

            engine = choose(folder, settings, BATCH_SIZE if batch_size is None else batch_size)
        self.engine = engine or engines_for(folder)[0]
        """The name of what computes."""
        self._network = open_network(folder, self.engine, settings)
        self.alone = answers_alone(folder, self.engine, device)
        """Whether images are answered one at a time unless asked otherwise, so that they always get the same bits."""

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        tta: TestTimeAugmentation | None = None,
        engine: str | None = None,
        precision: str | None = None,
        threads: int | None = None,
        batch_size: int | None = None,
    ) -> "Predictor":
        """Read a model folder or an exported one. `device` is auto, cpu, cuda or mps; exported models run on the CPU.

        `tta` averages the logits over several views of each image ("flip" or "five_crop"); it takes as many times as
        long. `engine` is one of `engines_for(folder)`, torch or the export's own runtime if left out; "auto" takes
        whichever is fastest here with batches of `batch_size` (32 if left out), and remembers it. `precision` is
        float32 unless named, or the export's. `threads` is the CPU's; the engine's own choice if left out.

        Raises RecipeError for views the model's images don't allow, ModelError for a folder that is damaged or was
        changed by hand, SightlineError for an engine, precision, device or number of threads that can't be had,
        MissingPackageError where a runtime isn't installed.
        """
        return cls(
            open_folder(path),
            device=device,
            tta=tta,
            engine=engine,
            precision=precision,
            threads=threads,
            batch_size=batch_size,
        )

    def predict(
        self, images: Sequence[ImageLike], *, top_k: int | None = None, batch_size: int | None = None
    ) -> list[Prediction]:
        """One Prediction for each image, in order; an unreadable image gets one with an error.

        `top_k` is how many classes to give: 5 if left out; of a model for several labels an image, every
        class at or above its threshold if left out, else the most probable ones whatever their thresholds.

        `batch_size` is how many images are computed at once: 32 if left out, and 1 by PyTorch on the CPU, whose last
        bits depend on what else is in a batch.
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
        batch_size: int | None = None,
    ) -> Iterator[Prediction]:
        """One Prediction for each (name, image) as batches are done. See `predict`.

        Files are read and decoded ahead, on threads: as many as a batch holds, and one for each thread.
        """
        for name, value in {"top_k": top_k, "batch_size": batch_size}.items():
            if value is not None and value < 1:
                raise SightlineError(f"{name} must be at least 1, got {value}.")
        size = batch_size or (1 if self.alone else BATCH_SIZE)
        window = self.spec.preprocess.canvas if needs_canvas(self.tta) else self.spec.preprocess.pixels
        remaining = _prepared(images, window, ahead=size)
        while chunk := list(islice(remaining, size)):
            yield from self._predict_batch(chunk, top_k)

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, 3, image_size, image_size) uint8 -> (B, K) logits, not calibrated.

        With `tta="five_crop"` the pixels are the canvas, (B, 3, resize, resize).
        """
        rows = [self._network(view) for view in views(pixels, self.spec.preprocess, self.tta)]
        return rows[0] if len(rows) == 1 else np.mean(rows, axis=0)

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Pixels as for `logits` -> (B, K), calibrated."""
        return self.spec.probabilities_of(self.logits(pixels))

    def _predict_batch(self, chunk: list[tuple[str, Prepared]], top_k: int | None) -> Iterator[Prediction]:
        pixels = [image for _, image in chunk if not isinstance(image, UnreadableImageError)]
        rows = iter(self.probabilities(np.stack(pixels)) if pixels else ())
        for name, image in chunk:
            if isinstance(image, UnreadableImageError):
                yield Prediction(name, error=str(image))
            else:
                yield Prediction(name, self.guesses(next(rows), top_k))

    def guesses(self, probabilities: NDArray[np.float64], top_k: int | None) -> tuple[Guess, ...]:
        """The classes to give for one image's probabilities (K,), the most probable first; `top_k` as for `predict`."""
        order = (-probabilities).argsort(kind="stable")
        if self.spec.thresholds is not None and top_k is None:
            order = order[probabilities[order] >= np.array(self.spec.thresholds.values)[order]]
        else:
            order = order[: top_k or TOP_K]
        return tuple(Guess(self.spec.classes[number], float(probabilities[number])) for number in order.tolist())


def collect_logits(
    model: "nn.Module",
    batches: "Batches",
    preprocess: Preprocess,
    *,
    device: "torch.device",
    precision: str = "float32",
    label: str = "Evaluating",
    tta: TestTimeAugmentation | None = None,
) -> "Tensor":
    """(N, K) float32 logits on the CPU, in the order of `batches`. The model's mode is put back afterwards.

    With `tta` they are averaged over views of each image; `batches` holds canvases where `needs_canvas(tta)`.
    """
    import torch

    from sightline.data.loader import explained_failures

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


def _prepared(
    images: Iterable[tuple[str, ImageLike | UnreadableImageError]],
    window: Callable[[Image.Image], NDArray[np.uint8]],
    *,
    ahead: int,
) -> Iterator[tuple[str, Prepared]]:
    """The images in order; while one is waited for, about as many as `ahead` after it are decoded on threads."""

    def prepare(image: ImageLike | UnreadableImageError) -> Prepared:
        try:
            return window(_read(image)).transpose(2, 0, 1)
        except UnreadableImageError as error:
            return error

    decoders = min(MOST_DECODERS, cores())
    pool = ThreadPoolExecutor(decoders, thread_name_prefix="sightline-decode")
    try:
        waiting: deque[tuple[str, Future[Prepared]]] = deque()
        for name, image in images:
            is_file = isinstance(image, str | Path | bytes)
            if is_file:
                waiting.append((name, pool.submit(prepare, image)))
            while len(waiting) > (ahead + decoders if is_file else 0):
                first, done = waiting.popleft()
                yield first, done.result()
            if not is_file:  # the caller's own object is not for several threads, nor has it to be waited for
                yield name, prepare(image)
        for name, done in waiting:
            yield name, done.result()
    finally:
        pool.shutdown(cancel_futures=True)


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
        content = Path(image).read_bytes()
    except OSError as error:
        raise UnreadableImageError(error.strerror or str(error)) from error
    except ValueError as error:  # a null character, or a surrogate that no bytes stand for
        raise UnreadableImageError(f"no file can have this name: {error}") from error
    return decode(content)


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
