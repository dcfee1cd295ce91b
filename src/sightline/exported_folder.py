"""An exported model is a folder too: model.json, with the model's whole description, and the artefact's files.

`model.json` carries a fingerprint over everything in it, and the sha256 of each file: what was changed by hand, cut
short or swapped is refused. Reading it needs no torch.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sightline.errors import ModelError, given, path_of
from sightline.files import write_json
from sightline.model_folder import FORMAT, ModelFolder, ModelSpec, read_description, read_part, sha256


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """What was exported, and how close its answers are to the model's."""

    format: str
    """The format's name: the file in `formats/` that opens it."""
    precision: str
    """In which it computes: float32 or bf16."""
    pixels: bool
    """True: uint8 (B, H, W, 3) in, calibrated probabilities out. False: normalised (B, 3, H, W) in, logits out."""
    files: dict[str, str]
    """The sha256 of each of its files, by name."""
    details: dict[str, Any]
    """What the format says of itself, its opset for one."""
    parent: str
    """The fingerprint of the model that was exported; "" of a foreign file."""
    command: str
    created: str
    """Time of writing, UTC, ISO 8601."""
    versions: dict[str, str]
    parity: dict[str, Any]
    """The figures of the comparison with the model, and the tolerance they were held to; empty of a foreign file."""
    model: str = ""
    """Where the model folder was, seen from this one: it knows which images are its own. "" of a foreign file."""


@dataclass(frozen=True)
class ExportedFolder:
    """An exported model on the disk."""

    path: Path
    spec: ModelSpec
    artefact: Artefact

    @classmethod
    def read(cls, path: str | Path) -> "ExportedFolder":
        """Open an exported folder and compare its files with their hashes.

        Raises ModelError when there is none, when model.json is damaged or was changed by hand, or when a file is
        missing, cut short or another than was written.
        """
        path = path_of(path, "An exported folder")
        content = read_description(path)
        if "artefact" not in content:
            raise ModelError(f"{str(path)!r} is a model folder, not an exported one.")
        folder = cls(path, read_part(path, content, "spec", ModelSpec), read_part(path, content, "artefact", Artefact))
        if content.get("fingerprint") != _fingerprint(content):
            raise ModelError(
                f"{str(path / 'model.json')!r} was changed after it was written: it no longer matches its "
                "fingerprint. Export the model again."
            )
        folder._check_files()
        return folder

    def with_figures(self, figures: dict[str, Any]) -> "ExportedFolder":
        """The same export with these figures, stored."""
        folder = ExportedFolder(self.path, replace(self.spec, figures=figures), self.artefact)
        folder.write()
        return folder

    def model_folder(self) -> ModelFolder:
        """The model it was exported from, where that still is. Raises ModelError."""
        path = self.path / self.artefact.model
        if not self.artefact.model:
            raise ModelError(f"{str(self.path)!r} was exported from no model that is known; name the DATA to use.")
        try:
            folder = ModelFolder.read(path)
        except ModelError as error:
            raise ModelError(
                f"{str(self.path)!r} was exported from the model in {str(path)!r}, which isn't there any more; "
                "name the DATA to use."
            ) from error
        if folder.spec.fingerprint != self.artefact.parent:
            raise ModelError(
                f"The model in {str(path)!r} is another than {str(self.path)!r} was exported from. Export it again."
            )
        return folder

    def write(self) -> None:
        """Write model.json, after the artefact's files. Raises SightlineError."""
        content: dict[str, Any] = {"format": FORMAT, "spec": asdict(self.spec), "artefact": asdict(self.artefact)}
        plain = json.loads(json.dumps(content))  # as it will be read: tuples are lists
        write_json(self.path / "model.json", {**content, "fingerprint": _fingerprint(plain)})

    def _check_files(self) -> None:
        for name, expected in self.artefact.files.items():
            file = self.path / name
            try:
                found = sha256(file)
            except OSError as error:
                raise ModelError(f"{str(file)!r} can't be read: {error.strerror or error}.") from error
            if found != expected:
                raise ModelError(
                    f"{str(file)!r} is not the file that model.json describes: its sha256 differs. "
                    "Copy it again, or export the model again."
                )


def open_folder(path: str | Path) -> ModelFolder | ExportedFolder:
    """Whichever of the two is there. Raises ModelError."""
    exported = "artefact" in read_description(path_of(path, "A model folder"))
    return ExportedFolder.read(path) if exported else ModelFolder.read(path)


def check_folder(folder: object) -> None:
    """Raise ModelError for what is no folder that was read, such as its path."""
    if not isinstance(folder, ModelFolder | ExportedFolder):
        raise ModelError(f"Expected is a folder that was read, as by ModelFolder.read(path), got {given(folder)}.")


def _fingerprint(content: dict[str, Any]) -> str:
    """Of everything in model.json but itself."""
    signed = {name: part for name, part in content.items() if name != "fingerprint"}
    return hashlib.sha256(json.dumps(signed, sort_keys=True).encode()).hexdigest()
