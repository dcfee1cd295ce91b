import pytest
import timm
import torch
import torchvision
from reference import assert_same_outputs, fill_randomly, renamed
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import ModelError
from sightline.models import Classifier, create_model, fit_note
from sightline.models.swin import ENTRY, Block, PatchMerging, Swin, SwinConfig, WindowAttention

SMALL = SwinConfig(width=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), drop_path=0.0)


def _images(size: int, batch_size: int = 1) -> Tensor:
    return torch.randn(batch_size, 3, size, size, generator=torch.Generator().manual_seed(1))


def _with_weights_of(reference: nn.Module, name: str, library: str) -> Classifier:
    """Our network with the reference's random values. Its buffers are constants and stay as they are."""
    constants = {name: buffer.clone() for name, buffer in reference.named_buffers()}
    fill_randomly(reference)
    for buffer_name, buffer in reference.named_buffers():
        buffer.copy_(constants[buffer_name])
    reference.eval()
    ours = create_model(name)
    ours.load_state_dict(renamed(reference.state_dict(), ENTRY.renamings[library]))
    return ours.eval()


@pytest.mark.parametrize("name", ["swin_t", *(pytest.param(f"swin_{n}", marks=pytest.mark.slow) for n in "sb")])
def test_logits_features_and_maps_are_those_of_torchvision(name: str) -> None:
    reference = torchvision.models.get_model(name)
    ours = _with_weights_of(reference, name, "torchvision")
    images, maps = _images(224), []
    for index in (1, 3, 5, 7):
        stage = reference.get_submodule(f"features.{index}")
        stage.register_forward_hook(lambda _module, _inputs, output: maps.append(output.permute(0, 3, 1, 2)))
    with torch.no_grad():
        assert_same_outputs(ours(images), reference(images))
        torch.testing.assert_close(ours.feature_maps(images), maps, rtol=1e-5, atol=1e-4)
        last = reference.norm(maps[-1].permute(0, 2, 3, 1)).mean((1, 2))
        torch.testing.assert_close(ours.forward_features(images), last, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["swin_t", pytest.param("swin_l", marks=pytest.mark.slow)])
def test_logits_features_and_maps_are_those_of_timm(name: str) -> None:
    reference = timm.create_model(ENTRY.variants[name].timm)
    ours = _with_weights_of(reference, name, "timm")
    images = _images(224)
    with torch.no_grad():
        assert_same_outputs(ours(images), reference(images))
        last, maps = reference.forward_intermediates(images)
        torch.testing.assert_close(ours.feature_maps(images), maps, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(ours.forward_features(images), last.mean((1, 2)), rtol=0, atol=1e-4)


def test_layer_norms_divide_by_what_the_references_do() -> None:
    with torch.device("meta"):  # on random values 1e-6 would pass unseen
        networks = create_model("swin_t"), torchvision.models.swin_t(), timm.create_model(ENTRY.variants["swin_t"].timm)
    for network in networks:
        assert {module.eps for module in network.modules() if isinstance(module, nn.LayerNorm)} == {1e-5}


def _reached(shift: int, place: tuple[int, int]) -> Tensor:
    """Where an 8x8 grid with windows of 4 changes when one token does: (8, 8) booleans."""
    torch.manual_seed(0)
    attention = WindowAttention(8, num_heads=2, grid=8, window=4, shift=shift)
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(1, 8, 8, 8)
    changed = x.clone()
    changed[0, place[0], place[1]] = torch.randn(8)
    block = Block(8, attention, 0.0).eval()
    with torch.no_grad():
        return (block(changed) != block(x)).any(-1)[0]


def test_an_unshifted_block_keeps_what_it_knows_in_its_window() -> None:
    reached = _reached(shift=0, place=(3, 3))
    assert reached[:4, :4].all()
    assert not reached[4:].any()
    assert not reached[:, 4:].any()


def test_a_shifted_block_tells_the_neighbouring_windows() -> None:
    reached = _reached(shift=2, place=(3, 3))
    assert reached[2:6, 2:6].all()  # the shifted window lies across four of the unshifted ones
    assert reached.sum() == 16


def test_the_mask_keeps_opposite_edges_apart_although_the_shift_is_cyclic() -> None:
    reached = _reached(shift=2, place=(0, 0))
    assert reached[:2, :2].all()
    assert reached.sum() == 4


def test_two_blocks_together_reach_past_a_window() -> None:
    torch.manual_seed(0)
    model = Swin(ENTRY.fit(SMALL, 32)[0], 5, 3).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    tokens = torch.randn(1, 16, 16, 16)
    changed = tokens.clone()
    changed[0, 0, 0] = torch.randn(16)
    stage = model.get_submodule("stage1")
    with torch.no_grad():
        reached = (stage(changed) != stage(tokens)).any(-1)[0]
    assert reached[:6, :6].all()  # a window of 4, then those shifted by 2 that touch it
    assert reached.sum() == 36


def test_the_same_offset_between_two_tokens_has_the_same_bias() -> None:
    attention = WindowAttention(8, num_heads=1, grid=4, window=4, shift=0)
    index = attention.relative_position_index.unflatten(0, (4, 4)).unflatten(2, (4, 4))
    assert index[0, 0, 1, 2] == index[2, 1, 3, 3]
    assert index[0, 0, 1, 2] != index[1, 2, 0, 0]
    assert index.unique().numel() == 49


def test_merging_joins_the_four_neighbours() -> None:
    merging, x = PatchMerging(3), torch.randn(1, 4, 6, 3)
    joined = torch.cat([x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], -1)
    torch.testing.assert_close(merging(x), merging.reduction(merging.norm(joined)))


def test_images_of_32_pixels_take_smaller_patches_and_windows_and_give_every_parameter_a_gradient() -> None:
    config, note = ENTRY.fit(SMALL, 32)
    model = Swin(config, 10, 3)
    assert note == "patches of 2 pixels instead of 4 and windows of 4x4 tokens instead of 7x7"
    expected = [(1, 16, 16, 16), (1, 32, 8, 8), (1, 64, 4, 4), (1, 128, 2, 2)]
    assert [tuple(found.shape) for found in model.feature_maps(_images(32))] == expected
    F.cross_entropy(model(_images(32, batch_size=2)), torch.tensor([1, 2])).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(("size", "patch_size", "window"), [(448, 4, 7), (256, 4, 8), (128, 4, 8), (64, 2, 4)])
def test_windows_tile_every_stage_of_another_size(size: int, patch_size: int, window: int) -> None:
    config, _ = ENTRY.fit(ENTRY.variants["swin_t"].config, size)
    assert (config.image_size, config.patch_size, config.window) == (size, patch_size, window)
    with torch.device("meta"):
        assert Swin(config, 5, 3)(torch.empty(1, 3, size, size)).shape == (1, 5)


def test_a_size_that_cannot_be_merged_is_refused_with_the_sizes_nearby() -> None:
    with pytest.raises(ModelError, match=r"an image of 250 pixels can't be cut into\. Use 224 or 256 pixels"):
        create_model("swin_t", image_size=250)
    with pytest.raises(ModelError, match=r"an image of 100 pixels can't be cut into\. Use 96 or 112 pixels"):
        fit_note("swin_t", 100)


def test_an_image_of_another_size_than_the_network_s_is_refused() -> None:
    model = Swin(ENTRY.fit(SMALL, 32)[0], 5, 3)
    with pytest.raises(ModelError, match="32x32 pixels and got 32x64"):
        model(torch.randn(1, 3, 32, 64))


def test_masks_and_indices_are_built_and_not_stored() -> None:
    with torch.device("meta"):
        state = create_model("swin_t").state_dict()
    assert not [name for name in state if name.endswith(("mask", "relative_position_index"))]
