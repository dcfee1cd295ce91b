import pytest
import timm
import torch
import torchvision
from reference import fill_randomly, renamed
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.models import Classifier, create_model
from sightline.models.resnet import ENTRY, BasicBlock, PaddedShortcut, PlainBlock
from sightline.models.wide_resnet import WideBlock
from sightline.randomness import permutation, seed_torch


def _images(size: int) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def _loaded(name: str, reference: nn.Module, library: str) -> Classifier:
    model = create_model(name)
    model.load_state_dict(renamed(reference.state_dict(), ENTRY.renamings[library]))
    model.eval()
    return model


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "wide_resnet50_2"])
def test_logits_are_those_of_torchvision(name: str) -> None:
    reference = torchvision.models.get_model(name)
    fill_randomly(reference)
    with torch.no_grad():
        expected = reference.eval()(_images(64))
        assert expected.std() > 1
        torch.testing.assert_close(_loaded(name, reference, "torchvision")(_images(64)), expected, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet34", "resnet50"])
def test_logits_and_maps_are_those_of_timm(name: str) -> None:
    reference = timm.create_model(name)
    fill_randomly(reference)
    reference.eval()
    model = _loaded(name, reference, "timm")
    with torch.no_grad():
        expected = reference.forward_intermediates(_images(64), intermediates_only=True)[-4:]
        torch.testing.assert_close(model.feature_maps(_images(64)), expected, rtol=1e-6, atol=1e-4)
        torch.testing.assert_close(model(_images(64)), reference(_images(64)), rtol=1e-6, atol=1e-4)


def test_option_a_takes_every_second_pixel_and_adds_channels_of_zeros() -> None:
    images = _images(8)
    shortcut = PaddedShortcut(3, 5, 2)(images)
    assert torch.equal(shortcut[:, :3], images[:, :, ::2, ::2])
    assert shortcut.shape == (2, 5, 4, 4)
    assert not shortcut[:, 3:].any()


@pytest.mark.parametrize("layers", [20, 56])
def test_parameter_free_shortcuts_make_the_residual_network_as_large_as_its_plain_twin(layers: int) -> None:
    residual, plain = create_model(f"resnet{layers}"), create_model(f"plain{layers}")
    assert [p.shape for p in residual.parameters()] == [p.shape for p in plain.parameters()]
    assert any(isinstance(module, PaddedShortcut) for module in residual.modules())
    assert not any(isinstance(module, BasicBlock | PaddedShortcut) for module in plain.modules())


def test_a_block_whose_branch_is_zero_passes_its_input_on_and_a_plain_one_does_not() -> None:
    x = _images(8).abs()
    residual, plain = BasicBlock(3, 3, 1, nn.Identity()), PlainBlock(3, 3, 1)
    nn.init.zeros_(residual.bn2.weight)
    nn.init.zeros_(plain.bn2.weight)
    assert torch.equal(residual(x), x)
    assert not plain(x).any()


def test_a_bottleneck_halves_the_resolution_in_its_3x3_convolution() -> None:
    block = create_model("resnet50").get_submodule("layer2.0")
    strides = [module.stride for name, module in block.named_modules() if name in ("conv1", "conv2", "conv3")]
    assert strides == [(1, 1), (2, 2), (1, 1)]


def test_a_wide_block_leaves_the_shortcut_untouched_where_shapes_stay() -> None:
    x = _images(8)
    kept, widened = WideBlock(3, 3, 1), WideBlock(3, 6, 1)
    nn.init.zeros_(kept.conv2.weight)
    nn.init.zeros_(widened.conv2.weight)
    assert torch.equal(kept(x), x)
    assert torch.equal(widened(x), widened.shortcut(F.relu(widened.bn1(x))))


def test_images_of_32_pixels_take_the_cifar_stem() -> None:
    model = create_model("resnet18", num_classes=10, image_size=32)
    assert [stage.stride for stage in model.stages] == [1, 2, 4, 8]
    assert sum(p.numel() for p in model.parameters()) == 11_173_962  # what resnet18_cifar has


@pytest.mark.slow
def test_56_layers_learn_digits_with_shortcuts_and_hardly_without() -> None:
    """Section 4.1's degradation, in small: same parameters, same order of images, same learning rate."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images).float()[:, None] / 8 - 1
    targets = torch.from_numpy(digits.target)
    losses: dict[str, float] = {}
    for name in ("resnet56", "plain56"):
        seed_torch(0, name)
        model = create_model(name, in_channels=1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        seen: list[float] = []
        for batch in torch.from_numpy(permutation(len(images), 0)).split(64) * 3:
            loss = F.cross_entropy(model(images[batch]), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
        losses[name] = sum(seen[-28:]) / 28
    assert losses["resnet56"] < 0.5 * losses["plain56"], losses
