"""EfficientNet-B0 on CIFAR-10 from random weights: AdamW, cosine per step, flip and crop.

The weight decay is what Loshchilov & Hutter's normalised one gives for this length (2019, appendix B.1):
0.05 * sqrt(64 / (49,000 * 25)) = 3.6e-4 a step, and torch multiplies its own by the learning rate.
"""

from sightline.augmentations.crop import Crop
from sightline.augmentations.flip import Flip
from sightline.recipe import DataConfig, LossConfig, ModelConfig, OptimConfig, Recipe, TrainConfig

ENTRY = Recipe(
    epochs=25,
    batch_size=64,
    model=ModelConfig(name="efficientnet_b0_cifar", dropout=0.2),
    data=DataConfig(
        image_size=32, resize=32, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616), val_fraction=0.02
    ),
    augment=(Crop(padding=4), Flip()),
    loss=LossConfig(label_smoothing=0.1),
    optim=OptimConfig(name="adamw", lr=1.5e-3, weight_decay=0.25, warmup_epochs=1),
    train=TrainConfig(precision="bf16", channels_last=True, depthwise_float32=True, select="last"),
)
