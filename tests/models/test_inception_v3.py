import pytest
import timm
import torch
import torchvision
from reference import assert_same_outputs, fill_randomly, head_input, random_images, renamed, with_reference
from torch import nn

from sightline.errors import ModelError
from sightline.models import create_model
from sightline.models.inception_v3 import ENTRY


def _torchvision() -> nn.Module:
    return torchvision.models.inception_v3(init_weights=False)


def test_parameter_counts_are_exact() -> None:
    with torch.device("meta"):
        model = create_model("inception_v3")
    assert sum(p.numel() for p in model.parameters()) == 27_161_264
    model.drop_auxiliary()
    assert sum(p.numel() for p in model.parameters()) == 23_834_568


@torch.no_grad()
def test_outputs_are_those_of_torchvision() -> None:
    ours, reference = with_reference("inception_v3", _torchvision, "torchvision")
    images = random_images(1, 299)
    assert_same_outputs(ours(images), reference(images))
    assert_same_outputs(ours.forward_features(images), head_input(reference, images))


@torch.no_grad()
def test_outputs_are_those_of_timm_whose_weights_lack_the_auxiliary_classifier() -> None:
    reference = timm.create_model("inception_v3")
    fill_randomly(reference)
    ours = create_model("inception_v3")
    ours.drop_auxiliary()
    ours.load_state_dict(renamed(reference.state_dict(), ENTRY.renamings["timm"]))
    images = random_images(1, 299)
    assert_same_outputs(ours.eval()(images), reference.eval()(images))


@torch.no_grad()
def test_the_auxiliary_output_is_that_of_torchvision_and_weighs_two_fifths() -> None:
    ours, reference = with_reference("inception_v3", _torchvision, "torchvision")
    reference.training = True  # itself alone: its layers stay in evaluation, so nothing is drawn or averaged
    images = random_images(1, 299)
    (weight, logits), (auxiliary_weight, auxiliary) = ours.training_outputs(images)
    expected = reference(images)
    assert (weight, auxiliary_weight) == (1.0, 0.4)
    assert_same_outputs(logits, expected.logits)
    assert_same_outputs(auxiliary, expected.aux_logits)


def test_maps_have_the_sizes_of_table_1() -> None:
    with torch.device("meta"):
        maps = create_model("inception_v3").feature_maps(torch.empty(1, 3, 299, 299))
    sizes = [(64, 147, 147), (192, 71, 71), (288, 35, 35), (768, 17, 17), (2048, 8, 8)]
    assert [tuple(found.shape[1:]) for found in maps] == sizes


@pytest.mark.parametrize("image_size", [16, 32, 100, 128, 224, 330])
def test_the_auxiliary_classifier_takes_every_size(image_size: int) -> None:
    with torch.device("meta"):
        model = create_model("inception_v3", image_size=image_size)
        outputs = model.training_outputs(torch.empty(2, 3, image_size, image_size))
    assert [tuple(logits.shape) for _, logits in outputs] == [(2, 1000), (2, 1000)]


def test_initial_values_are_wide_but_in_the_auxiliary_classifier() -> None:
    model = create_model("inception_v3")
    found = {name: model.get_parameter(f"{name}.weight").std().item() for name in ("head", "auxiliary.0.head")}
    assert found == {"head": pytest.approx(0.1, rel=0.02), "auxiliary.0.head": pytest.approx(0.001, rel=0.02)}


@pytest.mark.parametrize(("image_size", "least"), [(299, 75), (32, 16)])
def test_images_below_the_least_size_are_one_sentence(image_size: int, least: int) -> None:
    with torch.device("meta"):
        model = create_model("inception_v3", image_size=image_size).eval()
        model(torch.zeros(1, 3, least, least))
        with pytest.raises(ModelError, match=rf"at least {least}x{least} pixels and got {least - 1}x{least}"):
            model(torch.zeros(1, 3, least - 1, least))
