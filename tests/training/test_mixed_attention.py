"""Attention with a learned bias by products in bfloat16: the answers and gradients of torch's own, but for rounding."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import RecipeError
from sightline.model_folder import Architecture
from sightline.models import Classifier, create_model
from sightline.recipe import TrainConfig
from sightline.training.fastest import candidates
from sightline.training.mixed_attention import attention, mix_attention

CPU = torch.device("cpu")


def swin() -> Classifier:
    """Of 32 pixels: two stages whose windows shift, which have masks, and two of one window each."""
    torch.manual_seed(0)
    return create_model("swin_t", num_classes=10, image_size=32).eval()


def gradients(model: Classifier, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(images)
    logits.float().square().sum().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return logits.float().detach(), {name: grad.clone() for name, grad in found.items()}


def test_it_is_torchs_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 4, generator=generator) for _ in range(3))
    bias = torch.randn(1, 3, 5, 5, generator=generator)
    for scale in (None, 0.3):
        expected = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)
        torch.testing.assert_close(attention(query, key, value, bias, scale), expected)


def test_a_swin_answers_and_learns_as_before_but_for_rounding() -> None:
    ours, theirs = swin(), swin()
    names = list(ours.state_dict())
    assert mix_attention(ours) == 12
    assert mix_attention(ours) == 12  # once more changes nothing
    assert list(ours.state_dict()) == names
    assert sum(type(module).__name__ == "MixedWindowAttention" for module in ours.modules()) == 12
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    (answers, slopes), (expected, wanted) = gradients(ours, images), gradients(theirs, images)
    assert not torch.equal(answers, expected)
    torch.testing.assert_close(answers, expected, rtol=0.05, atol=0.02)
    assert slopes.keys() == wanted.keys()
    for name, slope in slopes.items():
        assert F.cosine_similarity(slope.flatten(), wanted[name].flatten(), dim=0) > 0.99, name


def test_a_swin_of_timm_which_names_a_dropout_of_zero_learns_so_too() -> None:
    def network() -> Classifier:
        torch.manual_seed(0)
        model = create_model("timm/swin_tiny_patch4_window7_224", num_classes=10, image_size=64)
        for module in model.modules():
            if "fused_attn" in vars(module):
                vars(module)["fused_attn"] = True  # timm's own choice for Swin is to be asked for by $TIMM_FUSED_ATTN
        return model.eval()

    ours, theirs = network(), network()
    assert mix_attention(ours) == 12
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    (answers, slopes), (expected, wanted) = gradients(ours, images), gradients(theirs, images)
    assert not torch.equal(answers, expected)
    torch.testing.assert_close(answers, expected, rtol=0.05, atol=0.02)
    for name, slope in slopes.items():
        assert F.cosine_similarity(slope.flatten(), wanted[name].flatten(), dim=0) > 0.99, name


def test_a_compiled_layer_computes_so_too() -> None:
    layer, plain = (swin().get_submodule("stage1.1.attn") for _ in range(2))
    assert mix_attention(layer) == 1
    tokens = torch.randn(2, 16, 16, 96, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = layer(tokens)
        assert torch.equal(torch.compile(layer, backend="eager")(tokens), mixed)
        assert not torch.equal(plain(tokens), mixed)


def test_a_bias_that_is_not_learned_and_float32_go_the_way_of_torch() -> None:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    ours, theirs = swin(), swin()
    mix_attention(ours)
    assert torch.equal(ours(images), theirs(images))
    for model in (ours, theirs):
        model.requires_grad_(requires_grad=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ours(images), theirs(images))


def test_it_is_a_choice_only_where_a_bias_is_learned_and_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.training.fastest.has_attention", lambda *_: False)  # which would take its place
    monkeypatch.setattr("sightline.training.fastest.emulates_bf16", lambda _: False)

    def mixed(name: str) -> set[tuple[str, bool]]:
        network = Architecture(name=name, num_classes=10, image_size=32)
        return {(candidate.precision, candidate.mixed_attention) for candidate in candidates(network, CPU)}

    assert mixed("swin_t") == {("float32", False), ("bf16", False), ("bf16", True)}
    assert mixed("resnet20") == {("float32", False), ("bf16", False)}
    with pytest.raises(RecipeError, match=r"train\.mixed_attention is of bf16"):
        TrainConfig(mixed_attention=True)


def test_layers_without_a_bias_are_left_alone() -> None:
    assert mix_attention(nn.Sequential(nn.MultiheadAttention(8, 2), nn.Linear(8, 8))) == 0
    assert mix_attention(create_model("vit_ti_16", num_classes=10, image_size=32)) == 0
