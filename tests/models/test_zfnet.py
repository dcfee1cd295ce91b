import pytest
import torch
from torch import nn

from sightline.errors import ModelError
from sightline.models import create_model


def test_the_parameter_count_is_that_of_figure_3() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in create_model("zfnet").parameters()) == 62_357_608


def test_layers_have_the_sizes_of_figure_3() -> None:
    with torch.device("meta"):
        model = create_model("zfnet")
        maps = model.feature_maps(torch.empty(1, 3, 224, 224))
        pooled = model.get_submodule("features")(torch.empty(1, 3, 224, 224))
    assert [tuple(found.shape[1:]) for found in maps] == [(96, 110, 110), (256, 26, 26), (256, 13, 13)]
    assert pooled.shape[1:] == (256, 6, 6)


def test_the_first_layer_is_7x7_with_stride_2_and_nothing_is_split() -> None:
    with torch.device("meta"):
        convolutions = [m for m in create_model("zfnet").modules() if isinstance(m, nn.Conv2d)]
    assert (convolutions[0].kernel_size, convolutions[0].stride) == ((7, 7), (2, 2))
    assert [m.groups for m in convolutions] == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("image_size", [12, 63, 64, 100, 127, 128, 161, 223])
def test_the_grid_of_the_fully_connected_layers_is_never_stretched(image_size: int) -> None:
    with torch.device("meta"):
        model = create_model("zfnet", image_size=image_size)
        pooled = model.get_submodule("features")(torch.empty(1, 3, image_size, image_size))
    assert model.get_submodule("top.fc6").in_features <= 256 * pooled.shape[2] * pooled.shape[3]


def test_images_too_small_to_halve_three_times_are_refused() -> None:
    with pytest.raises(
        ModelError, match=r"11 pixels are too small for ZFNet.*data\.resize, too, .* --image-size to at least 12"
    ):
        create_model("zfnet", image_size=11)
