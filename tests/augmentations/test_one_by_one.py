"""Large images are changed one at a time, with the result that whole batches have."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sightline.augmentations import Augmentation, Batch, Single, augment
from sightline.augmentations.flip import Flip
from sightline.augmentations.mixup import Mixup
from sightline.augmentations.random_resized_crop import RandomResizedCrop
from sightline.operations import centre_window
from sightline.randomness import Draws

SIZE = 100


def large(count: int = 6) -> Batch:
    """Canvases (count, 3, 130, 140), the channel innermost as loaded ones have it."""
    images = torch.randint(0, 256, (count, 130, 140, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Batch(images.permute(0, 3, 1, 2), torch.eye(count), torch.arange(count))


def one_after_another(batch: Batch, augmentations: Sequence[Augmentation], draws: Draws) -> Tensor:
    for augmentation in augmentations:
        batch = augmentation(batch, draws, SIZE)
    return centre_window(batch.images, SIZE)


@pytest.mark.parametrize(
    "augmentations",
    [
        (RandomResizedCrop(), Flip()),
        (Flip(), RandomResizedCrop()),
        (Flip(alternate=True),),
        (RandomResizedCrop(), Flip(), Mixup()),
    ],
    ids=["crop, flip", "flip, crop", "flip alone, cut afterwards", "and mixed"],
)
def test_images_are_what_each_augmentation_makes_of_the_whole_batch(augmentations: tuple[Augmentation, ...]) -> None:
    batch = large()
    before = batch.images.clone()
    for epoch in (0, 1):
        draws = Draws(0, epoch, batch.samples)
        after = augment(batch, augmentations, draws, SIZE)
        assert after.images.shape == (6, 3, SIZE, SIZE)
        assert torch.equal(after.images, one_after_another(batch, augmentations, draws))
    assert torch.equal(batch.images, before)  # what was loaded is left as it was


def test_a_batch_of_large_images_takes_the_way_of_single_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list[int]()

    def note(_: Flip, batch: Batch, _draws: Draws, _image_size: int) -> Batch:
        whole.append(len(batch.images))
        return batch

    monkeypatch.setattr(Flip, "__call__", note)
    batch = large()
    draws = Draws(0, 0, batch.samples)
    augment(batch, (Flip(),), draws, SIZE)
    assert whole == []
    planes = replace(batch, images=batch.images.contiguous())  # not the memory that loaded batches have
    augment(planes, (Flip(),), draws, SIZE)
    small = replace(batch, images=batch.images[:, :, :64, :64])
    augment(small, (Flip(),), draws, 64)
    assert whole == [6, 6]


def test_mixing_needs_the_whole_batch() -> None:
    assert isinstance(Flip(), Single)
    assert not isinstance(Mixup(), Single)
