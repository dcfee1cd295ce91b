"""Attention transfer: maps of every kind of network, and a loss that falls as they come together."""

from pathlib import Path

import pytest
import torch
from making import make_folder

from sightline.models import create_model
from sightline.recipe import DistillConfig
from sightline.training.attention import Maps, attention, difference
from sightline.training.teacher import Teacher

CPU = torch.device("cpu")


def test_a_map_is_the_mean_of_the_squared_channels_wherever_they_lie() -> None:
    maps = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    wanted = maps.square().mean(1)
    torch.testing.assert_close(attention(maps, 5), wanted)
    torch.testing.assert_close(attention(maps.permute(0, 2, 3, 1), 5), wanted)
    tokens = maps.flatten(2).transpose(1, 2)
    torch.testing.assert_close(attention(tokens, 5), wanted)
    torch.testing.assert_close(attention(torch.cat([torch.ones(2, 1, 5), tokens], dim=1), 5), wanted)


def test_the_difference_is_of_directions_and_by_hand() -> None:
    mine, theirs = torch.tensor([[[3.0, 0.0], [0.0, 4.0]]]), torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])
    assert difference([mine], [7 * mine]) < 1e-12
    assert difference([mine], [theirs]) == pytest.approx((0.36 + 0.64 + 1) / 4)
    assert difference([theirs, mine], [mine]) < 1e-12  # the coarsest beside the coarsest
    larger = theirs.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert difference([mine], [larger]) == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["resnet20", "vgg11_bn", "densenet121", "efficientnet_b0", "vit_ti_16", "swin_t"])
def test_every_kind_of_network_has_maps_that_are_compared_with_any_other_s(name: str) -> None:
    student, teacher = (create_model(each, num_classes=3, image_size=32) for each in ("resnet20", name))
    maps = [Maps(network) for network in (student, teacher)]
    for network in (student, teacher):
        network(torch.randn(2, 3, 32, 32))
    mine, theirs = (each.take() for each in maps)
    assert [each.ndim for each in theirs] == [3] * len(teacher.stages)
    loss = difference(mine, theirs)
    assert loss.isfinite()
    loss.backward()
    assert all(stage.grad is not None for stage in student.get_submodule(student.stages[-1].name).parameters())


def test_training_on_it_alone_brings_the_maps_together(tmp_path: Path) -> None:
    config = DistillConfig(teacher=str(make_folder(tmp_path / "teacher").path), attention=1000.0)
    teacher = Teacher(config, ("blue", "green", "red"), CPU)
    torch.manual_seed(0)
    student = create_model("resnet20", num_classes=3, image_size=16)
    teacher.watch(student)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.02, momentum=0.9)
    pixels = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)
    losses: list[float] = []
    for _ in range(12):
        logits = student(pixels.float() / 255)
        loss = teacher.mixed(torch.tensor(0.0), logits.detach(), pixels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
