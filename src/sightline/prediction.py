"""Predictor: a model folder, or an exported one, behind one `predict()`; and the logits of whole data sets.

An exported model is answered for without importing torch, unless its format is torch's own.
"""

import logging
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.ahead import in_order
from sightline.decode import large_alone
from sightline.devices import EMULATED, autocast, cores, emulates_bf16, pick_device
from sightline.engines import AUTO, Folder, Settings, default_precision, engines_for, open_network
from sightline.errors import ModelError, SightlineError, UnreadableImageError, check_whole
from sightline.exported_folder import check_folder, open_folder
from sightline.image_like import ImageLike, reader
from sightline.model_folder import ModelFolder
from sightline.preprocess import Preprocess
from sightline.progress import track
from sightline.views import TestTimeAugmentation, averaged, check_views, needs_canvas, views

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from sightline.data.loader import Batches

log = logging.getLogger("sightline")

BATCH_SIZE = 32
"""Images that are answered at once unless asked otherwise."""

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
        check_folder(folder)
        check_views(tta, folder.spec.preprocess)
        check_whole(batch_size=batch_size)
        self.spec = folder.spec
        self.tta: TestTimeAugmentation | None = tta
        self._batch_size = BATCH_SIZE if batch_size is None else batch_size
        settings = Settings(
            precision=precision or default_precision(folder),
            threads=threads,
            device=device,
            steady=batch_size is None,
        )
        if engine == AUTO:
            from sightline.measuring.choice import choose

            engine = choose(folder, settings, self._batch_size)
        self.engine = engine or engines_for(folder)[0]
        """The name of what computes."""
        if settings.precision == "bf16" and isinstance(folder, ModelFolder) and emulates_bf16(pick_device(device)):
            log.info(EMULATED.format(f"the engine {self.engine}"))
        self._network = open_network(folder, self.engine, settings)
        self._num_decoders = min(MOST_DECODERS, threads or cores())

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
        whichever is fastest here with batches of `batch_size`, and remembers it. `precision` is float32 unless named,
        or the export's. `threads` is the CPU's; the engine's own choice if left out.

        `batch_size` is how many images are answered at once, 32 if left out. On the CPU the last bits of PyTorch's
        answers depend on what else is in a batch, so that it computes one image at a time unless a number is named.

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

        `batch_size` is how many images are answered at once; what the predictor was opened with if left out. Whether
        PyTorch on the CPU computes them together was settled there.
        """
        is_single = isinstance(images, str | bytes | Path | Image.Image) or getattr(images, "ndim", 0) in (2, 3)
        if is_single or not hasattr(images, "__iter__"):
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

        Where a batch has more than one image, files are read and decoded ahead, on threads: as many as a batch holds
        and a few more, which have to stay until they are answered.
        """
        check_whole(top_k=top_k, batch_size=batch_size)
        size = batch_size or self._batch_size
        with closing(self._prepared(images, ahead=size + self._num_decoders if size > 1 else 0)) as remaining:
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

    def _prepared(
        self, images: Iterable[tuple[str, ImageLike | UnreadableImageError]], *, ahead: int
    ) -> "Generator[_Prepared]":
        """The images in order, files among them decoded ahead."""
        window = self.spec.preprocess.canvas if needs_canvas(self.tta) else self.spec.preprocess.pixels

        def prepare(image: ImageLike) -> "NDArray[np.uint8] | UnreadableImageError":
            try:
                read = reader(image)
                return large_alone(lambda most: window(read(most)).transpose(2, 0, 1))
            except UnreadableImageError as error:
                return error

        def begun() -> "Iterator[_Prepared | tuple[str, str | Path | bytes]]":
            for name, image in images:
                if isinstance(image, UnreadableImageError):
                    yield _Prepared(name, image)
                elif isinstance(image, str | Path | bytes):
                    yield name, image
                else:  # the caller's own object, which is not for several threads
                    yield _Prepared(name, prepare(image))

        def finished(item: "_Prepared | tuple[str, str | Path | bytes]") -> _Prepared:
            return item if isinstance(item, _Prepared) else _Prepared(item[0], prepare(item[1]))

        return in_order(finished, begun(), threads=self._num_decoders, ahead=ahead, name="sightline-decode")

    def _predict_batch(self, chunk: "list[_Prepared]", top_k: int | None) -> Iterator[Prediction]:
        pixels = [image.pixels for image in chunk if not isinstance(image.pixels, UnreadableImageError)]
        logits = self.logits(np.stack(pixels)) if pixels else np.empty((0, len(self.spec.classes)), np.float32)
        check_finite(logits)
        rows = iter(self.spec.probabilities_of(logits))
        for image in chunk:
            if isinstance(image.pixels, UnreadableImageError):
                yield Prediction(image.name, error=str(image.pixels))
            else:
                yield Prediction(image.name, self.guesses(next(rows), top_k))

    def guesses(self, probabilities: NDArray[np.float64], top_k: int | None) -> tuple[Guess, ...]:
        """The classes to give for one image's probabilities (K,), the most probable first; `top_k` as for `predict`."""
        order = (-probabilities).argsort(kind="stable")
        if self.spec.thresholds is not None and top_k is None:
            order = order[probabilities[order] >= np.array(self.spec.thresholds.values)[order]]
        else:
            order = order[: top_k or TOP_K]
        return tuple(Guess(self.spec.classes[number], float(probabilities[number])) for number in order.tolist())


def check_finite(logits: NDArray[np.floating]) -> None:
    """Raise ModelError when one of (N, K) is infinite or no number."""
    broken = int((~np.isfinite(logits).all(axis=1)).sum())
    if broken:
        raise ModelError(
            f"The network's output is infinite or not a number for {broken} of {len(logits)} images. "
            "Its weights have diverged: train again with a lower optim.lr, or set optim.clip_norm."
        )


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


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An image on its way to the network."""

    name: str
    pixels: NDArray[np.uint8] | UnreadableImageError
    """(3, S, S): what the network sees, or the canvas that views are cut from; or why there is nothing."""
