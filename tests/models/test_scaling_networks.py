"""Width and depth as factors: what each family makes of them, and who can't."""

import pytest
import torch

from sightline import summary
from sightline.errors import ModelError
from sightline.model_folder import Architecture
from sightline.models import create_model, families

SMALLEST = {
    "resnet": ("resnet20", 32),
    "wide_resnet": ("wide_resnet16_8", 32),
    "densenet": ("densenet_bc_100_12", 32),
    "efficientnet": ("efficientnet_b0", 64),
    "vit": ("vit_ti_16", 64),
    "swin": ("swin_t", 64),
}
"""A network of each family that can be scaled, and a size to look at it."""


def macs(name: str, size: int, *, width: float = 1.0, depth: float = 1.0) -> int:
    return summary.num_macs(create_model(name, num_classes=10, image_size=size, width=width, depth=depth), size)


def test_every_family_that_can_be_scaled_is_looked_at() -> None:
    assert {name for name, family in families().items() if family.scale is not None} == set(SMALLEST)


@pytest.mark.parametrize("family", SMALLEST)
def test_factors_of_one_leave_a_network_as_it_is(family: str) -> None:
    name, size = SMALLEST[family]
    with torch.device("meta"):
        plain = create_model(name, image_size=size)
        same = create_model(name, image_size=size, width=1.0, depth=1.0)
    assert [(key, value.shape) for key, value in plain.state_dict().items()] == [
        (key, value.shape) for key, value in same.state_dict().items()
    ]


@pytest.mark.parametrize("family", SMALLEST)
def test_twice_as_wide_is_some_four_times_the_work_and_twice_as_deep_some_two(family: str) -> None:
    name, size = SMALLEST[family]
    plain = macs(name, size)
    assert 3 < macs(name, size, width=2.0) / plain < 4.3
    # A densely connected network's layers read all before them, so that its work grows with depth's square.
    assert 1.7 < macs(name, size, depth=2.0) / plain < (4.3 if family == "densenet" else 2.4)


@pytest.mark.parametrize("family", SMALLEST)
def test_a_hundredth_of_the_width_and_depth_still_classifies(family: str) -> None:
    name, size = SMALLEST[family]
    model = create_model(name, num_classes=3, image_size=size, width=0.01, depth=0.01).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, 3, size, size)).shape == (2, 3)


def test_a_scaled_network_comes_back_from_its_description() -> None:
    architecture = Architecture(name="resnet20", num_classes=3, image_size=16, width=0.5, depth=2.0)
    model = architecture.build()
    assert model.num_features == 32
    assert len(model.get_submodule("layer1")) == 6  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["alexnet", "timm/resnet18"])
def test_a_network_that_can_t_be_scaled_says_who_can(name: str) -> None:
    with pytest.raises(ModelError, match="can't be made wider or deeper by a factor; these families can: densenet, "):
        create_model(name, width=2.0)


@pytest.mark.parametrize(
    ("width", "depth"), [(0.0, 1.0), (1.0, -1.0), (float("nan"), 1.0), (1.0, float("inf")), (1e5, 1.0)]
)
def test_a_factor_that_is_no_positive_number_or_a_slip_is_refused(width: float, depth: float) -> None:
    with pytest.raises(ModelError, match="take factors greater than 0 and at most 100, got "):
        create_model("resnet20", width=width, depth=depth)
