"""A step of a chain: a folder that appears whole, from a model folder that stays as it is, or is gone on with.

What lies in such a folder beside the model is `compression.json`: the step's settings and its figures.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sightline.command_line import command_line
from sightline.compressing.judging import Judge
from sightline.engines import Folder
from sightline.errors import ModelError
from sightline.exported_folder import ExportedFolder, open_folder
from sightline.files import whole_folder, write_json
from sightline.model_folder import ModelFolder

log = logging.getLogger("sightline")

DESCRIPTION = "compression.json"
"""In each step's folder: its settings, and its row of the table."""


class OtherWorkError(ModelError):
    """A folder holds something else than what is asked for."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is done to a model."""

    folder: Path
    """That the result is written to."""
    parent: ModelFolder
    settings: dict[str, Any]
    """Plain values: another result for any other. The method's own are under "method"."""
    apply: Callable[[Path], Folder]
    """The result, in a folder below the one that it is given, which may hold what an interrupted call left."""
    is_another: bool
    """Whether the result is another network, by a recipe of its own."""

    def made(self, judge: Judge) -> Folder:
        """The folder, with its row among the judge's; made now unless it is there.

        Raises OtherWorkError where it was made otherwise, and what `apply` raises; its work stays then.
        """
        if self.folder.exists():
            return self._kept(judge)
        work = self.folder.with_name(f".{self.folder.name}.work")
        begun = work / "settings.json"
        if not begun.exists() or not _is_same(json.loads(begun.read_text(encoding="utf-8")), self.settings):
            shutil.rmtree(work, ignore_errors=True)
            write_json(begun, self.settings)
        log.info(f"{self.folder.name}:")
        self._finish(self.apply(work), judge)
        shutil.rmtree(work)
        return open_folder(self.folder)

    def _kept(self, judge: Judge) -> Folder:
        kept = json.loads((self.folder / DESCRIPTION).read_text(encoding="utf-8"))
        if not _is_same(kept["settings"], self.settings):
            raise OtherWorkError(
                f"{str(self.folder)!r} was made with other settings or images. Name another folder by --out."
            )
        log.info(f"{self.folder.name} was done before and is kept.")
        judge.add(self.folder.name, open_folder(self.folder))
        return open_folder(self.folder)

    def _finish(self, found: Folder, judge: Judge) -> None:
        """Write the folder, with its figures on the images that the model was judged on.

        Those are the folder's own test split where the model's own images were used, or where the step trained. The
        recipe is the parent's, unless it is of another network.
        """
        trained = (found.path / "splits.json").exists()
        with whole_folder(self.folder) as aside:
            if isinstance(found, ExportedFolder):
                written = self._exported(found, aside)
            else:
                written = self._model(found, aside)
                _copy("recipe.yaml", found.path if self.is_another else self.parent.path, aside)
                _copy("splits.json", found.path if trained else self.parent.path, aside)
            figures = judge.add(self.folder.name, written, path=self.folder)
            written.with_figures({"test": figures} if judge.images.own or trained else {})
            write_json(aside / DESCRIPTION, {"settings": self.settings, "row": judge.newest()})

    def _model(self, found: ModelFolder, aside: Path) -> ModelFolder:
        shutil.copyfile(found.path / "weights.safetensors", aside / "weights.safetensors")
        provenance = replace(
            found.spec.provenance,
            command=command_line(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            parent=self.parent.spec.fingerprint,
        )
        return ModelFolder(aside, replace(found.spec, provenance=provenance, figures={}))

    def _exported(self, found: ExportedFolder, aside: Path) -> ExportedFolder:
        for file in found.artefact.files:
            shutil.copyfile(found.path / file, aside / file)
        model = os.path.relpath(self.parent.path.resolve(), self.folder.resolve())
        return ExportedFolder(aside, found.spec, replace(found.artefact, model=model))


def tidy(place: Path, *, made_before: bool) -> None:
    """Leave of a chain's folder what can be gone on with, and nothing else."""
    for work in place.glob(".*.work"):
        if not any(work.rglob("last.pt")):
            shutil.rmtree(work)
    if not made_before and not any(path.name != ".lock" for path in place.iterdir()):
        shutil.rmtree(place)


def _is_same(kept: dict[str, Any], settings: dict[str, Any]) -> bool:
    """Whether a step was done with these settings: of a file what lies there counts, and not how its path is spelled.

    What lies there stands beside the method's own settings, under the name of the one that says where.
    """

    def told(each: dict[str, Any]) -> dict[str, Any]:
        own = {name: value for name, value in each["method"].items() if name not in each}
        return {**each, "method": own}

    return told(kept) == told(settings)


def _copy(name: str, source: Path, target: Path) -> None:
    if (source / name).exists():
        shutil.copyfile(source / name, target / name)
