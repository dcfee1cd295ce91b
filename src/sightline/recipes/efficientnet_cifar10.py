"""EfficientNet-B0 on CIFAR-10 from random weights: AdamW, cosine per step, flip and crop.

Reached on CIFAR-10 as JPEGs, one run (seed 0) on one thread of a busy 2-core machine, 16,162 seconds of training (4.5
hours): 87.5% (86.8 to 88.1) on the 10,000 test images. The first of its two cosines alone, 25 epochs and 2.3 hours,
reached 86.2% (85.6 to 86.9). docs/log.md has both curves.

The weight decay is what the normalised one of Decoupled Weight Decay Regularization (Loshchilov & Hutter, 2019) gives
for one cosine's length: 0.05 * sqrt(64 / (49,000 * 25)) = 3.6e-4 a step; torch multiplies its own by the learning rate.
"""

from sightline.augmentations.crop import Crop
from sightline.augmentations.flip import Flip
from sightline.recipe import DataConfig, LossConfig, ModelConfig, OptimConfig, Recipe, TrainConfig

ENTRY = Recipe(
    epochs=49,
    batch_size=64,
    model=ModelConfig(name="efficientnet_b0_cifar", dropout=0.2),
    data=DataConfig(
        image_size=32, resize=32, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616), val_fraction=0.02
    ),
    augment=(Crop(padding=4), Flip()),
    loss=LossConfig(label_smoothing=0.1),
    optim=OptimConfig(name="adamw", lr=1.5e-3, weight_decay=0.25, warmup_epochs=1, cycles=2),
    train=TrainConfig(fast="auto", select="last"),
)
