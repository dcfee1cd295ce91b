"""A small part of CIFAR-10 at 16 pixels: what the shipped studies hold, small enough for two cores."""

from sightline.augmentations.crop import Crop
from sightline.augmentations.flip import Flip
from sightline.recipe import DataConfig, ModelConfig, OptimConfig, Recipe, TrainConfig

ENTRY = Recipe(
    epochs=5,
    batch_size=128,
    model=ModelConfig(name="resnet20"),
    data=DataConfig(
        image_size=16,
        resize=16,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        val_fraction=0.06,
        max_train_images=6000,
        num_workers=0,
    ),
    augment=(Crop(padding=2), Flip()),
    optim=OptimConfig(name="sgd", lr=0.1, momentum=0.9, weight_decay=5e-4, warmup_epochs=1),
    train=TrainConfig(fast="auto", select="last"),
)
