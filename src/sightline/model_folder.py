"""One folder is the model: weights, architecture, classes, preprocessing, calibration, figures, provenance.

`model.json` is written last, so a folder without one is a run that hasn't ended, never half a model.
"""

import hashlib
import json
import math
import os
import re
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError

from sightline.deps import require_torch
from sightline.errors import ModelError, SightlineError, path_of
from sightline.files import whole_file, write_json
from sightline.narrowing import Narrowing
from sightline.preprocess import Preprocess

if TYPE_CHECKING:  # reading model.json needs no torch
    from torch import Tensor

    from sightline.models import Classifier

Part = TypeVar("Part")

FORMAT = 1
"""Of model.json; it grows when an older reader would misunderstand a newer folder."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What `create_model` needs to build the network again."""

    name: str
    num_classes: int
    image_size: int
    dropout: float | None = None
    drop_path: float | None = None
    activation: str | None = None
    norm: str | None = None
    width: float | None = None
    depth: float | None = None
    narrowing: Narrowing | None = None
    """What pruning has cut out of the plain network; None where nothing was."""

    def settings(self) -> dict[str, Any]:
        """What `create_model` takes."""
        return {name: value for name, value in vars(self).items() if name != "narrowing"}

    def build(self) -> "Classifier":
        """The network with fresh weights. Raises ModelError."""
        from sightline.models import create_model

        try:
            model = create_model(**self.settings())
        except (RuntimeError, ValueError, OverflowError, MemoryError) as error:  # torch's, by what can't be made
            raise ModelError(
                f"A network {self.name!r} with these settings can't be built: {_unbuildable(error)}."
            ) from error
        if self.narrowing is not None:
            self.narrowing.apply(model)
        return model


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How logits become probabilities: softmax(logits / temperature), or its sigmoid with several labels an image."""

    temperature: float = 1.0
    fitted_on: str = "nothing"
    """The images it was fitted on, in words."""

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ModelError(f"The temperature must be a number greater than 0, got {self.temperature}.")


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Where a probability becomes a yes, of a model whose images may have several labels."""

    values: tuple[float, ...]
    """One for each class, 0 to 1; a probability at it is a yes."""
    fitted_on: str
    """The images they were chosen on and by what, in words."""

    def __post_init__(self) -> None:
        if not all(0 <= value <= 1 for value in self.values):
            raise ModelError(f"Every threshold must be from 0 to 1, got {', '.join(map(str, self.values))}.")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a model came from."""

    command: str
    created: str
    """Time of writing, UTC, ISO 8601."""
    data: dict[str, Any]
    """location, fingerprint, images in each split, and label_separator where images may have several labels."""
    versions: dict[str, str]
    parent: str | None = None
    """The fingerprint of the model this one was derived from, or the published weights it started from."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What model.json holds."""

    architecture: Architecture
    classes: tuple[str, ...]
    preprocess: Preprocess
    calibration: Calibration
    provenance: Provenance
    task: Literal["single_label", "multi_label"] = "single_label"
    """Whether an image has exactly one label, or any number of them."""
    thresholds: Thresholds | None = None
    """Of multi_label; None for single_label, which needs none."""
    figures: dict[str, Any] = field(default_factory=dict[str, Any])
    """Measured, by split: accuracy with its interval and the like."""
    weights_sha256: str = ""
    """Of weights.safetensors; filled in when the folder is written."""

    def __post_init__(self) -> None:
        self._check_classes()
        if (self.task == "multi_label") != (self.thresholds is not None):
            raise ModelError(
                f"A model of task {self.task!r} {'needs' if self.thresholds is None else 'has no'} thresholds."
            )
        if self.thresholds is not None and len(self.thresholds.values) != len(self.classes):
            raise ModelError(f"There are {len(self.thresholds.values)} thresholds for {len(self.classes)} classes.")

    def _check_classes(self) -> None:
        """Raise ModelError unless there is a name of its own for each of the network's logits."""
        if not self.classes:
            raise ModelError("A model needs at least 1 class, and there is none.")
        if len(self.classes) != self.architecture.num_classes:
            raise ModelError(f"There are {len(self.classes)} class names for {self.architecture.num_classes} logits.")
        if "" in self.classes:
            raise ModelError(f"The name of class {self.classes.index('') + 1} is empty.")
        [(name, count)] = Counter(self.classes).most_common(1)
        if count > 1:
            raise ModelError(f"{count} classes have the name {name!r}.")

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.task == "multi_label"

    def probabilities(self, logits: "Tensor") -> "Tensor":
        """(B, K) logits -> (B, K) calibrated probabilities; rows sum to 1 where an image has one label."""
        scaled = logits / self.calibration.temperature
        return scaled.sigmoid() if self.multi_label else scaled.softmax(1)

    def probabilities_of(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """The same of an array, in double precision, without torch."""
        scaled = logits.astype(np.float64) / self.calibration.temperature
        if self.multi_label:
            return logistic(scaled)
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    @property
    def fingerprint(self) -> str:
        """Names the model's answers: changes with the weights, classes, preprocessing or calibration alone."""
        parts = asdict(self)
        for name in ("norm", "narrowing", "width", "depth"):  # folders from before there was a choice keep their name
            if parts["architecture"][name] is None:
                del parts["architecture"][name]
        names = ["architecture", "classes", "preprocess", "calibration", "weights_sha256"]
        names += ["task", "thresholds"] if self.multi_label else []
        answers = {name: parts[name] for name in names}
        return hashlib.sha256(json.dumps(answers, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class ModelFolder:
    """A model on the disk."""

    path: Path
    spec: ModelSpec

    @classmethod
    def read(cls, path: str | Path) -> "ModelFolder":
        """Open a model folder.

        Raises ModelError when there is none, or when model.json is damaged or was changed by hand.
        """
        path = path_of(path, "A model folder")
        content = read_description(path)
        if "artefact" in content:
            raise ModelError(
                f"{str(path)!r} holds an exported model, which only predicts; name the model folder it was made from."
            )
        spec = read_part(path, content, "spec", ModelSpec)
        if content.get("fingerprint") != spec.fingerprint:
            raise ModelError(
                f"{str(path / 'model.json')!r} was changed after it was written: its architecture, classes, "
                "preprocessing or calibration no longer match its fingerprint."
            )
        return cls(path, spec)

    @classmethod
    def write(cls, path: Path, spec: ModelSpec, weights: "dict[str, Tensor]") -> "ModelFolder":
        """Write weights and model.json, in this order, each whole or not at all. Raises SightlineError."""
        try:
            (path / "model.json").unlink(missing_ok=True)  # never an old description beside new weights
        except OSError as error:
            raise SightlineError(f"Could not write {str(path / 'model.json')!r}: {error.strerror or error}.") from error
        save_weights(path / "weights.safetensors", weights)
        spec = replace(spec, weights_sha256=sha256(path / "weights.safetensors"))
        folder = cls(path, spec)
        folder._write_spec()
        return folder

    def with_figures(self, figures: dict[str, Any]) -> "ModelFolder":
        """The same model with these figures, stored."""
        folder = ModelFolder(self.path, replace(self.spec, figures=figures))
        folder._write_spec()
        return folder

    def model(self) -> "Classifier":
        """The network with its weights, in evaluation mode, on the CPU. Raises ModelError, MissingPackageError."""
        require_torch("A model folder's network")
        from safetensors.torch import load_file

        path = self.path / "weights.safetensors"
        try:
            if sha256(path) != self.spec.weights_sha256:
                raise ModelError(f"{str(path)!r} is not the file that model.json describes: its sha256 differs.")
            weights = load_file(path)
        except OSError as error:
            raise ModelError(f"{str(path)!r} can't be read: {error.strerror or error}.") from error
        except SafetensorError as error:
            raise ModelError(f"{str(path)!r} is damaged: {error}.") from error
        model = self.spec.architecture.build()
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            name = self.spec.architecture.name
            raise ModelError(f"{str(path)!r} does not hold the weights of {name!r}: the tensors differ.") from error
        return model.eval()

    def _write_spec(self) -> None:
        content = {"format": FORMAT, "fingerprint": self.spec.fingerprint, "spec": asdict(self.spec)}
        write_json(self.path / "model.json", content)


def logistic(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-values)), without overflow, and exact where it is next to 0."""
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1 + small)


def save_weights(path: Path, weights: "dict[str, Tensor]") -> None:
    """Write tensors as safetensors, whole or not at all. Raises SightlineError."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with whole_file(path) as aside:
        try:
            save_file(tensors, aside)
        except SafetensorError as error:  # it gives the operating system's error in words
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]), os.strerror(int(number[1]))) if number else error from error


def read_description(path: Path) -> dict[str, Any]:
    """What the model.json in the folder `path` holds. Raises ModelError when there is none that can be read."""
    file = path / "model.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelError(_no_model(path)) from error
    except OSError as error:
        raise ModelError(f"{str(file)!r} can't be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{str(file)!r} is damaged: {error}.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise ModelError(f"{str(path)!r} holds a model of format {found!r}; this version reads format {FORMAT}.")
    return content


def read_part(path: Path, content: dict[str, Any], key: str, kind: type[Part]) -> Part:
    """The part `key` of a description as the dataclass `kind`. Raises ModelError when it is damaged."""
    try:
        return TypeAdapter(kind).validate_json(json.dumps(content[key]), strict=True)
    except (KeyError, ValidationError, SightlineError, RecursionError) as error:
        raise ModelError(f"{str(path / 'model.json')!r} is damaged: {_reason(error, key)}.") from error


def sha256(path: Path) -> str:
    """Of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unbuildable(error: Exception) -> str:
    """Why torch couldn't make a network, without a full stop."""
    said = str(error).partition("\n")[0].removesuffix(".")
    if isinstance(error, MemoryError | OverflowError) or "allocate memory" in said or "overflow" in said:
        return "its weights are larger than any memory here"
    return said or type(error).__name__


def _reason(error: Exception, key: str) -> str:
    """Why the part `key` can't be read, without a full stop."""
    if isinstance(error, KeyError):
        return f"it has no {key!r}"
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, (key, *first['loc'])))}: {first['msg']}"
    return str(error).splitlines()[0].removesuffix(".")


def _no_model(path: Path) -> str:
    if not path.exists():
        return f"There is no model folder {str(path)!r}."
    if (path / "checkpoints").is_dir():
        return f"{str(path)!r} holds a run that hasn't ended; `sightline train DATA --out {path} --resume` ends it."
    return f"{str(path)!r} is no model folder: it has no model.json."
