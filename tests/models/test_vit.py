from functools import partial

import pytest
import timm
import torch
import torchvision
from reference import assert_same_outputs, fill_randomly, renamed, with_reference
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import ModelError
from sightline.models import create_model, fit_note
from sightline.models.vit import ENTRY, PatchEmbedding, ViT, ViTConfig


def _images(size: int, batch_size: int = 1) -> Tensor:
    return torch.randn(batch_size, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["vit_b_32", *(pytest.param(f"vit_{n}_16", marks=pytest.mark.slow) for n in "bl")])
def test_logits_features_and_maps_are_those_of_torchvision(name: str) -> None:
    ours, reference = with_reference(name, partial(torchvision.models.get_model, name), "torchvision")
    nn.init.normal_(reference.get_parameter("encoder.pos_embedding"))  # shared; a wrong order of patches must show
    images, outputs = _images(224), []
    for layer in reference.get_submodule("encoder.layers").children():
        layer.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    with torch.no_grad():
        assert_same_outputs(ours(images), reference(images))
        last = reference.get_submodule("encoder.ln")(outputs[-1])[:, 0]
        torch.testing.assert_close(ours.forward_features(images), last, rtol=0, atol=1e-4)
        quarters = outputs[len(outputs) // 4 - 1 :: len(outputs) // 4]
        for found, tokens in zip(ours.feature_maps(images), quarters, strict=True):
            torch.testing.assert_close(found.flatten(2).transpose(1, 2), tokens[:, 1:], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["vit_ti_16", *(pytest.param(f"vit_{n}_16", marks=pytest.mark.slow) for n in ("s", "b"))]
)
def test_logits_features_and_maps_are_those_of_timm(name: str) -> None:
    ours, reference = with_reference(name, partial(timm.create_model, ENTRY.variants[name].timm), "timm")
    nn.init.normal_(reference.get_parameter("pos_embed"))
    images = _images(224)
    with torch.no_grad():
        assert_same_outputs(ours(images), reference(images))
        last = reference.forward_features(images)[:, 0]
        torch.testing.assert_close(ours.forward_features(images), last, rtol=0, atol=1e-4)
        maps = reference.forward_intermediates(images, indices=[2, 5, 8, 11], intermediates_only=True)
        torch.testing.assert_close(ours.feature_maps(images), maps, rtol=1e-5, atol=1e-4)


def test_the_names_of_torchvision_s_older_files_are_known() -> None:
    published = {"encoder.layers.encoder_layer_11.mlp.linear_2.bias": torch.zeros(1)}
    assert set(renamed(published, ENTRY.renamings["torchvision"])) == {"blocks.11.mlp.fc2.bias"}


def test_embedding_patches_is_cutting_them_out_and_one_linear_map() -> None:
    embedding, images = PatchEmbedding(3, 10, 4), _images(16, batch_size=2)
    cut = F.unfold(images, kernel_size=4, stride=4).transpose(1, 2)  # (B, 16 patches, 3 * 4 * 4 values)
    linear = F.linear(cut, embedding.proj.weight.flatten(1), embedding.proj.bias)
    torch.testing.assert_close(embedding(images), linear)


def test_without_positions_the_order_of_the_patches_does_not_matter_and_with_them_it_does() -> None:
    model = ViT(ViTConfig(patch_size=4, width=32, depth=4, num_heads=2, image_size=8), 5, 3).eval()
    images = _images(8)
    swapped = images.roll(4, 3)  # two patches a row: rolling by one patch swaps them
    fill_randomly(model)
    nn.init.normal_(model.pos_embed)
    with torch.no_grad():
        assert (model(images) - model(swapped)).abs().max() > 1e-2
        model.pos_embed.zero_()
        torch.testing.assert_close(model(images), model(swapped))


def test_images_of_32_pixels_take_patches_of_4_and_give_every_parameter_a_gradient() -> None:
    config, note = ENTRY.fit(ViTConfig(width=32, depth=4, num_heads=2), 32)
    model = ViT(config, 10, 3)
    assert note == "8x8 patches of 4 pixels replace those of 16"
    assert [tuple(found.shape) for found in model.feature_maps(_images(32))] == [(1, 32, 8, 8)] * 4
    F.cross_entropy(model(_images(32, batch_size=2)), torch.tensor([1, 2])).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(("size", "patch_size"), [(384, 16), (112, 16), (96, 12), (64, 8), (28, 4)])
def test_patches_shrink_only_where_fewer_than_7_would_be_left_per_side(size: int, patch_size: int) -> None:
    config, _ = ENTRY.fit(ENTRY.variants["vit_ti_16"].config, size)
    assert (config.image_size, config.patch_size) == (size, patch_size)


def test_a_size_that_patches_do_not_tile_is_refused_with_the_sizes_nearby() -> None:
    with pytest.raises(ModelError, match=r"image of 225\. Use 224 or 240 pixels"):
        create_model("vit_b_16", image_size=225)
    with pytest.raises(ModelError, match="image of 97 pixels"):
        fit_note("vit_b_16", 97)


def test_an_image_of_another_size_than_the_network_s_is_refused() -> None:
    model = ViT(ViTConfig(patch_size=4, width=32, depth=4, num_heads=2, image_size=8), 5, 3)
    with pytest.raises(ModelError, match="8x8 pixels and got 8x12"):
        model(torch.randn(1, 3, 8, 12))


def test_dropout_and_stochastic_depth_reach_every_block() -> None:
    with torch.device("meta"):
        model = create_model("vit_ti_16", dropout=0.1, drop_path=0.2)
    rates = [block.get_submodule("drop_path").extra_repr() for block in model.get_submodule("blocks").children()]
    assert rates[0] == "rate=0.0"
    assert rates[-1] == "rate=0.2"
    assert sum(isinstance(module, nn.Dropout) and module.p == 0.1 for module in model.modules()) == 2 + 3 * 12
