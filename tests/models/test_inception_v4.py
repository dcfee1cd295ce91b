import pytest
import timm
import torch
from reference import assert_same_outputs, head_input, random_images, with_reference

from sightline.errors import ModelError
from sightline.models import create_model


def test_the_parameter_count_is_exact() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in create_model("inception_v4").parameters()) == 42_679_816


@torch.no_grad()
def test_outputs_are_those_of_timm() -> None:
    ours, reference = with_reference("inception_v4", lambda: timm.create_model("inception_v4"), "timm")
    images = random_images(1, 299)
    assert_same_outputs(ours(images), reference(images))
    assert_same_outputs(ours.forward_features(images), head_input(reference, images))


@torch.no_grad()
def test_maps_are_those_of_timm() -> None:
    ours, reference = with_reference("inception_v4", lambda: timm.create_model("inception_v4"), "timm")
    images = random_images(1, 139)
    _, expected = reference.forward_intermediates(images)
    for index in (0, 2, 3, 4):  # timm takes its second map one layer earlier
        assert_same_outputs(ours.feature_maps(images)[index], expected[index])


def test_maps_have_the_sizes_of_figure_9() -> None:
    with torch.device("meta"):
        maps = create_model("inception_v4").feature_maps(torch.empty(1, 3, 299, 299))
    assert [tuple(found.shape[1:]) for found in maps[2:]] == [(384, 35, 35), (1024, 17, 17), (1536, 8, 8)]


@pytest.mark.parametrize(("image_size", "least"), [(299, 75), (32, 16)])
def test_images_below_the_least_size_are_one_sentence(image_size: int, least: int) -> None:
    with torch.device("meta"):
        model = create_model("inception_v4", image_size=image_size).eval()
        model(torch.zeros(1, 3, least, least))
        with pytest.raises(ModelError, match=rf"at least {least}x{least} pixels and got {least - 1}x{least}"):
            model(torch.zeros(1, 3, least - 1, least))
