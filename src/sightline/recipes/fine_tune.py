"""Any folder of photos, from published ImageNet weights: a head by regression first, then everything, gently.

EfficientNet-B0 with torchvision's weights, which are downloaded once. With EfficientNet-Lite0's in their place (B0's
were not at hand), on 400 pictures of CIFAR-10 at 224 pixels, three seeds: 71.5% (standard deviation 1.0) of 1,000 test
images; the head alone 65.1%, everything trained from a fresh head 43.8%. docs/log.md has the runs.

The head first: Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution (Kumar et al., 2022).
"""

from sightline.augmentations.flip import Flip
from sightline.augmentations.random_resized_crop import RandomResizedCrop
from sightline.recipe import DataConfig, FineTuneConfig, LossConfig, ModelConfig, OptimConfig, Recipe, TrainConfig

ENTRY = Recipe(
    epochs=10,
    batch_size=32,
    model=ModelConfig(name="efficientnet_b0", pretrained="torchvision:IMAGENET1K_V1"),
    data=DataConfig(image_size=224, resize=256, interpolation="bicubic"),
    augment=(RandomResizedCrop(scale=(0.35, 1.0)), Flip()),
    loss=LossConfig(label_smoothing=0.1),
    optim=OptimConfig(name="adamw", lr=3e-4, weight_decay=0.05, warmup_epochs=1),
    train=TrainConfig(fast="auto", select="last"),
    finetune=FineTuneConfig(probe_first=True, keep_statistics=True),
)
