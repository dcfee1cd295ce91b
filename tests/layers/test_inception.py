import math

import pytest
import torch
from torch import nn

from sightline.errors import ModelError
from sightline.layers.inception import Branches, initialise_truncated_he
from sightline.models import create_model, fit_note

INCEPTIONS = ["googlenet", "googlenet_2014", "inception_v3", "inception_v4", "inception_resnet_v2"]


def test_branches_are_joined_along_the_channels_in_their_order() -> None:
    joined = Branches(nn.Identity(), nn.ReLU())(torch.full((1, 2, 3, 3), -1.0))
    assert joined[0, :, 0, 0].tolist() == [-1, -1, 0, 0]


def test_initial_values_have_the_variance_of_he_and_no_tails() -> None:
    layer = nn.Conv2d(64, 256, 3)
    initialise_truncated_he(layer)
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)
    assert layer.weight.abs().max() <= 2 * math.sqrt(1.3 * 2 / (64 * 9))
    assert layer.bias is not None
    assert not layer.bias.any()


@pytest.mark.parametrize("name", INCEPTIONS)
@pytest.mark.parametrize(("image_size", "side"), [(16, 1), (32, 2), (96, 6), (128, 2)])
def test_small_images_leave_a_map_worth_averaging(name: str, image_size: int, side: int) -> None:
    with torch.device("meta"):
        model = create_model(name, image_size=image_size)
        last = model.feature_maps(torch.empty(2, 3, image_size, image_size))[-1]
    assert min(last.shape[2:]) >= side


def test_the_small_form_is_said_aloud_and_ends_where_the_native_form_works() -> None:
    assert "stride 1 instead of 2" in fit_note("inception_v3", 127)
    assert fit_note("inception_v3", 128) == ""


@pytest.mark.parametrize("name", INCEPTIONS)
def test_images_too_small_for_either_form_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match=r"8 pixels are too small .*data\.resize, too, .* --image-size to at least 16"):
        create_model(name, image_size=8)
