from pathlib import Path

import pytest
import torch
from making import make_photos
from safetensors.torch import load_file, save_file

from sightline.errors import ModelError, RecipeError
from sightline.models import create_model
from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.training import fast_dev_run, train

SETTINGS = ["model.name=resnet20", "data.image_size=32", "data.resize=32", "data.num_workers=0", "epochs=1"]


def test_a_run_goes_on_from_a_model_folder_and_names_it_as_its_parent(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos")
    first = train(override(Recipe(), SETTINGS), photos, out=tmp_path / "first")
    settings = [*SETTINGS, f"model.pretrained={first.path}", "optim.lr=1e-12", "train.select=last"]
    second = train(override(Recipe(), settings), photos, out=tmp_path / "second")
    assert second.spec.provenance.parent == first.spec.fingerprint
    before, after = load_file(first.path / "weights.safetensors"), load_file(second.path / "weights.safetensors")
    assert torch.allclose(before["conv1.weight"], after["conv1.weight"], atol=1e-6)


def test_weights_of_another_number_of_classes_keep_all_but_the_head_and_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_file(create_model("resnet20", num_classes=10).state_dict(), tmp_path / "weights.safetensors")
    settings = [*SETTINGS, f"model.pretrained={tmp_path / 'weights.safetensors'}"]
    with caplog.at_level("INFO", logger="sightline"):
        train(override(Recipe(), settings), make_photos(tmp_path / "photos"), out=tmp_path / "run")
    assert any("head" in message for message in caplog.messages)


@pytest.mark.parametrize("name", ["none.pth", "~no-such-user"])
def test_weights_that_do_not_exist_are_found_before_any_image_is_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"There are no weights at '{name}'"):
        train(override(Recipe(), [*SETTINGS, f"model.pretrained={name}"]), tmp_path / "photos", out=tmp_path / "run")


@pytest.mark.parametrize("other", ["data.mean=[0, 0, 0]", "data.std=[1, 1, 1]"])
@pytest.mark.parametrize("source", ["torchvision:IMAGENET1K_V1", "timm:a1_in1k"])
def test_published_weights_with_another_preprocessing_are_refused_with_the_settings_they_need(
    source: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.pretrained.fetch", lambda published: published.path)
    settings = ["model.name=resnet18", f"model.pretrained={source}", other]
    with pytest.raises(RecipeError, match=r"Pass --set 'data\.mean=\[0\.485, 0\.456, 0\.406\]' --set 'data\.std="):
        train(override(Recipe(), settings), tmp_path / "photos", out=tmp_path / "run")


@pytest.mark.parametrize(("side", "told"), [(96, True), (32, False)])
def test_few_photos_and_random_weights_are_told_of_published_ones(
    side: int, told: bool, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = override(Recipe(), ["model.name=resnet20", f"data.image_size={side}", "data.num_workers=0"])
    with caplog.at_level("INFO", logger="sightline"):
        fast_dev_run(recipe, photos)
    assert any("--recipe fine_tune" in message for message in caplog.messages) == told
