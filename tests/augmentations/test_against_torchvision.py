"""With the amounts that were drawn, each method gives the pixels of torchvision's own operator."""

import math

import pytest
import torch
from test_every_augmentation import batch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from sightline.augmentations import Batch
from sightline.augmentations.affine import Affine
from sightline.augmentations.aug_mix import SPACE as AUG_MIX
from sightline.augmentations.auto_augment import POLICIES
from sightline.augmentations.auto_augment import SPACE as AUTO_AUGMENT
from sightline.augmentations.blur import Blur
from sightline.augmentations.color_jitter import ORDERS, ColorJitter
from sightline.augmentations.cutmix import Cutmix
from sightline.augmentations.cutout import Cutout
from sightline.augmentations.erase import Erase
from sightline.augmentations.grayscale import Grayscale
from sightline.augmentations.mixup import Mixup
from sightline.augmentations.rand_augment import SPACE as RAND_AUGMENT
from sightline.augmentations.random_resized_crop import RandomResizedCrop
from sightline.augmentations.rotate import Rotate
from sightline.augmentations.trivial_augment import SPACE as TRIVIAL_AUGMENT
from sightline.augmentations.vertical_flip import VerticalFlip
from sightline.operations.mixing import mixing_weights
from sightline.operations.policy import SIGNED, Space, apply_each
from sightline.randomness import Draws


def smooth(count: int, *, height: int = 20, width: int = 26) -> Batch:
    """Images without the noise that a bilinear sample's rounding would turn into large differences."""
    before = batch(count, side=5, width=6)
    images = reference.resize(before.images, [height, width], antialias=True)
    return Batch(images, before.targets, before.samples)


def draws(before: Batch) -> Draws:
    return Draws(3, 1, before.samples)


def farthest(ours: Tensor, theirs: Tensor) -> float:
    return (ours.float() - theirs.float()).abs().max().item()


def unit(images: Tensor) -> Tensor:
    """torchvision's scale of float images, 0 to 1."""
    return images.float()[None] / 255


def test_rotate() -> None:
    before = smooth(12)
    method = Rotate(degrees=50)
    angles = method.angles(draws(before)).tolist()
    assert min(angles) < -20 < 20 < max(angles)
    after = method(before, draws(before), 20).images
    for ours, image, angle in zip(after, before.images, angles, strict=True):
        theirs = reference.rotate(image, angle, interpolation=v2.InterpolationMode.BILINEAR)
        assert farthest(ours, theirs) <= 1


def test_affine() -> None:
    before = smooth(12)
    method = Affine(degrees=40, translate=0.2, scale=(0.6, 1.5), shear=20)
    amounts = method.amounts(draws(before), height=20, width=26)
    after = method(before, draws(before), 20).images
    for ours, image, angle, shift, scale, shear in zip(
        after, before.images, *(a.tolist() for a in amounts), strict=True
    ):
        bilinear = v2.InterpolationMode.BILINEAR
        theirs = reference.affine(image, angle, [int(s) for s in shift], scale, shear, interpolation=bilinear)
        assert farthest(ours, theirs) <= 1


def test_reflection_fills_the_corners_that_a_rotation_uncovers() -> None:
    before = batch(8)
    bright = Batch(before.images.clamp(min=100), before.targets, before.samples)
    assert Rotate(degrees=45)(bright, draws(bright), 12).images.min() < 50
    assert Rotate(degrees=45, padding_mode="reflection")(bright, draws(bright), 12).images.min() >= 99


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_color_jitter_s_adjustments(name: str) -> None:
    before = batch(16)
    exact = Batch(before.images.float(), before.targets, before.samples)
    settings = {**dict.fromkeys(["brightness", "contrast", "saturation", "hue"], 0.0), name: 0.5}
    method = ColorJitter(**settings)
    amounts = method.amounts(draws(before))[0][:, list(settings).index(name)].tolist()
    after = method(exact, draws(before), 12).images
    for ours, image, amount in zip(after, before.images, amounts, strict=True):
        theirs = getattr(reference, f"adjust_{name}")(unit(image), amount)[0] * 255
        assert farthest(ours, theirs) < 0.01


def test_color_jitter_applies_its_adjustments_in_the_order_drawn() -> None:
    before = batch(60)
    method = ColorJitter()
    amounts, order = method.amounts(draws(before))
    after = method(before, draws(before), 12).images
    assert len({tuple(row) for row in order.tolist()}) > 15  # of 24
    assert {tuple(row) for row in order.tolist()} <= set(ORDERS)
    names = ["brightness", "contrast", "saturation", "hue"]
    for ours, image, amount, steps in zip(after, before.images, amounts.tolist(), order.tolist(), strict=True):
        theirs = unit(image)
        for step in steps:
            theirs = getattr(reference, f"adjust_{names[step]}")(theirs, amount[step])
        assert farthest(ours, theirs[0] * 255) <= 0.51


def test_grayscale() -> None:
    before = batch(40)
    after = Grayscale(probability=0.5)(before, draws(before), 12).images
    changed = [not torch.equal(a, b) for a, b in zip(after, before.images, strict=True)]
    assert 8 < sum(changed) < 32
    for ours, image, is_grey in zip(after, before.images, changed, strict=True):
        # torchvision cuts the fraction off where we round.
        assert farthest(ours, reference.rgb_to_grayscale(image, num_output_channels=3) if is_grey else image) <= 1


@pytest.mark.parametrize("side", [12, 4])  # in 4 pixels the kernel is cut to 7
def test_blur(side: int) -> None:
    before = batch(16, side=side, width=side + 1)
    method = Blur(sigma=(0.3, 1.5))
    sigmas = method.widths(draws(before)).tolist()
    after = method(before, draws(before), side).images
    assert 0 in sigmas
    for ours, image, sigma in zip(after, before.images, sigmas, strict=True):
        size = [2 * min(5, extent - 1) + 1 for extent in (side + 1, side)]
        theirs = reference.gaussian_blur(image, size, [sigma, sigma]) if sigma else image
        assert farthest(ours, theirs) <= 1


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_random_resized_crop(dtype: torch.dtype) -> None:
    before = batch(30, side=14, width=18, dtype=dtype)
    method = RandomResizedCrop()
    windows = method.windows(draws(before), height=14, width=18)
    shares = windows[:, 2] * windows[:, 3] / (14 * 18)
    ratios = windows[:, 3] / windows[:, 2]
    assert 0.06 < shares.min() < 0.3
    assert 0.7 < shares.max() <= 1
    assert 0.6 < ratios.min() < 1 < ratios.max() < 1.7  # a pixel more or less at the limits of 3/4 and 4/3
    after = method(before, draws(before), 10).images
    for ours, image, window in zip(after, before.images, windows.tolist(), strict=True):
        assert torch.equal(ours, reference.resized_crop(image, *window, size=[10, 10], antialias=True))


def test_random_resized_crop_takes_the_largest_window_where_none_fits() -> None:
    before = batch(3, side=6, width=40)
    windows = RandomResizedCrop(scale=(1, 1)).windows(draws(before), height=6, width=40)
    assert windows.tolist() == [[0, 16, 6, 8]] * 3  # as torchvision: 4 to 3, in the middle


@pytest.mark.parametrize("fill", ["black", "mean"])
def test_erase(fill: str) -> None:
    before = batch(40)
    method = Erase(fill=fill)  # pyright: ignore
    rectangles = method.rectangles(draws(before), height=12, width=12).tolist()
    after = method(before, draws(before), 12).images
    assert 8 < sum(bool(height) for _, _, height, _ in rectangles) < 32
    for ours, image, (top, left, height, width) in zip(after, before.images, rectangles, strict=True):
        value = image.float().mean(dim=(1, 2)).round().to(torch.uint8)[:, None, None]
        filled = value if fill == "mean" else torch.zeros_like(value)
        theirs = reference.erase(image, top, left, height, width, filled) if height else image
        assert torch.equal(ours, theirs)


def test_erase_fills_with_noise_within_the_rectangle_alone() -> None:
    before = batch(20)
    method = Erase(probability=1)
    after = method(before, draws(before), 12).images
    for ours, image, (top, left, height, width) in zip(
        after, before.images, method.rectangles(draws(before), height=12, width=12).tolist(), strict=True
    ):
        changed = (ours != image).any(0).nonzero()
        assert len(changed) > 0.9 * height * width
        assert changed[:, 0].min() >= top
        assert changed[:, 0].max() < top + height
        assert changed[:, 1].min() >= left
        assert changed[:, 1].max() < left + width


def test_cutout() -> None:
    before = batch(30)
    method = Cutout(size=5, fill="black")
    corners = torch.stack(method.corners(draws(before), height=12, width=12)[:2], dim=1).tolist()
    after = method(before, draws(before), 12).images
    for ours, image, (top, left) in zip(after, before.images, corners, strict=True):
        height, width = min(top + 5, 12) - max(top, 0), min(left + 5, 12) - max(left, 0)
        theirs = reference.erase(image, max(top, 0), max(left, 0), height, width, torch.zeros(1, dtype=torch.uint8))
        assert torch.equal(ours, theirs)


def test_vertical_flip() -> None:
    before = batch(10)
    assert torch.equal(
        VerticalFlip(probability=1)(before, draws(before), 12).images, reference.vertical_flip(before.images)
    )


def test_mixup() -> None:
    before = batch(2)  # in a batch of two torchvision's partner is ours: the other one
    weights = mixing_weights(draws(before), "mixup", 1.0).tolist()
    after = Mixup(alpha=1)(before, draws(before), 12)
    for row, weight in enumerate(weights):
        params = {"lam": weight, "labels": before.targets, "batch_size": 2}
        assert farthest(after.images[row], v2.MixUp().transform(before.images.float(), params)[row]) <= 0.51
        assert torch.allclose(after.targets[row], v2.MixUp().transform(before.targets, params)[row])


def test_cutmix() -> None:
    before = batch(2, side=20, width=14)
    method = Cutmix()
    boxes = method.boxes(draws(before), height=20, width=14).tolist()
    after = method(before, draws(before), 12)
    for row, (left, top, right, bottom) in enumerate(boxes):
        share = 1 - (right - left) * (bottom - top) / (20 * 14)
        params = {"box": (left, top, right, bottom), "lam_adjusted": share, "labels": before.targets, "batch_size": 2}
        assert torch.equal(after.images[row], v2.CutMix().transform(before.images, params)[row])
        assert torch.allclose(after.targets[row], v2.CutMix().transform(before.targets, params)[row])


NAMES = {
    "identity": "Identity", "shear_x": "ShearX", "shear_y": "ShearY", "translate_x": "TranslateX",
    "translate_y": "TranslateY", "rotate": "Rotate", "brightness": "Brightness", "color": "Color",
    "contrast": "Contrast", "sharpness": "Sharpness", "posterize": "Posterize", "solarize": "Solarize",
    "auto_contrast": "AutoContrast", "equalize": "Equalize", "invert": "Invert",
}  # fmt: skip


@pytest.mark.parametrize(
    ("space", "policy", "num_magnitudes"),
    [
        pytest.param(RAND_AUGMENT, v2.RandAugment, 31, id="rand_augment"),
        pytest.param(TRIVIAL_AUGMENT, v2.TrivialAugmentWide, 31, id="trivial_augment"),
        pytest.param(AUTO_AUGMENT, v2.AutoAugment, 10, id="auto_augment"),
    ],
)
def test_a_policy_s_operations_at_every_magnitude(
    space: Space, policy: type[v2.Transform], num_magnitudes: int
) -> None:
    image = smooth(1).images
    theirs_by_name = policy._AUGMENTATION_SPACE  # type: ignore[attr-defined]
    assert {NAMES[name] for name in space.names} == set(theirs_by_name)
    for number, name in enumerate(space.names):
        values, signed = theirs_by_name[NAMES[name]]
        assert signed == (name in SIGNED)
        magnitudes = values(num_magnitudes, 20, 26)
        exact = 255 if name == "solarize" else 1  # in whose unit a float32 that came near a whole number is that number
        for level in range(0, num_magnitudes, 3):
            for sign in (1, -1) if signed else (1,):
                strength = torch.tensor([sign * level / (num_magnitudes - 1)])
                ours = apply_each(image, space, torch.tensor([number]), strength)
                theirs = policy()._apply_image_or_video_transform(  # type: ignore[attr-defined]
                    image,
                    NAMES[name],
                    0.0 if magnitudes is None else sign * round(float(magnitudes[level]) * exact, 4) / exact,
                    interpolation=v2.InterpolationMode.BILINEAR,
                    fill={torch.Tensor: None},
                )
                # torchvision cuts fractions off, the grey's and the result's, where we round once.
                assert farthest(ours, theirs) <= (2 if name in ("color", "contrast") else 1), (name, level, sign)


def test_aug_mix_chooses_from_torchvision_s_operations_with_its_ranges() -> None:
    theirs = v2.AugMix._PARTIAL_AUGMENTATION_SPACE
    assert {NAMES[name] for name in AUG_MIX.names} == set(theirs)
    for name in AUG_MIX.names:
        values = theirs[NAMES[name]][0](10, 20, 26)
        if values is None:
            continue
        for level in range(10):
            ours = AUG_MIX.magnitudes(name, torch.tensor([level / 9]), height=20, width=26).item()
            expected = float(values[level]) * (255 if name == "solarize" else 1)
            expected = math.trunc(expected) if name.startswith("translate") else expected
            assert ours == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("name", list(POLICIES))
def test_auto_augment_s_policies_are_torchvision_s(name: str) -> None:
    theirs = v2.AutoAugment(v2.AutoAugmentPolicy[name.upper()])._policies
    lines = [[step.split() for step in line.split(",")] for line in POLICIES[name].strip().splitlines()]
    ours = [tuple((NAMES[operation], float(share), int(level)) for operation, share, level in pair) for pair in lines]
    assert ours == [tuple((operation, share, level or 0) for operation, share, level in pair) for pair in theirs]
