"""fastai's Learner on a network of this package, with its own loaders and loop. Prints the second epoch's images/s."""

import json
import sys
import time
from typing import Any

from fastai.vision.all import (
    SGD,
    Callback,
    CropPad,
    Flip,
    ImageDataLoaders,
    Learner,
    Normalize,
    RandomResizedCrop,
    imagenet_stats,
)
from torch import nn

from sightline.models import create_model


class Stopwatch(Callback):
    """Seconds and images of each epoch's training part."""

    def before_fit(self) -> None:
        self.rates: list[float] = []

    def before_train(self) -> None:
        self.began, self.seen = time.perf_counter(), 0

    def after_batch(self) -> None:
        if self.training:
            self.seen += len(self.yb[0])

    def after_train(self) -> None:
        self.rates.append(self.seen / (time.perf_counter() - self.began))


def main(data: str, network: str, pixels: int, batch: int, device: str) -> None:
    item: Any = RandomResizedCrop(pixels) if pixels > 64 else CropPad(pixels)
    loaders = ImageDataLoaders.from_folder(
        data,
        train="train",
        valid="validation",
        bs=batch,
        num_workers=2,
        item_tfms=item,
        batch_tfms=[Flip(), Normalize.from_stats(*imagenet_stats)],
        device=device,
    )
    watch = Stopwatch()
    model = create_model(network, num_classes=10, image_size=pixels)
    learner = Learner(loaders, model, loss_func=nn.CrossEntropyLoss(), opt_func=SGD, lr=0.05, wd=5e-4, cbs=[watch])
    with learner.no_bar(), learner.no_logging():
        learner.fit(2)
    print(json.dumps({"images_per_second": watch.rates[-1]}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
