import pytest
import torch
import torchvision
from reference import assert_same_outputs, head_input, random_images, with_reference
from torch import nn

from sightline.errors import ModelError
from sightline.models import create_model, fit_note

NUM_PARAMS = {
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
}


@pytest.mark.parametrize(("name", "num_params"), NUM_PARAMS.items())
def test_parameter_counts_are_exact(name: str, num_params: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in create_model(name).parameters()) == num_params


@pytest.mark.slow
@pytest.mark.parametrize("name", NUM_PARAMS)
@torch.no_grad()
def test_outputs_are_those_of_torchvision(name: str) -> None:
    ours, reference = with_reference(name, lambda: torchvision.models.get_model(name), "torchvision")
    images = random_images(1, 224)
    assert_same_outputs(ours(images), reference(images))
    assert_same_outputs(ours.forward_features(images), head_input(reference, images))


@pytest.mark.parametrize("name", NUM_PARAMS)
def test_tensors_become_those_of_torchvision_by_name_and_shape(name: str) -> None:
    # What the comparison of outputs needs, without its half gigabyte of weights.
    ours, _ = with_reference(name, lambda: torchvision.models.get_model(name), "torchvision", device="meta")
    assert {tensor.device.type for tensor in ours.state_dict().values()} == {"meta"}


@pytest.mark.parametrize("name", NUM_PARAMS)
def test_the_name_counts_the_layers_with_weights(name: str) -> None:
    with torch.device("meta"):
        layers = [m for m in create_model(name).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == int(name.removeprefix("vgg").removesuffix("_bn"))
    assert {m.kernel_size for m in layers if isinstance(m, nn.Conv2d)} == {(3, 3)}


def test_the_form_for_small_images_is_said_aloud() -> None:
    assert fit_note("vgg11", 32) == "the fully connected layers see a 1x1 map instead of 7x7"


def test_images_too_small_to_halve_five_times_are_refused() -> None:
    with pytest.raises(
        ModelError, match=r"31 pixels are too small for VGG.*data\.resize, too, .* --image-size to at least 32"
    ):
        create_model("vgg16", image_size=31)
