from pathlib import Path

import pytest
import torch
from test_every_augmentation import batch
from torchvision.transforms.v2 import functional as reference

from sightline.augmentations import augment
from sightline.augmentations.resize_progressively import ResizeProgressively
from sightline.errors import RecipeError
from sightline.randomness import Draws
from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.recipes import find_recipe
from sightline.training import fast_dev_run, train
from sightline.training.progressive import check_growth


def test_images_grow_evenly_in_whole_steps_to_their_full_size() -> None:
    growth = ResizeProgressively(start=128, epochs=4, step=8)
    assert [growth.size(epoch, 224) for epoch in range(6)] == [128, 152, 176, 200, 224, 224]
    assert growth.sizes(224) == [128, 152, 176, 200]


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_an_epoch_s_images_are_torchvision_s_resize_of_the_window_that_evaluation_sees(epoch: int) -> None:
    before = batch(3, side=16)
    growth = ResizeProgressively(start=6, epochs=2, step=1)
    after = augment(before, [growth], Draws(0, epoch, before.samples), 12)
    window = before.images[:, :, 2:14, 2:14]
    size = growth.size(epoch, 12)
    assert torch.equal(after.images, reference.resize(window, [size, size], antialias=True))


@pytest.mark.parametrize("name", ["vit_ti_16", "swin_t"])
def test_a_network_of_one_size_is_refused_before_the_run(name: str, photos: Path, tmp_path: Path) -> None:
    recipe = override(Recipe(), [f"model.name={name}", "augment=[{resize_progressively: {start: 112}}]"])
    with pytest.raises(
        RecipeError, match=rf"'{name}' for images of 224 pixels can't be trained on images of 112, as aug"
    ):
        train(recipe, photos, out=tmp_path / "run")
    assert not (tmp_path / "run" / "recipe.yaml").exists()


@pytest.mark.parametrize(
    ("name", "image_size", "way_out"),
    [
        ("alexnet", 224, "Raise its start to 63, or remove it."),
        ("vgg11", 32, "Remove resize_progressively: the network takes no smaller images."),
    ],
)
def test_the_pools_of_a_network_may_need_larger_images(name: str, image_size: int, way_out: str) -> None:
    from sightline.models import create_model

    growth = "augment=[{resize_progressively: {start: 24, epochs: 3, step: 4}}]"
    recipe = override(Recipe(), [f"model.name={name}", f"data.image_size={image_size}", growth])
    with torch.device("meta"):
        model = create_model(name, num_classes=2, image_size=image_size)
    with pytest.raises(RecipeError, match="can't be trained on images of 24") as error:
        check_growth(recipe, model)
    assert str(error.value).endswith(way_out)


def test_a_dev_run_refuses_what_the_run_would_although_it_grows_no_images(photos: Path) -> None:
    with pytest.raises(RecipeError, match="can't be trained on images of 24, as augment.resize_progressively"):
        fast_dev_run(override(find_recipe("cifar10_speed"), ["model.name=vgg11"]), photos)
