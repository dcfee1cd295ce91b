"""Any folder of photos: the default recipe, from random weights.

Reached on 400 photos of ten classes (40 each of Imagenette, 290 to train on), one run, 190 seconds on two cores:
50.0% (37.7 to 62.3) on 60 test images. A folder this small wants published weights (model.pretrained) or more photos.
"""

from sightline.augmentations.crop import Crop
from sightline.augmentations.flip import Flip
from sightline.recipe import DataConfig, LossConfig, ModelConfig, OptimConfig, Recipe, TrainConfig

ENTRY = Recipe(
    epochs=20,
    batch_size=32,
    model=ModelConfig(name="resnet18"),
    data=DataConfig(image_size=128, resize=146),
    augment=(Crop(), Flip()),
    loss=LossConfig(label_smoothing=0.1),
    optim=OptimConfig(name="adamw", lr=1e-3, weight_decay=0.05, warmup_epochs=1),
    train=TrainConfig(fast="auto"),
)
