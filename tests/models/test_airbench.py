"""airbench against the same network written down anew, and what it takes from training images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from making import make_photos
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.data.loader import Pixels
from sightline.data.prepare import prepare
from sightline.errors import ModelError
from sightline.models import create_model
from sightline.pruning.groups import find_groups
from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.training import train


def _images(count: int, size: int = 32) -> Tensor:
    """Smooth noise, so that neighbouring pixels have to do with each other."""
    noise = torch.randn(count, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(3))
    return F.interpolate(noise, scale_factor=4, mode="bilinear")


def _by_hand(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """Section 3.1 in evaluation, from the names of the state alone."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"])

    x = F.gelu(F.conv2d(x, state["whiten.weight"], state["whiten.bias"]))
    for block in ("block1", "block2", "block3"):
        x = F.gelu(norm(F.max_pool2d(F.conv2d(x, state[f"{block}.conv1.weight"], padding=1), 2), f"{block}.norm1"))
        x = F.gelu(norm(F.conv2d(x, state[f"{block}.layers.0.weight"], padding=1), f"{block}.layers.1"))
    return F.max_pool2d(x, 3).flatten(1) @ state["head.weight"].T / 9


def test_the_logits_are_those_of_the_network_written_down_anew() -> None:
    torch.manual_seed(0)
    model = create_model("airbench94")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        found = model.eval()(_images(4))
    torch.testing.assert_close(found, _by_hand(model.state_dict(), _images(4)), rtol=1e-4, atol=1e-5)


def test_patches_of_the_images_it_begins_from_come_out_white() -> None:
    model = create_model("airbench94")
    images = _images(64)
    model.begin_from(images)
    with torch.no_grad():
        outputs = model.get_submodule("whiten")(images).movedim(1, 0).flatten(1).double()
    assert torch.equal(outputs[:12], -outputs[12:])
    second_moments = outputs[:12] @ outputs[:12].T / outputs.shape[1]
    off = second_moments - torch.diag(second_moments.diagonal())
    assert off.abs().max() < 1e-3
    assert second_moments.diagonal()[-6:].sub(1).abs().max() < 0.02  # the directions that vary most


def test_the_other_kernels_begin_as_partial_identities() -> None:
    conv = create_model("airbench94").get_submodule("block1.conv1")
    x = torch.randn(2, 24, 9, 9)
    with torch.no_grad():
        found = conv(x)
    torch.testing.assert_close(found[:, :24], x)
    assert (found[:, 24:].abs().amax((0, 2, 3)) > 0).all()


def test_training_begins_from_the_training_images(tmp_path: Path) -> None:
    settings = ["model.name=airbench94", "data.image_size=16", "data.resize=16", "data.num_workers=0", "epochs=1"]
    recipe = override(Recipe(), [*settings, "batch_size=8", "optim.lr=1e-9", "optim.weight_decay=0"])
    photos = make_photos(tmp_path / "photos", count=20)
    trained = train(recipe, photos, out=tmp_path / "run", measure=()).model()
    prepared, preprocess = prepare(photos, recipe.data, recipe.seed), recipe.data.preprocess()
    expected = create_model("airbench94", num_classes=3, image_size=16)
    pixels = Pixels(prepared.table, preprocess, canvas=False).batch(prepared.splits.train)
    expected.begin_from(preprocess.normalize(pixels))
    name = "whiten.weight"
    torch.testing.assert_close(trained.state_dict()[name], expected.state_dict()[name], rtol=1e-3, atol=1e-4)
    assert np.abs(expected.state_dict()[name].numpy()).max() > 1  # torch's own are at most 0.29


def test_images_that_leave_nothing_to_pool_are_refused() -> None:
    assert create_model("airbench94", image_size=9)(torch.zeros(2, 3, 9, 9)).shape == (2, 10)
    with pytest.raises(
        ModelError,
        match=r"Images of 8 pixels are too small for airbench.*data\.resize, too, .* --image-size to at least 9",
    ):
        create_model("airbench94", image_size=8)


def test_pruning_leaves_the_whitening_whole_whose_strongest_kernels_see_least() -> None:
    model = create_model("airbench94", num_classes=10)
    names = [group.name for group in find_groups(model, 32).groups]
    assert names == [f"block{number}.{layer}" for number in (1, 2, 3) for layer in ("conv1", "layers.0")]
