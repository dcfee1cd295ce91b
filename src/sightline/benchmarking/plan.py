"""What is to be benched: the plan, the models, and which engine runs which in which precision."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from sightline import catalog
from sightline.conversion import converted
from sightline.deps import require
from sightline.devices import cores
from sightline.engines import Folder, Settings, artefact_of, check_engine, check_threads, engines_for, find_engine
from sightline.errors import SightlineError
from sightline.exported_folder import open_folder
from sightline.measuring.foreign import ENGINES, StatedInput, stated_input
from sightline.model_folder import ModelFolder

PRECISIONS = ("float32", "bf16")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every combination of these is timed, as far as the models and the packages that are installed allow."""

    engines: tuple[str, ...] = ()
    """All that can run a model where none is named."""
    precisions: tuple[str, ...] = ("float32",)
    """Of model folders; an exported model has its own."""
    batch_sizes: tuple[int, ...] = (1, 32)
    threads: tuple[int, ...] = ()
    """As many as this process may use cores where none is named."""
    seconds: float = 5.0
    """Of calls that count, for each combination."""
    rounds: int = 5
    """Turns that these are divided into."""
    device: str = "cpu"
    data: str | None = None
    """Images with known labels, or their test split, to measure accuracy on; the first are timed, else noise is."""
    num_images: int = 1000
    """How many of them at most, spread evenly."""

    def __post_init__(self) -> None:
        for name in self.engines:
            if name not in catalog.names("sightline.formats"):  # a format is run by its own runtime
                find_engine(name)
        for name in self.precisions:
            if name not in PRECISIONS:
                raise SightlineError(f"Unknown precision {name!r}. There are: {', '.join(PRECISIONS)}.")
        if any(value < 1 for value in self.batch_sizes):
            raise SightlineError(f"batch_sizes must be at least 1, got {min(self.batch_sizes)}.")
        for value in self.threads:
            check_threads(value)
        if not self.batch_sizes or not self.precisions:
            raise SightlineError("A bench needs a batch size and a precision at least.")
        if not 0 < self.seconds < math.inf or self.rounds < 1 or self.num_images < 1:
            raise SightlineError("seconds must be a number greater than 0, rounds and num_images at least 1.")

    @property
    def all_threads(self) -> tuple[int, ...]:
        """The numbers of threads."""
        return self.threads or (cores(),)


@dataclass(frozen=True, eq=False)
class Subject:
    """A model that is benched."""

    name: str
    """What it is called in the table, unlike any other."""
    path: Path
    folder: "Folder | None"
    """None of an ONNX file that Sightline didn't write."""
    stated: StatedInput | None = None
    """What such a file takes."""

    @property
    def is_model_folder(self) -> bool:
        """Whether it holds a network of torch's."""
        return isinstance(self.folder, ModelFolder)


@dataclass(frozen=True)
class Entry:
    """A model, the engine that runs it, and its precision."""

    subject: Subject
    engine: str
    precision: str

    def __str__(self) -> str:
        return f"{self.subject.name}, {self.engine}, {self.precision}"

    def device(self, plan: Plan) -> str:
        """Where it computes: the plan's device, where torch runs a model folder, else the CPU."""
        return plan.device if self.subject.is_model_folder and find_engine(self.engine).gpu else "cpu"

    def size(self) -> int:
        """Bytes of the files that this engine reads, on the disk."""
        folder = self.subject.folder
        if folder is None:
            return self.subject.path.stat().st_size
        if isinstance(folder, ModelFolder):
            form = find_engine(self.engine).converts_to
            if form is None:
                return (folder.path / "weights.safetensors").stat().st_size
            folder = converted(folder, form)
        return sum((folder.path / name).stat().st_size for name in folder.artefact.files)


def subjects(models: list[Path], against: list[Path]) -> list[Subject]:
    """The models, opened as far as to know what they are. Raises ModelError for what is none."""
    names = iter(_names([*models, *against]))
    ours = [Subject(next(names), path, open_folder(path)) for path in models]
    foreign = [Subject(next(names), path, None, stated_input(path)) for path in against]
    if not ours and not foreign:
        raise SightlineError("There is nothing to bench. Name a model folder, an exported one, or --against FILE.onnx.")
    places = [subject.path.resolve() for subject in (*ours, *foreign)]
    if len(set(places)) < len(places):
        raise SightlineError("A model is named twice. Name each once.")
    return ours + foreign


def _names(paths: list[Path]) -> list[str]:
    """Each path's last part, with as many of the parts before it as tell it from the others."""
    all_parts = [Path(os.path.abspath(path)).parts for path in paths]  # noqa: PTH100 - resolve() would follow links
    names: list[str] = []
    for number, parts in enumerate(all_parts):
        others = all_parts[:number] + all_parts[number + 1 :]
        unlike = (n for n in range(1, len(parts)) if all(other[-n:] != parts[-n:] for other in others))
        names.append(str(Path(*parts[-next(unlike, len(parts)) :])))
    return names


def entries(found: list[Subject], plan: Plan) -> tuple[list[Entry], list[str]]:
    """What is timed, the baseline first, and sentences about what can't be.

    The baseline is the first model in torch, eagerly and in float32, where it is a model folder, asked for or not.
    Raises SightlineError where an engine that was named can run none of the models, or isn't installed.
    """
    chosen: list[Entry] = []
    left_out: list[str] = []
    for subject in found:
        for engine in _engines(subject, plan):
            for precision in _precisions(subject, plan):
                reason = _unable(subject, engine, precision, plan)
                if reason is None:
                    chosen.append(Entry(subject, engine, precision))
                else:
                    left_out.append(reason)
    unused = [name for name in plan.engines if name not in {entry.engine for entry in chosen}]
    if unused:
        raise SightlineError(f"The engine {unused[0]!r} can run none of the models so. {' '.join(left_out)}".strip())
    baseline = Entry(found[0], "torch", "float32")
    if found[0].is_model_folder:
        chosen = [baseline, *(entry for entry in chosen if entry != baseline)]
    if not chosen:
        raise SightlineError(f"Nothing can be benched so. {' '.join(left_out)}")
    return chosen, list(dict.fromkeys(left_out))


def _engines(subject: Subject, plan: Plan) -> list[str]:
    """Those that can run it, of those that were named."""
    known = list(ENGINES) if subject.folder is None else engines_for(subject.folder)
    return [name for name in known if not plan.engines or name in plan.engines]


def _precisions(subject: Subject, plan: Plan) -> tuple[str, ...]:
    artefact = None if subject.folder is None else artefact_of(subject.folder)
    return plan.precisions if artefact is None else (artefact.precision,)


def _unable(subject: Subject, engine: str, precision: str, plan: Plan) -> str | None:
    """Why this can't be; None where it can. Raises MissingPackageError where the engine was asked for by name."""
    if engine in catalog.names("sightline.engines"):
        missing = find_engine(engine).missing
        if missing is not None and plan.engines:
            require(missing, extra=find_engine(engine).extra, purpose=f"The engine {engine!r}")
        if missing is not None:
            return f"{engine!r} is left out, since {missing} is not installed."
    if subject.folder is None:
        known = find_engine(engine).precisions
        return None if precision in known else f"{engine!r} has no precision {precision!r}. It has: {', '.join(known)}."
    try:
        check_engine(subject.folder, engine, Settings(precision=precision))
    except SightlineError as error:
        return str(error)
    return None
