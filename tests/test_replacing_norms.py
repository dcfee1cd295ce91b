import copy
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from making import make_folder
from torch import Tensor, nn
from torch.nn import functional as F

from sightline import surgery
from sightline.errors import ModelError
from sightline.model_folder import Architecture, ModelFolder
from sightline.models import create_model, families


def _images(batch_size: int = 2) -> Tensor:
    return torch.randn(batch_size, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def _batch_norms(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d)]


def _shapes(model: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(parameter.shape) for parameter in model.parameters()]


def _smallest() -> list[str]:
    return [min(f.variants, key=lambda name: f.variants[name].num_params) for f in families().values()]


@pytest.mark.parametrize("name", _smallest())
@pytest.mark.parametrize("norm", surgery.NORMS)
def test_every_family_takes_another_norm_or_says_that_it_has_no_batch_norm(name: str, norm: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
        before, number = _shapes(model), len(_batch_norms(model))
        if number == 0:
            with pytest.raises(ModelError, match=r"model\.norm: this network has no batch norm"):
                surgery.replace_norm(model, norm)
            return
        assert surgery.replace_norm(model, norm) == number
    assert len(_batch_norms(model)) == (number if norm == "batch" else 0)
    assert _shapes(model) == before  # in the old order, too, which freezing and published weights go by
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("norm", ["group", "layer", "none"])
def test_one_image_trains_without_a_batch_s_statistics(norm: str) -> None:
    model = create_model("resnet20", num_classes=3, image_size=16, norm=norm).train()
    F.cross_entropy(model(_images(1)[:, :, :16, :16]), torch.tensor([1])).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("norm", ["group", "layer", "none"])
def test_an_image_s_logits_do_not_depend_on_its_batch_in_training(norm: str) -> None:
    model = create_model("resnet20", num_classes=3, image_size=16, norm=norm).train()
    images = _images(4)[:, :, :16, :16]
    torch.testing.assert_close(model(images)[:1], model(images[:1]))


def test_layer_normalises_each_image_over_channels_and_places() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3, eps=1e-3))
    surgery.replace_norm(model, "layer")
    torch.testing.assert_close(model(_images()), F.layer_norm(_images(), (3, 32, 32), eps=1e-3))


@pytest.mark.parametrize(
    ("channels", "expected"), [(256, 32), (64, 32), (48, 24), (40, 20), (32, 16), (16, 8), (17, 1), (3, 1), (1, 1)]
)
def test_groups_divide_the_channels_and_hold_two_or_more(channels: int, expected: int) -> None:
    assert surgery.num_groups(channels) == expected


def test_scales_and_shifts_and_the_small_constant_are_kept() -> None:
    old = nn.BatchNorm2d(6, eps=0.01)
    with torch.no_grad():
        old.weight.copy_(torch.arange(6.0))
        old.bias.copy_(torch.arange(6.0) * 10)
    for name in ("group", "layer", "none"):
        model = nn.Sequential(copy.deepcopy(old))
        surgery.replace_norm(model, name)
        assert torch.equal(model[0].weight, old.weight)
        assert torch.equal(model[0].bias, old.bias)
    surgery.replace_norm(model := nn.Sequential(copy.deepcopy(old)), "group")
    assert model[0].eps == 0.01


def test_no_norm_is_scale_and_shift() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3))
    surgery.replace_norm(model, "none")
    with torch.no_grad():
        model[0].weight.fill_(2)
        model[0].bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(model(_images()), 2 * _images() + torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1))


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "mobilenetv3_small_100"])
def test_the_activation_inside_timm_s_batch_norms_stays(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
        before = sum(isinstance(module, nn.SiLU | nn.ReLU | nn.Hardswish) for module in model.modules())
        surgery.replace_norm(model, "group")
        after = sum(isinstance(module, nn.SiLU | nn.ReLU | nn.Hardswish) for module in model.modules())
        assert before == after > 0
        assert model(torch.empty(2, 3, 64, 64)).shape == (2, 1000)


def test_an_unknown_norm_is_refused_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="Unknown norm 'grop'. Did you mean 'group'"):
        surgery.replace_norm(nn.BatchNorm2d(2), "grop")


def test_a_model_folder_rebuilds_its_norm(tmp_path: Path) -> None:
    spec = make_folder(tmp_path / "old").spec
    architecture = Architecture(name="resnet20", num_classes=3, image_size=16, norm="group")
    weights = architecture.build().state_dict()
    folder = ModelFolder.write(tmp_path / "new", replace(spec, architecture=architecture), weights)
    rebuilt = ModelFolder.read(folder.path).model()
    assert isinstance(rebuilt.get_submodule("bn1"), nn.GroupNorm)
    assert folder.spec.fingerprint != spec.fingerprint


def test_a_model_folder_from_before_norms_could_be_chosen_is_still_read(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "old")
    content = json.loads((folder.path / "model.json").read_text())
    for name in ("norm", "narrowing", "width", "depth"):  # all came later
        del content["spec"]["architecture"][name]
    (folder.path / "model.json").write_text(json.dumps(content))
    assert ModelFolder.read(folder.path).spec == folder.spec
    parts = {key: content["spec"][key] for key in ("architecture", "classes", "preprocess", "calibration")}
    answers = {**parts, "weights_sha256": content["spec"]["weights_sha256"]}
    assert content["fingerprint"] == hashlib.sha256(json.dumps(answers, sort_keys=True).encode()).hexdigest()
