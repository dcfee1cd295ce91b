"""Small things that tests make: folders of images, model folders."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sightline.model_folder import Architecture, Calibration, ModelFolder, ModelSpec, Provenance
from sightline.models import create_model
from sightline.preprocess import Preprocess


def make_photos(folder: Path, *, classes: tuple[str, ...] = ("blue", "green", "red"), count: int = 12) -> Path:
    """A folder of class folders; a class's channel is bright, and noise makes each image another."""
    draws = np.random.default_rng(0)
    for channel, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = draws.integers(0, 90, (16, 20, 3), dtype=np.uint8)
            pixels[:, :, channel % 3] += 150
            Image.fromarray(pixels).save(folder / name / f"{number:03}.jpg")
    return folder


def make_folder(
    path: Path,
    classes: tuple[str, ...] = ("blue", "green", "red"),
    *,
    network: str = "resnet20",
    image_size: int = 16,
) -> ModelFolder:
    """A model folder with fresh weights, of a small network unless named."""
    torch.manual_seed(0)
    architecture = Architecture(name=network, num_classes=len(classes), image_size=image_size)
    spec = ModelSpec(
        architecture=architecture,
        classes=classes,
        preprocess=Preprocess(image_size=image_size, resize=image_size + 2),
        calibration=Calibration(temperature=1.5, fitted_on="the validation split, 6 images"),
        provenance=Provenance(command="", created="", data={"location": "digits"}, versions={}),
    )
    model = create_model(network, num_classes=len(classes), image_size=image_size)
    return ModelFolder.write(path, spec, model.state_dict())
