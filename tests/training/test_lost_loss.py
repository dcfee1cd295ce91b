import pytest

from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.training.lost_loss import lost_loss


@pytest.mark.parametrize(
    ("settings", "beginning"),
    [
        (["optim.lr=0.5"], r"Lower optim.lr (0.5), which is high for adamw."),
        (["data.std=[0.001, 0.001, 0.001]"], "Mend data.mean and data.std, which make pixels as large as 594"),
        (["train.precision=fp16"], "Set train.fast=off train.precision=float32: fp16"),
        (["train.precision=bf16"], "Set train.fast=off train.precision=float32: bf16"),
        ([], "Lower optim.lr (0.001), lengthen optim.warmup_epochs"),
    ],
)
def test_the_likeliest_setting_is_named_first(settings: list[str], beginning: str) -> None:
    said = lost_loss(override(Recipe(), settings), float("nan"), 3)
    assert said.startswith(f"The training loss became nan in epoch 3. {beginning}")


def test_the_advice_can_be_followed_whatever_the_recipe_had_settled() -> None:
    settled = override(Recipe(), ["train.precision=bf16", "train.depthwise_float32=true", "train.fused_attention=true"])
    said = lost_loss(settled, float("nan"), 1)
    advised = said.partition("Set ")[2].partition(":")[0].split()
    assert override(settled, advised).train == Recipe().train
