import pytest
import torch
import torchvision
from reference import assert_same_outputs, head_input, random_images, with_reference
from torch import nn

from sightline.layers.local_response_norm import LocalResponseNorm
from sightline.models import create_model


def _torchvision() -> nn.Module:
    return torchvision.models.googlenet(init_weights=False)


@pytest.mark.parametrize(
    ("name", "num_params", "with_auxiliary"),
    [("googlenet", 6_624_904, 13_004_888), ("googlenet_2014", 6_998_552, 13_378_280)],
)
def test_parameter_counts_are_exact(name: str, num_params: int, with_auxiliary: int) -> None:
    with torch.device("meta"):
        model = create_model(name)
    assert sum(p.numel() for p in model.parameters()) == with_auxiliary
    model.drop_auxiliary()
    assert sum(p.numel() for p in model.parameters()) == num_params


@torch.no_grad()
def test_outputs_are_those_of_torchvision() -> None:
    ours, reference = with_reference("googlenet", _torchvision, "torchvision")
    images = random_images(1, 224)
    assert_same_outputs(ours(images), reference(images))
    assert_same_outputs(ours.forward_features(images), head_input(reference, images))


@torch.no_grad()
def test_auxiliary_outputs_are_those_of_torchvision_and_weigh_three_tenths() -> None:
    ours, reference = with_reference("googlenet", _torchvision, "torchvision")
    reference.training = True  # itself alone: its layers stay in evaluation, so nothing is drawn or averaged
    images = random_images(1, 224)
    (weight, logits), (weight1, auxiliary1), (weight2, auxiliary2) = ours.training_outputs(images)
    expected = reference(images)
    assert (weight, weight1, weight2) == (1.0, 0.3, 0.3)
    assert_same_outputs(logits, expected.logits)
    assert_same_outputs(auxiliary1, expected.aux_logits1)
    assert_same_outputs(auxiliary2, expected.aux_logits2)


@pytest.mark.parametrize("name", ["googlenet", "googlenet_2014"])
@torch.no_grad()
def test_outputs_don_t_change_when_auxiliary_classifiers_are_dropped(name: str) -> None:
    model = create_model(name, image_size=32, num_classes=10).eval()
    images = random_images(2, 32)
    before = model(images)
    model.drop_auxiliary()
    assert torch.equal(model(images), before)
    assert [weight for weight, _ in model.training_outputs(images)] == [1.0]
    assert not [name for name in model.state_dict() if name.startswith("auxiliary.")]


def test_modules_have_the_sizes_of_table_1() -> None:
    with torch.device("meta"):
        model = create_model("googlenet_2014")
        maps = model.feature_maps(torch.empty(1, 3, 224, 224))
    sizes = [(64, 112, 112), (192, 56, 56), (480, 28, 28), (832, 14, 14), (1024, 7, 7)]
    assert [tuple(found.shape[1:]) for found in maps] == sizes


def test_the_paper_s_form_begins_as_caffe_s_reference_model() -> None:
    torch.manual_seed(0)
    model = create_model("googlenet_2014", num_classes=200)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    for name, layer in layers.items():
        bound = (3 / layer.weight[0].numel()) ** 0.5  # variance_norm FAN_IN, the default of its filler `xavier`
        assert 0.95 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert torch.equal(layer.bias, torch.full_like(layer.bias, 0.0 if name.endswith("head") else 0.2))
    assert len([name for name in layers if name.endswith("head")]) == 3


def test_the_paper_s_form_has_5x5_kernels_and_response_normalisation_instead_of_batch_norm() -> None:
    with torch.device("meta"):
        modules = list(create_model("googlenet_2014").modules())
    assert sum(isinstance(m, nn.Conv2d) and m.kernel_size == (5, 5) for m in modules) == 9
    assert sum(isinstance(m, LocalResponseNorm) for m in modules) == 2
    assert not any(isinstance(m, nn.BatchNorm2d) for m in modules)
