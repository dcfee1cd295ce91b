import copy
import re

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from sightline import surgery
from sightline.errors import ModelError
from sightline.layers.drop_path import DropPath
from sightline.models import create_model
from sightline.recipe_text import explain


def _images(batch_size: int = 2, channels: int = 3) -> Tensor:
    return torch.randn(batch_size, channels, 32, 32, generator=torch.Generator().manual_seed(1))


class _KeepsAFunction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.act_fn = F.relu

    def forward(self, x: Tensor) -> Tensor:
        return self.act_fn(self.linear(x))


class _CallsAFunction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.act(x))


# Activations


def test_the_settings_name_every_activation() -> None:
    words = next(" ".join(text.split()) for name, _, text in explain() if name == "model.activation")
    assert set(surgery.ACTIVATIONS) <= set(re.findall(r"\w+", words))


@pytest.mark.parametrize("name", surgery.ACTIVATIONS)
def test_each_activation_replaces_and_can_be_replaced(name: str) -> None:
    model = create_model("resnet20")
    assert surgery.replace_activation(model, name) == 19
    assert sum(isinstance(module, surgery.ACTIVATIONS[name]) for module in model.modules()) == 19
    assert surgery.replace_activation(model, "mish") == 19
    assert model(_images()).shape == (2, 10)


def test_in_place_stays_in_place_where_the_new_activation_knows_it() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True), nn.Linear(2, 2), nn.ReLU())
    surgery.replace_activation(model, "silu")
    assert [layer.inplace for layer in model if isinstance(layer, nn.SiLU)] == [True, False]
    surgery.replace_activation(model, "gelu")
    assert sum(isinstance(layer, nn.GELU) for layer in model) == 2


@pytest.mark.parametrize(
    "name", ["resnet18", "swin_tiny_patch4_window7_224", "efficientnet_b0", "mobilenetv3_small_100"]
)
def test_timm_networks_lose_every_old_activation_but_their_gates(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
        gates = [module for name, module in model.named_modules() if name.endswith(".gate")]
        count = surgery.replace_activation(model, "elu")
        assert count == sum(isinstance(module, nn.ELU) for module in model.modules()) > 0
        left = [m for m in model.modules() if isinstance(m, nn.ReLU | nn.GELU | nn.SiLU | nn.Hardswish)]
        assert left == []
        assert [module for name, module in model.named_modules() if name.endswith(".gate")] == gates
        assert model.eval()(torch.empty(1, 3, 224, 224)).shape == (1, 1000)


def test_a_layer_under_two_names_is_replaced_under_both() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    model.append(model[1])
    assert surgery.replace_activation(model, "tanh") == 2
    assert isinstance(model[1], nn.Tanh)
    assert isinstance(model[3], nn.Tanh)


def test_a_function_kept_in_an_attribute_is_replaced() -> None:
    model = _KeepsAFunction()
    assert surgery.replace_activation(model, "tanh") == 1
    x = torch.randn(3, 4)
    assert torch.equal(model(x), model.linear(x).tanh())


def test_torchs_own_transformer_layer_takes_the_new_activation() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.randn(1, 3, 8)
    with torch.no_grad():
        before = layer(x)
        assert surgery.replace_activation(layer, "tanh") == 1
        assert not torch.allclose(layer(x), before)


def test_a_function_called_inside_a_forward_is_refused_by_the_layers_name_and_nothing_is_changed() -> None:
    model = nn.Sequential(nn.ReLU(), _CallsAFunction())
    with pytest.raises(ModelError, match="_CallsAFunction calls its activation as a function"):
        surgery.replace_activation(model, "elu")
    assert isinstance(model[0], nn.ReLU)
    with torch.device("meta"), pytest.raises(ModelError, match="BasicConv2d"):
        surgery.replace_activation(torchvision.models.googlenet(aux_logits=False, init_weights=False), "elu")


def test_a_network_without_activation_and_an_unknown_name_are_refused() -> None:
    with pytest.raises(ModelError, match="no activation layer"):
        surgery.replace_activation(nn.Linear(2, 2), "relu")
    with pytest.raises(ModelError, match=r"Unknown activation 'gelo'\. Did you mean 'gelu'"):
        surgery.replace_activation(create_model("resnet20"), "gelo")


def test_a_new_activations_parameter_lies_where_the_networks_lie() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU()).double()
    surgery.replace_activation(model, "prelu")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}


# Dropout and stochastic depth


def test_dropout_is_set_on_layers_and_on_rates_of_functions() -> None:
    with torch.device("meta"):
        ours, theirs = create_model("wide_resnet16_8"), torchvision.models.densenet121()
    surgery.set_dropout(ours, 0.3)
    assert {module.p for module in ours.modules() if isinstance(module, nn.Dropout)} == {0.3}
    surgery.set_dropout(theirs, 0.3)
    assert theirs.features.denseblock1.denselayer1.drop_rate == 0.3
    with pytest.raises(ModelError, match="no dropout layer"):
        surgery.set_dropout(nn.Linear(2, 2), 0.3)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_rates_outside_0_to_1_are_refused(rate: float) -> None:
    with pytest.raises(ModelError, match=rf"model\.dropout must be at least 0 and below 1, got {rate}"):
        surgery.set_dropout(create_model("resnet20"), rate)
    with pytest.raises(ModelError, match=r"model\.drop_path must be"):
        surgery.set_drop_path(create_model("resnet20"), rate)


def test_stochastic_depth_climbs_from_the_first_block_to_the_last() -> None:
    model = create_model("resnet20")
    surgery.set_drop_path(model, 0.4)
    rates = [module.rate for module in model.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.05 * index for index in range(9)])


@pytest.mark.parametrize("rate_at_birth", [0.0, 0.1])
def test_timms_blocks_are_given_stochastic_depth_with_one_rate_for_both_branches(rate_at_birth: float) -> None:
    with torch.device("meta"):
        model = timm.create_model("vit_tiny_patch16_224", drop_path_rate=rate_at_birth)
    surgery.set_drop_path(model, 0.22)
    rates = [
        getattr(module, "rate", getattr(module, "drop_prob", None))
        for block in model.blocks
        for module in (block.drop_path1, block.drop_path2)
    ]
    assert rates == pytest.approx([0.02 * (index // 2) for index in range(24)])


def test_timms_residual_networks_keep_no_block_without_a_place_for_it() -> None:
    with torch.device("meta"):
        model = timm.create_model("resnet18")
    surgery.set_drop_path(model, 0.7)
    assert [block.drop_path.rate for block in (*model.layer1, *model.layer4)][-1] == pytest.approx(0.7)
    assert sum(isinstance(module, DropPath) for module in model.modules()) == 8


def test_torchvisions_stochastic_depth_is_set() -> None:
    with torch.device("meta"):
        model = torchvision.models.swin_t()
    surgery.set_drop_path(model, 0.5)
    rates = [module.p for module in model.modules() if type(module).__name__ == "StochasticDepth"]
    assert (rates[0], rates[-1]) == (0, 0.5)


def test_a_network_without_branches_has_no_stochastic_depth() -> None:
    with pytest.raises(ModelError, match="no residual branch"):
        surgery.set_drop_path(create_model("plain20"), 0.1)


# Head and first layer


def test_a_new_head_leaves_the_features_untouched() -> None:
    model = create_model("resnet20").eval()
    before = model.forward_features(_images())
    surgery.replace_head(model, 3)
    assert torch.equal(model.forward_features(_images()), before)
    assert model(_images()).shape == (2, 3)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "densenet121", "vgg11"])
def test_timms_heads_are_replaced(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name).eval()
        surgery.replace_head(model, 3)
        assert model(torch.empty(1, 3, 224, 224)).shape == (1, 3)


@pytest.mark.parametrize("name", ["resnet18", "vit_b_16", "vgg11", "swin_t"])
def test_torchvisions_heads_are_replaced(name: str) -> None:
    with torch.device("meta"):
        model = torchvision.models.get_model(name).eval()
        surgery.replace_head(model, 3)
        assert model(torch.empty(1, 3, 224, 224)).shape == (1, 3)


def test_a_head_that_is_missing_or_empty_is_refused() -> None:
    with pytest.raises(ModelError, match="no linear layer"):
        surgery.replace_head(nn.Conv2d(3, 3, 1), 2)
    with pytest.raises(ModelError, match="at least 1 class, got 0"):
        surgery.replace_head(create_model("resnet20"), 0)


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_averaged_kernels_answer_a_grey_image_as_before(channels: int) -> None:
    model = create_model("resnet20").eval()
    grey = _images(2, 1)
    before = model(grey.expand(-1, 3, -1, -1))
    surgery.change_input_channels(model, channels)
    torch.testing.assert_close(model(grey.expand(-1, channels, -1, -1)), before, rtol=1e-4, atol=1e-4)


def test_repeated_kernels_are_the_old_ones_in_turn() -> None:
    model = create_model("resnet20")
    old = model.conv1.weight.detach().clone()
    surgery.change_input_channels(model, 6, "repeat")
    assert torch.equal(model.conv1.weight, torch.cat((old, old), 1) / 2)
    assert model(_images(2, 6)).shape == (2, 10)


def test_timms_patches_take_other_channels() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=5).eval()
    surgery.change_input_channels(model, 1)
    assert model(_images(2, 1)).shape == (2, 5)


def test_a_network_without_a_first_convolution_is_refused() -> None:
    with pytest.raises(ModelError, match="does not begin with a plain convolution"):
        surgery.change_input_channels(nn.Linear(2, 2), 1)
    with pytest.raises(ModelError, match="at least 1 channel, got 0"):
        surgery.change_input_channels(create_model("resnet20"), 0)


# Freezing


def test_freezing_names_what_it_froze_and_nothing_else() -> None:
    model = create_model("resnet20")
    frozen = surgery.freeze_up_to(model, "layer2")
    assert frozen == [name for name, _ in model.named_parameters() if name.split(".")[0] in "conv1 bn1 layer1 layer2"]
    assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == frozen


def test_frozen_parameters_and_statistics_stay_while_the_rest_trains() -> None:
    model = create_model("resnet20")
    frozen = surgery.freeze_up_to(model, "layer2")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.train()  # what a training loop does after the freezing
    model(_images(4)).logsumexp(1).sum().backward()
    optimizer.step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(before[name], tensor)}
    parts = {name.split(".")[0] for name in changed}
    assert parts == {"layer3", "head"}
    assert not changed & set(frozen)


def test_a_copy_of_a_frozen_network_keeps_its_statistics_too() -> None:
    model = create_model("resnet20")
    surgery.freeze_up_to(model, "layer1")
    twin = copy.deepcopy(model).train()
    twin(_images(4))
    assert torch.equal(twin.bn1.running_mean, model.bn1.running_mean)
    assert not torch.equal(twin.layer2[0].bn1.running_mean, model.layer2[0].bn1.running_mean)


def test_timms_networks_freeze_up_to_any_submodule() -> None:
    with torch.device("meta"):
        model = timm.create_model("vit_tiny_patch16_224")
    frozen = surgery.freeze_up_to(model, "blocks.3")
    assert {"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.3.mlp.fc2.bias"} <= set(frozen)
    assert model.blocks[4].norm1.weight.requires_grad
    assert model.norm.weight.requires_grad


def test_an_unknown_stage_suggests_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"Unknown stage 'layer9'\. Did you mean 'layer3'"):
        surgery.freeze_up_to(create_model("resnet20"), "layer9")
