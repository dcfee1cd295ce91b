"""A model folder whose every tensor matters, so that a comparison isn't one of zeros."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from models.reference import fill_randomly

from sightline.exported_folder import ExportedFolder
from sightline.model_folder import Architecture, Calibration, ModelFolder, ModelSpec, Provenance, Thresholds
from sightline.models import create_model
from sightline.preprocess import Preprocess

CLASSES = ("blue", "green", "red")

Exports = Callable[..., ExportedFolder]
"""(format, pixels=, precision=) -> the export, as the fixture `exports` gives it."""

PIXELS = {"onnx": True}
"""Which input the tests of a format use by default; the other one is slow, but for torch's."""


def make_filled(path: Path, name: str = "resnet20", *, image_size: int = 16, multi_label: bool = False) -> ModelFolder:
    """Classes blue, green and red; weights, biases and running statistics away from 0 and 1."""
    spec = ModelSpec(
        architecture=Architecture(name=name, num_classes=len(CLASSES), image_size=image_size),
        classes=CLASSES,
        preprocess=Preprocess(image_size=image_size, resize=image_size + 2),
        calibration=Calibration(temperature=1.7, fitted_on="nothing"),
        provenance=Provenance(command="", created="", data={"location": "digits"}, versions={}),
    )
    if multi_label:
        spec = replace(spec, task="multi_label", thresholds=Thresholds(values=(0.4, 0.5, 0.6), fitted_on="nothing"))
    model = create_model(name, num_classes=len(CLASSES), image_size=image_size)
    fill_randomly(model)
    with torch.no_grad():
        return ModelFolder.write(path, spec, model.state_dict())
