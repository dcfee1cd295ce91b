"""Which augmentation is worth its time, on 3,000 images."""

from dataclasses import replace

from sightline.recipes.cifar10_16 import ENTRY as RECIPE
from sightline.studies import Factor, Level, Study

_CROP = "{crop: {padding: 2}}"

ENTRY = Study(
    question="Which augmentation helps on few images?",
    recipe=replace(
        RECIPE,
        epochs=8,
        augment=(),
        data=replace(RECIPE.data, max_train_images=3000),
        train=replace(RECIPE.train, validate_every=2),
    ),
    factors=(
        Factor(
            name="augment",
            levels=(
                Level(label="none", settings=()),
                Level(label="flip, crop", settings=(f"augment=[{_CROP}, flip]",)),
                Level(label="flip, crop, cutout", settings=(f"augment=[{_CROP}, flip, {{cutout: {{size: 6}}}}]",)),
                Level(label="flip, crop, trivial", settings=(f"augment=[{_CROP}, flip, trivial_augment]",)),
                Level(label="flip, crop, mixup", settings=(f"augment=[{_CROP}, flip, mixup]",)),
            ),
        ),
    ),
)
