"""The demo: scikit-learn's 1,797 scanned digits, 8x8 pixels shown at 16."""

from sightline.augmentations.crop import Crop
from sightline.recipe import DataConfig, ModelConfig, OptimConfig, Recipe

ENTRY = Recipe(
    epochs=30,
    batch_size=64,
    model=ModelConfig(name="resnet20"),
    data=DataConfig(image_size=16, resize=16, mean=(0.305, 0.305, 0.305), std=(0.376, 0.376, 0.376)),
    augment=(Crop(padding=1),),
    optim=OptimConfig(name="sgd", lr=0.1, weight_decay=5e-4, warmup_epochs=2),
)
