import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from sightline import summary
from sightline.checkpointing import checkpoint_activations
from sightline.errors import ModelError
from sightline.models import create_model
from sightline.models.resnet import BasicBlock
from sightline.surgery import freeze_up_to


def _trained(model: nn.Module) -> dict[str, Tensor]:
    """Gradients and statistics after one pass with dropout and stochastic depth."""
    torch.manual_seed(5)
    images = torch.randn(4, 3, 32, 32)
    model.train()
    model(images).logsumexp(1).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None} | dict(model.named_buffers())


def _assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_gradients_statistics_and_random_draws_are_those_without_it() -> None:
    model = create_model("wide_resnet16_8", dropout=0.3, drop_path=0.3)
    checkpointed = copy.deepcopy(model)
    assert checkpoint_activations(checkpointed) == 6
    _assert_same(_trained(checkpointed), _trained(model))


def test_a_copy_is_checkpointed_by_itself() -> None:
    model = create_model("resnet20")
    plain = copy.deepcopy(model)
    checkpoint_activations(model)
    twin = copy.deepcopy(model)
    del model
    _assert_same(_trained(twin), _trained(plain))


def test_frozen_batch_norms_stay_frozen() -> None:
    model = create_model("resnet20")
    freeze_up_to(model, "layer1")
    checkpointed = copy.deepcopy(model)
    checkpoint_activations(checkpointed)
    _assert_same(_trained(checkpointed), _trained(model))


@pytest.mark.parametrize("name", ["resnet18", "vgg16", "densenet121", "vit_ti_16"])
def test_less_is_kept_for_the_backward_pass(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    before = summary.training_memory(model, batch_size=8, image_size=224).activations
    checkpoint_activations(model)
    after = summary.training_memory(model, batch_size=8, image_size=224).activations
    assert after < 0.8 * before


def test_the_bytes_that_autograd_really_saves_fall() -> None:
    model = create_model("resnet20")

    def saved_bytes() -> int:
        storages = {}
        with torch.autograd.graph.saved_tensors_hooks(lambda t: storages.setdefault(t.data_ptr(), t), lambda t: t):
            model(torch.randn(4, 3, 32, 32))
        return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())

    before = saved_bytes()
    checkpoint_activations(model)
    assert saved_bytes() < 0.5 * before


def test_nothing_changes_in_evaluation_or_in_names() -> None:
    model = create_model("vgg11", image_size=32).eval()
    names = list(model.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before, maps = model(images), model.feature_maps(images)
        checkpoint_activations(model)
        assert torch.equal(model(images), before)
        torch.testing.assert_close(model.feature_maps(images), maps, rtol=0, atol=0)
    assert list(model.state_dict()) == names


def test_a_chain_of_single_layers_is_taken_from_pool_to_pool() -> None:
    model = create_model("vgg11", image_size=32, dropout=0.2)
    checkpointed = copy.deepcopy(model)
    assert checkpoint_activations(checkpointed) == 6  # five runs of convolutions, and the fully connected layers
    _assert_same(_trained(checkpointed), _trained(model))


def test_timms_blocks_are_found() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=3)
    checkpointed = copy.deepcopy(model)
    assert checkpoint_activations(checkpointed) == 12
    _assert_same(_trained(checkpointed), _trained(model))


class Branches(nn.Module):
    """As HRNet's: it takes a list, and writes its results where its inputs were."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, maps: list[Tensor], *, scale: float = 1.0) -> list[Tensor]:
        maps[0] = self.first(maps[0]).tanh() * scale
        maps[1] = self.second(maps[1] + maps[0]).tanh()
        return maps


class Branched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Branches(), Branches()])
        self.head = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        maps = [images, images.flip(3)]
        for block in self.blocks:
            maps = block(maps, scale=2.0)
        return self.head((maps[0] + maps[1]).mean((2, 3)))


def test_lists_and_settings_by_name_reach_a_block_as_they_were() -> None:
    model = Branched()
    checkpointed = copy.deepcopy(model)
    assert checkpoint_activations(checkpointed) == 2
    _assert_same(_trained(checkpointed), _trained(model))


def test_a_network_without_blocks_is_refused() -> None:
    with pytest.raises(ModelError, match="no blocks that could be computed again"):
        checkpoint_activations(nn.Linear(4, 2))


def test_a_single_block_is_enough() -> None:
    model = nn.Sequential(BasicBlock(3, 3, 1, nn.Identity()), nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    assert checkpoint_activations(model) >= 1
