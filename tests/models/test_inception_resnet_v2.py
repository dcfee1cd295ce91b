import pytest
import timm
import torch
from reference import assert_same_outputs, head_input, random_images, with_reference

from sightline.errors import ModelError
from sightline.layers.drop_path import DropPath
from sightline.models import create_model
from sightline.models.inception_resnet_v2 import ResidualBlock


def test_the_parameter_count_is_exact() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in create_model("inception_resnet_v2").parameters()) == 55_843_464


@torch.no_grad()
def test_outputs_and_maps_are_those_of_timm() -> None:
    ours, reference = with_reference("inception_resnet_v2", lambda: timm.create_model("inception_resnet_v2"), "timm")
    images = random_images(1, 299)
    assert_same_outputs(ours(images), reference(images))
    assert_same_outputs(ours.forward_features(images), head_input(reference, images))
    images = random_images(1, 139)
    _, expected = reference.forward_intermediates(images)
    for found, map_ in zip(ours.feature_maps(images), expected, strict=True):
        assert_same_outputs(found, map_)


def test_maps_have_the_sizes_of_figure_15() -> None:
    with torch.device("meta"):
        maps = create_model("inception_resnet_v2").feature_maps(torch.empty(1, 3, 299, 299))
    assert [tuple(found.shape[1:]) for found in maps[2:]] == [(320, 35, 35), (1088, 17, 17), (1536, 8, 8)]


def test_residuals_are_scaled_down_in_every_block_but_the_last() -> None:
    with torch.device("meta"):
        blocks = [m for m in create_model("inception_resnet_v2").modules() if isinstance(m, ResidualBlock)]
    assert [block.scale for block in blocks] == [0.17] * 10 + [0.1] * 20 + [0.2] * 9 + [1.0]


def test_stochastic_depth_reaches_every_block() -> None:
    with torch.device("meta"):
        model = create_model("inception_resnet_v2", drop_path=0.39)
    rates = [m.rate for m in model.modules() if isinstance(m, DropPath)]
    assert len(rates) == 40
    assert rates[0] == 0
    assert rates[-1] == 0.39


@pytest.mark.parametrize(("image_size", "least"), [(299, 75), (32, 16)])
def test_images_below_the_least_size_are_one_sentence(image_size: int, least: int) -> None:
    with torch.device("meta"):
        model = create_model("inception_resnet_v2", image_size=image_size).eval()
        model(torch.zeros(1, 3, least, least))
        with pytest.raises(ModelError, match=rf"at least {least}x{least} pixels and got {least - 1}x{least}"):
            model(torch.zeros(1, 3, least - 1, least))
