import pytest
import torch
from test_every_augmentation import batch
from torchvision.transforms.v2 import functional as reference

from sightline.augmentations.crop import Crop
from sightline.augmentations.flip import Flip
from sightline.errors import RecipeError
from sightline.randomness import Draws


def test_each_flipped_image_is_torchvision_s_flip_and_the_others_stay() -> None:
    before = batch(64)
    after = Flip()(before, Draws(0, 0, before.samples), 12)
    flipped = [not torch.equal(a, b) for a, b in zip(after.images, before.images, strict=True)]
    assert 20 < sum(flipped) < 44  # of 64 at one half: four standard deviations to each side
    for a, b, is_flipped in zip(after.images, before.images, flipped, strict=True):
        assert torch.equal(a, reference.horizontal_flip(b) if is_flipped else b)


def test_an_alternating_flip_shows_each_image_the_other_way_in_the_next_epoch() -> None:
    before = batch(64)
    epochs = [Flip(alternate=True)(before, Draws(0, epoch, before.samples), 12).images for epoch in range(4)]
    flipped = [not torch.equal(a, b) for a, b in zip(epochs[0], before.images, strict=True)]
    assert 20 < sum(flipped) < 44
    assert torch.equal(epochs[1], epochs[0].flip(3))
    assert torch.equal(epochs[2], epochs[0])
    assert torch.equal(epochs[3], epochs[1])


@pytest.mark.parametrize(("probability", "expected"), [(0.0, 0), (1.0, 64)])
def test_never_and_always(probability: float, expected: int) -> None:
    before = batch(64)
    after = Flip(probability=probability)(before, Draws(0, 0, before.samples), 12)
    assert sum(not torch.equal(a, b) for a, b in zip(after.images, before.images, strict=True)) == expected


def test_each_crop_is_torchvision_s_crop_of_the_padded_image_at_some_place() -> None:
    before = batch(40, side=8)
    after = Crop(padding=2)(before, Draws(0, 0, before.samples), 9)
    places: set[tuple[int, int]] = set()
    for cropped, image in zip(after.images, before.images, strict=True):
        padded = reference.pad(image, [2])
        at = [(y, x) for y in range(4) for x in range(4) if torch.equal(reference.crop(padded, y, x, 9, 9), cropped)]
        assert len(at) == 1
        places.update(at)
    assert len(places) > 10  # of 16


def test_neighbours_in_the_batch_do_not_change_an_image_s_crop() -> None:
    before = batch(8)
    together = Crop(padding=2)(before, Draws(0, 0, before.samples), 12).images[5]
    one = type(before)(before.images[5:6], before.targets[5:6], before.samples[5:6])
    assert torch.equal(Crop(padding=2)(one, Draws(0, 0, one.samples), 12).images[0], together)


def test_settings_outside_their_range_are_refused_by_name() -> None:
    with pytest.raises(RecipeError, match=r"augment\.flip\.probability must be 0 to 1, got 2"):
        Flip(probability=2)
    with pytest.raises(RecipeError, match=r"augment\.crop\.padding must be 0 to 1024, got -1"):
        Crop(padding=-1)
    with pytest.raises(RecipeError, match=r"augment\.flip\.probability \(0\.3\) would be ignored"):
        Flip(alternate=True, probability=0.3)
