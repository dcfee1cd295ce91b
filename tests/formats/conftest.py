"""Each export is made once for all tests here; their group keeps them in one process."""

from pathlib import Path

import pytest
from filled import PIXELS, Exports, make_filled
from making import make_photos

from sightline.exported_folder import ExportedFolder
from sightline.exporting import export
from sightline.model_folder import ModelFolder


@pytest.fixture(scope="session")
def few_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("data") / "photos", count=5)


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return make_filled(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="session")
def exports(filled: ModelFolder, few_photos: Path) -> Exports:
    made: dict[tuple[str, bool, str], ExportedFolder] = {}

    def exported(name: str, *, pixels: bool | None = None, precision: str = "float32") -> ExportedFolder:
        chosen = PIXELS.get(name, False) if pixels is None else pixels
        key = (name, chosen, precision)
        if key not in made:
            made[key] = export(filled, name, pixels=chosen, precision=precision, data=few_photos)
        return made[key]

    return exported
