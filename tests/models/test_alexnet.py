import pytest
import torch
import torchvision
from reference import assert_same_outputs, head_input, random_images, with_reference
from torch import nn

from sightline.errors import ModelError
from sightline.models import create_model, fit_note


@pytest.mark.parametrize(("name", "num_params"), [("alexnet", 61_100_840), ("alexnet_2012", 60_965_224)])
def test_parameter_counts_are_exact(name: str, num_params: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in create_model(name).parameters()) == num_params


@torch.no_grad()
def test_the_first_layer_of_2012_answers_as_if_pixels_were_on_the_scale_of_0_to_255() -> None:
    model = create_model("alexnet_2012", image_size=32, num_classes=10)
    stds = [m.weight.std().item() for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert stds == [pytest.approx(0.57, rel=0.05), *[pytest.approx(0.01, rel=0.05)] * 7]


@torch.no_grad()
def test_outputs_are_those_of_torchvision() -> None:
    ours, reference = with_reference("alexnet", torchvision.models.alexnet, "torchvision")
    images = random_images(1, 224)
    assert_same_outputs(ours(images), reference(images))
    assert_same_outputs(ours.forward_features(images), head_input(reference, images))


def test_the_network_of_2012_splits_convolutions_2_4_and_5_over_two_towers() -> None:
    with torch.device("meta"):
        model = create_model("alexnet_2012")
    groups = [module.groups for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert groups == [1, 2, 1, 2, 2]


def test_layers_have_the_sizes_of_figure_2() -> None:
    with torch.device("meta"):
        maps = create_model("alexnet_2012").feature_maps(torch.empty(1, 3, 224, 224))
    assert [tuple(found.shape[1:]) for found in maps] == [(96, 55, 55), (256, 27, 27), (256, 13, 13)]


def test_biases_of_2012_start_at_1_where_the_paper_says() -> None:
    model = create_model("alexnet_2012", image_size=32, num_classes=10)
    starts = [m.bias.unique().item() for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert starts == [0, 1, 0, 1, 1, 1, 1, 0]


def test_the_form_for_small_images_is_said_aloud() -> None:
    assert fit_note("alexnet", 32) == (
        "a 5x5 convolution of stride 1 replaces the 11x11 of stride 4, "
        "and the fully connected layers see a 3x3 map instead of 6x6"
    )


@pytest.mark.parametrize("image_size", [15, 63, 64, 100, 127, 128, 161, 255])
def test_the_grid_of_the_fully_connected_layers_is_never_stretched(image_size: int) -> None:
    with torch.device("meta"):
        model = create_model("alexnet", image_size=image_size)
        pooled = model.get_submodule("features")(torch.empty(1, 3, image_size, image_size))
    assert model.get_submodule("top.fc6").in_features <= 256 * pooled.shape[2] * pooled.shape[3]


def test_images_too_small_to_halve_three_times_are_refused() -> None:
    with pytest.raises(
        ModelError, match=r"14 pixels are too small for AlexNet.*data\.resize, too, .* --image-size to at least 15"
    ):
        create_model("alexnet", image_size=14)
