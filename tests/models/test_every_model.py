"""The contract, over every variant of every file in models/: what they need not compute is built without content."""

import copy
import re
import sys
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from reference import fill_randomly, renamed
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from sightline import surgery
from sightline.checkpointing import checkpoint_activations
from sightline.errors import ModelError
from sightline.models import Classifier, create_model, families, fit_note, variants

SIZE = 32
Outcome = TypeVar("Outcome")


@cache
def _shapes_only(name: str) -> Classifier:
    """The network at its native size, on the meta device. Don't change it: it is shared."""
    with torch.device("meta"):
        return create_model(name).eval()


@cache
def _outcome(name: str) -> tuple[tuple[int, ...], int]:
    """The logits' shape for two images of the native size, and the multiply-accumulates for one."""
    size = variants()[name][1].image_size
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits = _shapes_only(name)(torch.empty(2, 3, size, size, device="meta"))
    return tuple(logits.shape), counter.get_total_flops() // 4


def _is_auxiliary(name: str) -> bool:
    return name.startswith("aux")


def _num_params(model: nn.Module) -> int:
    return sum(p.numel() for name, p in model.named_parameters() if not _is_auxiliary(name))


def _representatives() -> list[str]:
    """Of each family the smallest variant of every structure, which a config's switches and choices tell apart."""
    smallest: dict[tuple[object, ...], str] = {}
    for family_name, family in families().items():
        for name, variant in sorted(family.variants.items(), key=lambda item: item[1].num_params):
            settings = vars(variant.config).items()
            choices = [(key, value) for key, value in settings if isinstance(value, bool | str)]
            smallest.setdefault((family_name, *choices), name)
    return list(smallest.values())


@pytest.fixture(scope="module", params=_representatives())
def small(request: pytest.FixtureRequest) -> Classifier:
    """The 32-pixel form with ten classes and values under which every tensor matters, in evaluation.

    One is alive at a time, and shared: a test that changes it takes a copy.
    """
    model = create_model(request.param, num_classes=10, image_size=SIZE)
    fill_randomly(model)
    return model.eval()


def _gradients(model: Classifier) -> dict[str, Tensor | None]:
    """Of a step of training, with its dropout and auxiliary classifiers; their weights stand beside the outputs."""
    torch.manual_seed(0)
    outputs = model.train().training_outputs(_images(4))
    assert outputs[0][0] == 1.0
    sum(weight * F.cross_entropy(logits, torch.arange(4)) for weight, logits in outputs).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.fixture(scope="module")
def gradients(small: Classifier) -> dict[str, Tensor | None]:
    """Of one step of `small`."""
    return _gradients(copy.deepcopy(small))


def _or_sentence(attempt: Callable[[], Outcome]) -> Outcome | str:
    """What the attempt gives, or the one line it is refused with."""
    try:
        return attempt()
    except ModelError as error:
        (sentence,) = str(error).splitlines()
        return sentence


def _images(batch_size: int, height: int = SIZE, width: int = SIZE) -> Tensor:
    return torch.randn(batch_size, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", variants())
def test_the_number_of_parameters_is_exact(name: str) -> None:
    assert _num_params(_shapes_only(name)) == variants()[name][1].num_params


@pytest.mark.parametrize("name", [name for name, (_, variant) in variants().items() if variant.num_macs])
def test_multiply_accumulates_are_within_one_percent_of_the_published_figure(name: str) -> None:
    _, num_macs = _outcome(name)
    assert num_macs == pytest.approx(variants()[name][1].num_macs, rel=0.01)


@pytest.mark.parametrize("name", [name for name, (_, variant) in variants().items() if variant.num_macs is None])
def test_multiply_accumulates_that_nobody_published_are_the_counted_ones(name: str) -> None:
    _, num_macs = _outcome(name)
    assert variants()[name][1].counted_macs == num_macs


@pytest.mark.parametrize("name", variants())
def test_logits_have_a_column_for_each_class(name: str) -> None:
    shape, _ = _outcome(name)
    assert shape == (2, variants()[name][1].num_classes)


@pytest.mark.parametrize("name", variants())
def test_maps_have_the_stated_channels_and_strides(name: str) -> None:
    model, size = _shapes_only(name), variants()[name][1].image_size
    maps = model.feature_maps(torch.empty(2, 3, size, size, device="meta"))
    assert [found.shape[:2] for found in maps] == [(2, stage.channels) for stage in model.stages]
    for found, stage in zip(maps, model.stages, strict=True):
        for side in found.shape[2:]:  # convolutions without padding lose up to four pixels
            assert size / stage.stride - 4 < side < size / stage.stride + 1


@pytest.mark.parametrize("name", variants())
def test_stages_are_submodules_that_the_data_meets_in_order(name: str) -> None:
    model = _shapes_only(name)
    strides = [stage.stride for stage in model.stages]
    assert strides == sorted(strides)
    order = {parameter: index for index, parameter in enumerate(model.parameters())}
    last_of_earlier = -1
    for stage in model.stages:
        indices = [order[parameter] for parameter in model.get_submodule(stage.name).parameters()]
        assert all(index > last_of_earlier for index in indices)
        last_of_earlier = max(indices, default=last_of_earlier)
    assert all(order[parameter] > last_of_earlier for parameter in model.head.parameters())


@pytest.mark.parametrize("name", _representatives())
def test_a_head_with_other_classes_changes_the_head_alone(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=7)
    shapes = {key: tensor.shape for key, tensor in model.state_dict().items()}
    native = {key: tensor.shape for key, tensor in _shapes_only(name).state_dict().items()}
    differing = {key for key in shapes.keys() | native.keys() if shapes.get(key) != native.get(key)}
    assert {key.split(".")[0] for key in differing if not _is_auxiliary(key)} == {"head"}


@pytest.mark.parametrize("name", variants())
def test_published_names_are_mapped_on_ours_one_to_one(name: str) -> None:
    family, variant = variants()[name]
    ours = {key: tensor.shape for key, tensor in _shapes_only(name).state_dict().items() if not _is_auxiliary(key)}
    with torch.device("meta"):
        if "torchvision" in family.renamings and name in torchvision.models.list_models():
            arguments = (
                {"aux_logits": False, "init_weights": False} if "inception" in name or name == "googlenet" else {}
            )
            state = torchvision.models.get_model(name, **arguments).state_dict()
            theirs = {key: tensor.shape for key, tensor in renamed(state, family.renamings["torchvision"]).items()}
            assert theirs == ours
        timm_name = variant.timm or name
        if "timm" in family.renamings and timm.is_model(timm_name):
            state = timm.create_model(timm_name).state_dict()
            theirs = {key: tensor.shape for key, tensor in renamed(state, family.renamings["timm"]).items()}
            assert theirs == ours


@pytest.mark.parametrize("family", families())
def test_the_file_names_its_paper(family: str) -> None:
    paper = families()[family].paper
    assert re.fullmatch(r"https?://\S+", paper)
    assert paper in (sys.modules[f"sightline.models.{family}"].__doc__ or "")


@pytest.mark.parametrize("name", _representatives())
def test_there_is_a_form_for_images_of_32_pixels_that_says_what_it_changed(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, image_size=SIZE).eval()
        assert model(torch.empty(2, 3, SIZE, SIZE)).shape == (2, variants()[name][1].num_classes)
    shapes = {key: tensor.shape for key, tensor in model.state_dict().items()}
    if shapes != {key: tensor.shape for key, tensor in _shapes_only(name).state_dict().items()}:
        assert len(fit_note(name, SIZE)) > 10


@pytest.mark.parametrize("size", [1, 45, 100])
@pytest.mark.parametrize("name", _representatives())
def test_any_other_size_runs_or_is_refused_with_one_sentence(name: str, size: int) -> None:
    with torch.device("meta"):
        model = _or_sentence(lambda: create_model(name, image_size=size).eval())
        if isinstance(model, str):
            assert str(size) in model
        else:
            assert model(torch.empty(1, 3, size, size)).ndim == 2


def test_images_that_are_not_square_run_or_are_refused_with_one_sentence(small: Classifier) -> None:
    with torch.no_grad():
        logits = _or_sentence(lambda: small(_images(1, SIZE, 2 * SIZE)))
    assert isinstance(logits, str) or logits.shape == (1, 10)


def test_every_parameter_receives_a_gradient(gradients: dict[str, Tensor | None]) -> None:
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.any()] == []


@pytest.mark.slow  # tests/test_checkpointing.py has some of them in the default run
def test_checkpointed_activations_give_the_same_gradients(
    small: Classifier, gradients: dict[str, Tensor | None]
) -> None:
    checkpointed = copy.deepcopy(small)
    assert checkpoint_activations(checkpointed) > 0
    assert [name for name, found in _gradients(checkpointed).items() if not torch.equal(found, gradients[name])] == []


def test_an_image_alone_gets_the_logits_it_gets_in_a_batch(small: Classifier) -> None:
    with torch.no_grad():
        together, alone = small(_images(2)), small(_images(2)[:1])
    torch.testing.assert_close(alone, together[:1], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(together[0], together[1], rtol=1e-2, atol=1e-2)


def test_the_logits_are_the_head_over_the_features(small: Classifier) -> None:
    with torch.no_grad():
        torch.testing.assert_close(small(_images(1)), small.head(small.forward_features(_images(1))))


def test_weights_go_through_safetensors(small: Classifier) -> None:
    state = small.state_dict()
    stored = safetensors.torch.load(safetensors.torch.save(state))  # refuses tensors that share memory
    assert all(torch.equal(state[name], tensor) for name, tensor in stored.items())
    assert stored.keys() == state.keys()


def test_the_head_and_the_first_layer_can_be_replaced(small: Classifier) -> None:
    model = copy.deepcopy(small)
    surgery.replace_head(model, 3)
    surgery.change_input_channels(model, 1)
    with torch.no_grad():
        assert model(_images(2)[:, :1]).shape == (2, 3)


@pytest.mark.parametrize("name", _representatives())
def test_every_activation_can_be_swapped(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, image_size=SIZE).eval()
    before = sum(isinstance(module, nn.ReLU | nn.GELU | nn.SiLU) for module in model.modules())
    assert surgery.replace_activation(model, "prelu") == before > 0
    assert sum(isinstance(module, nn.PReLU) for module in model.modules()) == before
    with torch.device("meta"):
        assert model(torch.empty(1, 3, SIZE, SIZE)).ndim == 2


@pytest.mark.parametrize("name", _representatives())
def test_a_dropout_rate_is_taken(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, image_size=SIZE, dropout=0.25)
    assert model.head_dropout.p == 0.25


def test_a_wrong_name_suggests_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"Unknown model 'resnet51'\. Did you mean 'resnet5[06]'\? `sightline models`"):
        create_model("resnet51")


@pytest.mark.parametrize("setting", ["num_classes", "in_channels"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_network_of_nothing_is_refused(setting: str, value: int) -> None:
    with pytest.raises(ModelError, match=f"^{setting} must be at least 1, got {value}\\.$"):
        create_model("resnet20", **{setting: value})  # pyright: ignore[reportArgumentType]
