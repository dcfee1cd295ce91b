"""ResNet-18 in CIFAR form on CIFAR-10: the course listing's job.

Its ten epochs have not been run yet: an hour or more on two cores, by estimate. docs/log.md has
two epochs with model.name=resnet20.
"""

from sightline.augmentations.crop import Crop
from sightline.augmentations.flip import Flip
from sightline.recipe import DataConfig, ModelConfig, OptimConfig, Recipe, TrainConfig

ENTRY = Recipe(
    epochs=10,
    batch_size=128,
    model=ModelConfig(name="resnet18_cifar"),
    data=DataConfig(
        image_size=32, resize=32, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616), val_fraction=0.1
    ),
    augment=(Crop(padding=4), Flip()),
    train=TrainConfig(fast="auto"),
    optim=OptimConfig(name="sgd", lr=0.1, momentum=0.9, weight_decay=5e-4),
)
