"""int8: an exported model that computes in whole numbers, calibrated on the model's training images.

Activations' ranges come from a sample in which every class has its share, prepared as in evaluation. int8 moves every
logit, so the result is held to its accuracy on the validation split, by a paired test, and not to the logits. Where
that costs too much, `epochs` trains the network with int8's rounding in it first.

int8_weights and fp16 store the weights smaller and compute in float32: a smaller file, not a faster network. They need
no calibration.
"""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sightline import deps
from sightline.command_line import command_line
from sightline.compressing.images import Images
from sightline.compressing.judging import answers_right, right
from sightline.compressing.tuning import tune, tuning_recipe
from sightline.data.loader import Pixels
from sightline.data.phrases import counted
from sightline.errors import ModelError, unknown_name
from sightline.evaluation.paired import compare_paired
from sightline.exported_folder import Artefact, ExportedFolder
from sightline.exporting.comparing import Images as Compared
from sightline.exporting.comparing import answers
from sightline.exporting.graph import build_graph
from sightline.exporting.parity import measure
from sightline.files import whole_folder
from sightline.formats import Tolerance, find_format, open_exported
from sightline.model_folder import ModelFolder, sha256
from sightline.models import Classifier
from sightline.quantization import Bound, Request, quietly
from sightline.recipe import Recipe

log = logging.getLogger("sightline")

Engine = Literal["openvino", "onnx"]
Precision = Literal["int8", "int8_weights", "fp16"]

INT8 = Tolerance(max_difference=1e6, mean_difference=1e6, min_agreement=0.0, max_probability_difference=1.0)
"""Logits are shown and held to nothing: `max_drop` holds the accuracy."""

_ROUNDING = 1e-9
"""Points by which 7 of 1,000 images may be more than 0.7% of them, in floating point."""

COMPARED = 256
"""Images whose logits are compared."""


@dataclass(frozen=True, kw_only=True)
class Quantize:
    """By which engine, and how much accuracy may go."""

    engine: Engine = "openvino"
    """openvino, by NNCF; or onnx, by ONNX Runtime, which takes int8 alone."""
    precision: Precision = "int8"
    max_drop: float | None = None
    """Points of accuracy on the validation split that may be lost; more is an error, which openvino first tries to
    avoid by putting layers back to float32. None: no bound."""
    num_images: int = 300
    """Training images to calibrate on, at most; int8 alone does."""
    epochs: int = 0
    """Of quantisation-aware training before it, of int8 alone."""
    settings: tuple[str, ...] = ()
    """Settings of that training."""

    def __post_init__(self) -> None:
        if self.engine not in get_args(Engine):
            raise ModelError(
                unknown_name("engine", self.engine, get_args(Engine), listing="`sightline compress --help`")
            )
        if self.precision not in get_args(Precision):
            known = get_args(Precision)
            raise ModelError(unknown_name("precision", self.precision, known, listing="`sightline compress --help`"))
        if self.precision != "int8" and self.engine != "openvino":
            raise ModelError(f"quantize: {self.precision} is written for openvino alone, got {self.engine!r}.")
        if self.max_drop is not None and not 0 < self.max_drop <= 100:
            raise ModelError(
                f"quantize: max_drop is in points of accuracy, above 0 and at most 100, got {self.max_drop:g}."
            )
        if self.num_images < 1:
            raise ModelError(f"quantize: num_images must be at least 1, got {self.num_images}.")
        if self.epochs < 0:
            raise ModelError(f"quantize: epochs must be at least 0, got {self.epochs}.")
        if self.epochs and self.precision != "int8":
            raise ModelError(f"quantize: {self.precision} rounds no activations, which epochs would train for.")

    def check(self, folder: ModelFolder) -> None:
        """Raise MissingPackageError where the quantiser isn't installed."""
        del folder
        form = find_format(self.engine)
        for module in form.modules:
            deps.require(module, extra=form.extra or "", purpose=f"Quantising for {self.engine}")
        if self.engine == "openvino" and self.precision != "fp16":
            with quietly():
                deps.require("nncf", extra="compress", purpose=f"Quantising for {self.engine}")

    def recipe(self, own: Recipe, folder: ModelFolder) -> Recipe | None:
        """What is trained by before it. Raises RecipeError for settings that can't be."""
        if not self.epochs:
            return None
        return tuning_recipe(own, folder, self.epochs, (*self.settings, "train.fake_quantize=true"))

    def apply(self, folder: ModelFolder, images: Images, work: Path) -> ExportedFolder:
        """The exported model. Raises ModelError where more accuracy is lost than may be, MissingPackageError."""
        form = find_format(self.engine)
        trained = self._trained(folder, images, work)
        source = work / "float32"
        with whole_folder(source) as aside:
            form.write(build_graph(trained, pixels=False, precision=self.precision), aside)
        with whole_folder(work / self.precision) as aside:
            details = self._quantise(folder, trained, images, source, aside)
            exported = self._described(folder, trained, aside, details)
            try:
                self._hold(folder, exported, images)
            except ModelError:
                shutil.rmtree(work / "aware", ignore_errors=True)  # trained in vain
                raise
            exported = _compared(trained, exported, images)
            exported.write()
        return ExportedFolder.read(work / self.precision)

    def _trained(self, folder: ModelFolder, images: Images, work: Path) -> ModelFolder:
        """The model, used to int8's rounding where that was asked for. Raises what training raises."""
        recipe = self.recipe(images.recipe, folder)
        return folder if recipe is None else tune(recipe, images, work / "aware")

    def _quantise(
        self, parent: ModelFolder, folder: ModelFolder, images: Images, source: Path, target: Path
    ) -> dict[str, Any]:
        if self.precision != "int8":
            from sightline.quantization import openvino

            return openvino.shrink_weights(Request(source, target, [], transformer=False), self.precision)
        places = images.sample(self.num_images)
        model = folder.model()
        request = Request(source, target, list(_Normalised(folder, images, places, kept=0)), _has_attention(model))
        log.info(f"Calibrating on {counted(len(places), 'training image')}, prepared as in evaluation.")
        if self.engine == "onnx":
            from sightline.quantization import onnx

            return onnx.quantize(request)
        from sightline.quantization import openvino

        details = openvino.quantize(request, self._bound(parent, folder, images))
        if details["float_layers"]:
            log.info(f"In float32: {', '.join(details['float_layers'])}.")
        return details

    def _bound(self, parent: ModelFolder, folder: ModelFolder, images: Images) -> Bound | None:
        """What quantising may cost the folder's network, so that both steps together cost no more than `max_drop`.

        Raises ModelError where training with int8's rounding has cost all of it.
        """
        if self.max_drop is None:
            return None
        left = self.max_drop / 100
        if folder is not parent:
            before, after = (answers_right(one, images, "val", "cpu")[0].mean() for one in (parent, folder))
            left += float(after - before)
        if left <= 0:
            raise ModelError(
                f"Training with int8's rounding alone cost {self.max_drop - left * 100:.2f} points of the validation "
                f"split's accuracy, where {self.max_drop:g} may be lost. Train longer by --quantize-epochs, or allow "
                "more by --max-drop."
            )
        places = images.places("val")
        truth = images.table.numbered(folder.spec.classes)[places]

        def accuracy(logits: NDArray[Any]) -> float:
            return float(right(folder.spec, logits, truth).mean())

        kept = self.num_images  # by as many NNCF ranks the layers, again and again
        return Bound(left, _Normalised(folder, images, places, kept=kept), accuracy)

    def _hold(self, folder: ModelFolder, exported: ExportedFolder, images: Images) -> None:
        """Raise ModelError where the validation split's accuracy fell too far."""
        before, after = (answers_right(one, images, "val", "cpu")[0] for one in (folder, exported))
        found = compare_paired(before, after)
        log.info(f"On the {counted(len(before), 'validation image')}: {found}.")
        if self.max_drop is not None and -found.difference * 100 > self.max_drop + _ROUNDING:
            raise ModelError(
                f"{self.precision} changed the accuracy on the validation split by {found}, where "
                f"{self.max_drop:g} may be lost. Allow more by --max-drop, or train longer before."
            )

    def _described(
        self, folder: ModelFolder, trained: ModelFolder, place: Path, details: dict[str, Any]
    ) -> ExportedFolder:
        modules = ("onnxruntime",) if self.engine == "onnx" else ("openvino", "nncf")
        artefact = Artefact(
            format=self.engine,
            precision=self.precision,
            pixels=False,
            files={file.name: sha256(file) for file in sorted(place.iterdir())},
            details=details | ({"aware_epochs": self.epochs} if self.epochs else {}),
            parent=folder.spec.fingerprint,
            command=command_line(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            versions={name: version(name) for name in ("sightline", "torch", *modules)},
            parity={},
        )
        exported = ExportedFolder(place, replace(trained.spec, figures={}), artefact)
        exported.write()
        return exported


def _compared(folder: ModelFolder, exported: ExportedFolder, images: Images) -> ExportedFolder:
    places = images.places("val")[:: max(1, -(-len(images.places("val")) // COMPARED))]
    said = f"{counted(len(places), 'image')} in the validation split"
    found = answers(folder, open_exported(exported), Compared(images.table, places, said))
    parity = asdict(measure(found, images=said, tolerance=INT8))
    return replace(exported, artefact=replace(exported.artefact, parity=parity))


class _Normalised:
    """Images as a network takes them, each (1, 3, H, W), read when they are asked for: all may be gigabytes.

    The last `kept` are held.
    """

    def __init__(self, folder: ModelFolder, images: Images, places: NDArray[np.int64], *, kept: int) -> None:
        self._preprocess = folder.spec.preprocess
        self._pixels = Pixels(images.table, self._preprocess, canvas=False)
        self._places = places
        self._kept = lru_cache(maxsize=kept)(self._read)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, row: int) -> NDArray[np.float32]:
        return self._kept(row)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return map(self._kept, range(len(self)))

    def _read(self, row: int) -> NDArray[np.float32]:
        return self._preprocess.normalize_array(self._pixels.batch(self._places[[row]]).numpy())


def _has_attention(model: Classifier) -> bool:
    return any(hasattr(module, "num_heads") for module in model.modules())


ENTRY = Quantize
