import pytest

from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.training.lost_loss import lost_loss


@pytest.mark.parametrize(
    ("settings", "beginning"),
    [
        (["optim.lr=0.5"], r"Lower optim.lr (0.5), which is high for adamw."),
        (["data.std=[0.001, 0.001, 0.001]"], "Mend data.mean and data.std, which make pixels as large as 594"),
        (["train.precision=fp16"], "Set train.fast=off with train.precision=bf16 or float32"),
        (["train.precision=bf16"], "Set train.fast=off with train.precision=float32"),
        ([], "Lower optim.lr (0.001), lengthen optim.warmup_epochs"),
    ],
)
def test_the_likeliest_setting_is_named_first(settings: list[str], beginning: str) -> None:
    said = lost_loss(override(Recipe(), settings), float("nan"), 3)
    assert said.startswith(f"The training loss became nan in epoch 3. {beginning}")
