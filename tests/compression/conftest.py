"""A small trained model, for tests that don't train one of their own; and compression without its timing."""

from collections.abc import Generator

import pytest
from making import make_photos

from sightline.model_folder import ModelFolder
from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.training import train


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    place = tmp_path_factory.mktemp("parent")
    settings = ["model.name=resnet20", "data.image_size=16", "data.resize=18", "data.num_workers=0", "epochs=1"]
    recipe = override(Recipe(), [*settings, "batch_size=12", "data.cache=false"])
    return train(recipe, make_photos(place / "photos"), out=place / "run", measure=())


@pytest.fixture(scope="module")
def untimed() -> Generator[None]:
    """Starting a process for each row's time is the bench's affair, and tested there."""
    with pytest.MonkeyPatch.context() as patch:
        time_no_rows(patch)
        yield


@pytest.fixture
def untimed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for one test."""
    time_no_rows(monkeypatch)


def time_no_rows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("sightline.compressing.judging.Judge.rows", lambda judge: judge._rows)
