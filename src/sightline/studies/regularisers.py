"""What closes the gap between training and validation, on 2,000 images without augmentation.

Few images and many epochs, so that there is something to close. The baseline has no regulariser at all.
"""

from dataclasses import replace

from sightline.recipes.cifar10_16 import ENTRY as RECIPE
from sightline.studies import Factor, Level, Study

ENTRY = Study(
    question="Which regulariser narrows the gap between training and validation?",
    recipe=replace(
        RECIPE,
        epochs=12,
        augment=(),
        data=replace(RECIPE.data, max_train_images=2000),
        optim=replace(RECIPE.optim, weight_decay=0.0),
        train=replace(RECIPE.train, validate_every=3),
    ),
    factors=(
        Factor(
            name="regulariser",
            levels=(
                Level(label="none", settings=()),
                Level(label="weight decay", settings=("optim.weight_decay=5e-4",)),
                Level(label="label smoothing", settings=("loss.label_smoothing=0.1",)),
                Level(label="dropout", settings=("model.dropout=0.3",)),
                Level(label="flip and crop", settings=("augment=[{crop: {padding: 2}}, flip]",)),
            ),
        ),
    ),
)
