"""Settings that are refused by their dotted names, alone and together."""

import pytest

from sightline.errors import RecipeError
from sightline.recipe import Recipe
from sightline.recipe_text import override


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{rotate: {degrees: 181}}", r"augment\.rotate\.degrees must be 0 to 180, got 181\."),
        ("{rotate: {padding_mode: mirror}}", r"augment\.rotate\.padding_mode should be 'zeros', 'border' or 'refl"),
        ("{affine: {translate: 2}}", r"augment\.affine\.translate must be 0 to 1, got 2\."),
        ("{affine: {scale: [1.2, 0.8]}}", r"augment\.affine\.scale must be two values from 0\.1 to 10, the smaller"),
        ("{affine: {scale: [1]}}", r"augment\.affine\.scale should be a list of 2 values"),
        ("{color_jitter: {hue: 0.6}}", r"augment\.color_jitter\.hue must be 0 to 0\.5, got 0\.6\."),
        ("{color_jitter: {contrast: -1}}", r"augment\.color_jitter\.contrast must be 0 to 1, got -1\."),
        ("{grayscale: {probability: 2}}", r"augment\.grayscale\.probability must be 0 to 1, got 2\."),
        ("{blur: {sigma: [0, 2]}}", r"augment\.blur\.sigma must be two values from 0\.01 to 50"),
        ("{random_resized_crop: {scale: [0.5, 2]}}", r"augment\.random_resized_crop\.scale must be two values"),
        ("{erase: {fill: white}}", r"augment\.erase\.fill should be 'noise', 'mean' or 'black', got 'white'"),
        ("{cutout: {size: 0}}", r"augment\.cutout\.size must be 1 to 4096, got 0\."),
        ("{auto_augment: {policy: mnist}}", r"augment\.auto_augment\.policy should be 'imagenet', 'cifar10' or 'svhn'"),
        ("{rand_augment: {magnitude: 31}}", r"augment\.rand_augment\.magnitude must be 0 to 30, got 31\."),
        ("{aug_mix: {severity: 11}}", r"augment\.aug_mix\.severity must be 1 to 10, got 11\."),
        ("{mixup: {alpha: 0}}", r"augment\.mixup\.alpha must be 0\.01 to 100, got 0\."),
        ("{cutmix: {probability: -0.1}}", r"augment\.cutmix\.probability must be 0 to 1, got -0\.1\."),
        ("{vertical_flip: {probability: 7}}", r"augment\.vertical_flip\.probability must be 0 to 1, got 7\."),
        ("{trivial_augment: {magnitude: 7}}", r"Unknown setting 'augment\.trivial_augment\.magnitude'"),
        ("flip, flip", "augment names 'flip' twice, which would draw the same numbers twice"),
        ("{resize_progressively: {start: 224}}", r"\.start \(224\) must be less than data\.image_size \(224\)"),
        ("{resize_progressively: {epochs: 20}}", r"\.epochs \(20\) must be less than epochs \(20\)"),
        ("resize_progressively, crop", "resize_progressively stands before crop, which would undo it"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(entry: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        override(Recipe(), [f"augment=[{entry}]"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.repeats=3", "augment=flip"], r"batch_size \(64\) must be a multiple of data\.repeats \(3\)"),
        (["data.repeats=2"], r"data\.repeats \(2\) would put the same pixels into a batch several times"),
        (["data.repeats=0"], r"data\.repeats must be at least 1, got 0"),
    ],
)
def test_repeats_that_would_do_nothing_or_not_fit_are_refused(settings: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        override(Recipe(), settings)


def test_a_setting_is_reached_by_its_dotted_name() -> None:
    recipe = override(Recipe(), ["augment=[flip, {mixup: {alpha: 0.4}}]", "augment.mixup.probability=0.5"])
    assert recipe == override(Recipe(), ["augment=[flip, {mixup: {alpha: 0.4, probability: 0.5}}]"])
