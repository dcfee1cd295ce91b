"""Engines: what computes a network's answers; one file an engine, binding ENTRY.

A model folder can be run by every engine here: torch reads its weights, the others read a conversion of them that is
made once and kept in the cache. An exported folder is run by its format's runtime, and by the engines that can read
that format too. An engine never computes below the precision that was asked for, which is float32 unless named.
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, cast

from sightline import catalog
from sightline.deps import require
from sightline.errors import SightlineError, check_whole, unknown_name
from sightline.formats import Opened, Runner, find_format, open_exported

if TYPE_CHECKING:  # the commands list the engines before anything else is imported
    import numpy as np
    from numpy.typing import NDArray

    from sightline.exported_folder import Artefact, ExportedFolder
    from sightline.model_folder import ModelFolder

Folder: TypeAlias = "ModelFolder | ExportedFolder"
Network: TypeAlias = "Callable[[NDArray[np.uint8]], NDArray[np.float32]]"
"""Pixels (B, 3, image_size, image_size), uint8, not normalised -> logits (B, K), not calibrated."""

MOST_THREADS = 1024
"""More than any processor has; a runtime asked for millions would try to make them."""

AUTO = "auto"
"""In place of an engine's name: whichever is fastest here, by trying (`measuring.choice`)."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How an engine is to compute."""

    precision: str = "float32"
    threads: int | None = None
    """Of the CPU; None leaves their number to the engine. torch's are the whole process's."""
    device: str = "auto"
    """auto, cpu, cuda or mps; all but torch's engines run on the CPU."""
    steady: bool = False
    """An image gets the same bits in any batch: an engine whose kernels on the CPU don't keep them computes a batch one
    image at a time. On a GPU nothing is promised."""

    def __post_init__(self) -> None:
        if self.threads is not None:
            check_threads(self.threads)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """The contract."""

    title: str
    extra: str
    """The extra of this package that installs what it needs."""
    modules: tuple[str, ...]
    """What must be importable."""
    precisions: tuple[str, ...]
    """What it can compute a model folder in; float32 comes first."""
    open: "Callable[[ModelFolder, Settings], Network]"
    """A model folder, ready to answer."""
    reads: "Mapping[str, Callable[[ExportedFolder, Settings], Runner]]" = field(default_factory=lambda: {})
    """Formats whose artefacts it can run, besides the runtime that the format itself names."""
    converts_to: str | None = None
    """The format that a model folder's network is converted to; None where torch's own weights are read."""
    gpu: bool = False
    """Whether it can compute on a GPU."""
    steady: bool = True
    """Whether an image's logits, computed on the CPU, have the same bits whatever batch the image comes in."""

    @property
    def missing(self) -> str | None:
        """The first package that isn't installed; None where it can run."""
        return next((name for name in self.modules if importlib.util.find_spec(name) is None), None)


def check_threads(threads: int) -> None:
    """Raise SightlineError unless that many can be asked for."""
    check_whole(threads=threads)
    if threads > MOST_THREADS:
        raise SightlineError(f"threads must be at most {MOST_THREADS:,}, got {threads:,}.")


def find_engine(name: str) -> Engine:
    """The engine of that name. Raises SightlineError with the nearest name when there is none."""
    known = catalog.names(__name__)
    if name not in known:
        raise SightlineError(unknown_name("engine", name, [*known, AUTO], listing="`sightline bench --help`"))
    return cast(Engine, catalog.entry(__name__, name))


def engines_for(folder: Folder) -> list[str]:
    """The engines that can run this folder, installed or not; the one it is run by unless asked otherwise first."""
    known = catalog.names(__name__)
    artefact = artefact_of(folder)
    if artefact is None:
        return ["torch", *(name for name in known if name != "torch")]
    form = artefact.format
    return [form, *(name for name in known if name != form and form in find_engine(name).reads)]


def default_precision(folder: Folder) -> str:
    """What a folder is computed in unless asked otherwise: float32, or what it was exported in."""
    artefact = artefact_of(folder)
    return "float32" if artefact is None else artefact.precision


def artefact_of(folder: Folder) -> "Artefact | None":
    """What was exported; None of a model folder."""
    from sightline.exported_folder import ExportedFolder

    return folder.artefact if isinstance(folder, ExportedFolder) else None


def check_engine(folder: Folder, name: str, settings: Settings) -> None:
    """Raise SightlineError where the engine can't run the folder in that precision, or on that device."""
    if name not in engines_for(folder):
        find_engine(name)  # an unknown name has its own sentence
        raise SightlineError(
            f"{str(folder.path)!r} can't be run by {name!r}. It can by {', '.join(engines_for(folder))}."
        )
    artefact = artefact_of(folder)
    if artefact is not None:
        if settings.precision != artefact.precision:
            had = find_format(artefact.format).tolerances
            raise SightlineError(
                f"{str(folder.path)!r} was exported in {artefact.precision}, and held to that. "
                + (
                    f"For {settings.precision} export the model again, by --precision {settings.precision}."
                    if settings.precision in had
                    else f"{artefact.format!r} can be exported in {' and '.join(had)} alone. Leave --precision out."
                )
            )
    elif settings.precision not in (precisions := find_engine(name).precisions):
        raise SightlineError(f"{name!r} has no precision {settings.precision!r}. It has: {', '.join(precisions)}.")
    gpu = artefact is None and find_engine(name).gpu
    if not gpu and settings.device not in ("auto", "cpu"):
        what = "An exported model" if artefact is not None else f"The engine {name!r}"
        raise SightlineError(f"{what} runs on the CPU, not on the device {settings.device!r}. Leave --device out.")


def open_network(folder: Folder, name: str, settings: Settings) -> Network:
    """The folder as that engine answers. Raises SightlineError, ModelError, MissingPackageError."""
    network = _open(folder, name, settings)
    return _one_at_a_time(network) if settings.steady and _changes_bits(folder, name, settings.device) else network


def _open(folder: Folder, name: str, settings: Settings) -> Network:
    from sightline.exported_folder import ExportedFolder

    check_engine(folder, name, settings)
    if isinstance(folder, ExportedFolder) and name == folder.artefact.format:
        return _answering(open_exported(folder, threads=settings.threads))
    engine = find_engine(name)
    for module in engine.modules:
        require(module, extra=engine.extra, purpose=f"The engine {name!r}")
    if not isinstance(folder, ExportedFolder):
        return engine.open(folder, settings)
    runner = engine.reads[folder.artefact.format](folder, settings)
    return _answering(Opened(runner, folder.spec.preprocess, folder.artefact.pixels))


def open_converted(folder: "ModelFolder", form: str, settings: Settings) -> Network:
    """A model folder as the runtime of the format `form` answers, from a conversion kept in the cache."""
    from sightline.conversion import converted

    artefact = converted(folder, form)
    runner = find_format(form).open(artefact.path, settings.precision, settings.threads)
    return _answering(Opened(runner, folder.spec.preprocess, artefact.artefact.pixels))


def _changes_bits(folder: Folder, name: str, device: str) -> bool:
    """Whether an image's bits depend on its batch, as far as is known; on the CPU."""
    if name not in catalog.names(__name__):
        return True  # a format's runtime that is no engine was not tried
    if find_engine(name).steady or artefact_of(folder) is not None:
        return not find_engine(name).steady
    from sightline.devices import pick_device

    return pick_device(device).type == "cpu"


def _one_at_a_time(network: Network) -> Network:
    import numpy as np

    return lambda pixels: np.concatenate([network(pixels[place : place + 1]) for place in range(len(pixels))])


def _answering(opened: Opened) -> Network:
    return lambda pixels: opened(pixels).logits
