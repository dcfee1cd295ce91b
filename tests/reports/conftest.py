from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image

from sightline.evaluation.metrics import Evaluation, evaluate_logits
from sightline.reports.report import ModelLine, PicturedMistake, Report

AUDIT = {
    "num_images": 1200,
    "imbalance": 2.5,
    "problems": ["1 image can't be read."],
    "location": "/data/photos",
    "counts": {"bee": 700, "cat": 500},
    "split_counts": {"train": {"bee": 600, "cat": 400}, "test": {"bee": 100, "cat": 99}},
    "unreadable": [{"path": "bee/broken.jpg", "split": "train", "reason": "the file is empty"}],
    "duplicates": [],
    "leaks": [{"paths": ["bee/1.jpg", "bee/2.jpg"], "labels": ["bee"], "splits": ["train", "test"]}],
    "near_duplicates": [{"paths": ["bee/1.jpg", "bee/2.jpg"], "labels": ["bee"], "splits": ["train", "test"]}],
    "sides": [24, 480, 3024],
    "modes": {"RGB": 1190, "L": 10},
    "totals": {"unreadable": 1, "leaks": 1},
}


def evaluation(classes: Sequence[str], num_images: int = 300, strength: float = 2.0, seed: int = 0) -> Evaluation:
    random = np.random.default_rng(seed)
    targets = random.integers(len(classes), size=num_images)
    logits = random.normal(size=(num_images, len(classes)))
    logits[np.arange(num_images), targets] += strength
    paths = [f"{classes[target]}/{row}.jpg" for row, target in enumerate(targets)]
    return evaluate_logits(logits, targets, classes, temperature=1.5, paths=paths, num_mistakes=4)


@pytest.fixture
def make_evaluation() -> Callable[..., Evaluation]:
    return evaluation


@pytest.fixture
def make_report() -> Callable[..., Report]:
    def make(
        classes: Sequence[str] = ("bee", "cat", "dog"), title: str = "runs/photos", *, curves: bool = True
    ) -> Report:
        test = evaluation(classes)
        history = [
            {"epoch": epoch, "train_loss": 1 / epoch, "train_accuracy": 1 - 1 / epoch, "val_loss": None, "lr": 0.1}
            for epoch in range(1, 6)
        ]
        picture = Image.new("RGB", (300, 200), "teal")
        return Report(
            title=title,
            model=ModelLine(architecture="resnet20", num_params=269_722, num_macs=None, image_size=32),
            test=test,
            val=evaluation(classes, seed=1),
            history=history if curves else (),  # drawing them is most of a page's time
            mistakes=[PicturedMistake(mistake=mistake, image=picture) for mistake in test.mistakes],
            recipe="seed: 0\nepochs: 5\n",
            audit=AUDIT,
            environment={"command": "sightline train photos", "versions": {"torch": "2.15.0"}},
            splits=["15% of the images were held out."],
        )

    return make
