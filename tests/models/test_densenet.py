from functools import partial

import pytest
import timm
import torch
import torchvision
from reference import assert_same_outputs, fill_randomly, renamed, with_reference
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import ModelError
from sightline.models import create_model
from sightline.models.densenet import ENTRY, DenseBlock, DenseNet, DenseNetConfig


def _images(size: int, batch_size: int = 2) -> Tensor:
    return torch.randn(batch_size, 3, size, size, generator=torch.Generator().manual_seed(1))


def _block() -> DenseBlock:
    block = DenseBlock(5, depth=3, growth=4, bottleneck=4)
    fill_randomly(block)
    return block.eval()


@pytest.mark.parametrize(
    "name", ["densenet121", *(pytest.param(f"densenet{n}", marks=pytest.mark.slow) for n in (161, 169, 201))]
)
def test_logits_features_and_maps_are_those_of_torchvision(name: str) -> None:
    ours, reference = with_reference(name, partial(torchvision.models.get_model, name), "torchvision")
    images, maps = _images(224, batch_size=1), []
    for index in range(4):
        block = reference.get_submodule(f"features.denseblock{index + 1}")
        block.register_forward_hook(lambda _module, _inputs, output: maps.append(output))
    with torch.no_grad():
        assert_same_outputs(ours(images), reference(images))
        torch.testing.assert_close(ours.feature_maps(images), maps, rtol=1e-5, atol=1e-4)
        last = F.relu(reference.get_submodule("features")(images)).mean((2, 3))
        torch.testing.assert_close(ours.forward_features(images), last, rtol=0, atol=1e-4)


def test_logits_and_features_are_those_of_timm() -> None:
    ours, reference = with_reference("densenet121", partial(timm.create_model, "densenet121"), "timm")
    images = _images(64)
    with torch.no_grad():
        assert_same_outputs(ours(images), reference(images))
        last = reference.forward_features(images).mean((2, 3))
        torch.testing.assert_close(ours.forward_features(images), last, rtol=0, atol=1e-4)


def test_the_names_in_the_files_that_torchvision_published_are_known() -> None:
    published = {
        "features.denseblock4.denselayer16.norm.1.running_mean": torch.zeros(1),
        "features.denseblock4.denselayer16.conv.2.weight": torch.zeros(1),
    }
    assert set(renamed(published, ENTRY.renamings["torchvision"])) == {
        "denseblock4.denselayer16.norm1.running_mean",
        "denseblock4.denselayer16.conv2.weight",
    }


def test_every_feature_map_stays_unchanged_in_the_block_s_output() -> None:
    block, x = _block(), torch.randn(2, 5, 8, 8)
    added: list[Tensor] = []
    for layer in block.children():
        layer.register_forward_hook(lambda _module, _inputs, output: added.append(output))
    output = block(x)
    assert torch.equal(output, torch.cat((x, *added), 1))
    assert all(new.std() > 0.1 for new in added)


def test_a_layer_reads_every_feature_map_before_it() -> None:
    block, x = _block(), torch.randn(2, 5, 8, 8)
    inputs: list[Tensor] = []
    block.get_submodule("denselayer3").register_forward_pre_hook(lambda _module, args: inputs.append(args[0]))
    block(x)
    assert inputs[0].shape[1] == 5 + 2 * 4
    for channel in range(inputs[0].shape[1]):
        changed = inputs[0].clone()
        changed[:, channel] += 1
        layer = block.get_submodule("denselayer3")
        assert not torch.equal(layer(changed), layer(inputs[0]))


def test_the_gradient_reaches_the_block_s_input_past_all_its_layers() -> None:
    block, x = _block(), torch.randn(2, 5, 8, 8, requires_grad=True)
    for layer in block.children():
        nn.init.zeros_(layer.get_submodule("conv2").get_parameter("weight"))
    block(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones_like(x))


def test_a_transition_halves_channels_and_resolution() -> None:
    model = create_model("densenet121")
    transition = model.get_submodule("transition1")
    assert transition(torch.randn(1, 256, 8, 8)).shape == (1, 128, 4, 4)


def test_images_of_32_pixels_take_the_cifar_stem_and_give_every_parameter_a_gradient() -> None:
    config, note = ENTRY.fit(DenseNetConfig(depths=(2, 2, 2, 2)), 32)
    model = DenseNet(config, 10, 3)
    assert "stride 1" in note
    assert [tuple(found.shape[2:]) for found in model.feature_maps(_images(32))] == [(32, 32), (16, 16), (8, 8), (4, 4)]
    F.cross_entropy(model(_images(32)), torch.tensor([1, 2])).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_an_image_that_the_transitions_would_halve_to_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match=r"halve the image 3 times.* 7 pixels\. Use at least 8"):
        create_model("densenet121", image_size=7)
