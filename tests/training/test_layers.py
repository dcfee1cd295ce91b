"""Which of the settings of how layers compute find none."""

import pytest

from sightline.models import create_model
from sightline.recipe import TrainConfig
from sightline.training.layers import idle


@pytest.mark.parametrize(
    ("network", "named"),
    [
        ("resnet20", ["depthwise_float32", "mixed_attention"]),
        ("efficientnet_b0", ["mixed_attention"]),
        ("swin_t", ["depthwise_float32"]),
    ],
)
def test_a_setting_that_finds_no_layer_is_named(network: str, named: list[str]) -> None:
    model = create_model(network, num_classes=3)
    config = TrainConfig(precision="bf16", channels_last=True, depthwise_float32=True, mixed_attention=True)
    assert idle(model, config) == named
    assert idle(model, TrainConfig()) == []


def test_fused_attention_is_idle_without_attention() -> None:
    assert idle(create_model("resnet20"), TrainConfig(fused_attention=True)) == ["fused_attention"]
