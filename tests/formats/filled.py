"""A model folder whose every tensor matters, so that a comparison isn't one of zeros."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from models.reference import fill_randomly

from sightline import catalog
from sightline.exported_folder import ExportedFolder
from sightline.formats import find_format
from sightline.model_folder import Architecture, Calibration, ModelFolder, ModelSpec, Provenance, Thresholds
from sightline.models import create_model
from sightline.preprocess import Preprocess

CLASSES = ("blue", "green", "red")

Exports = Callable[..., ExportedFolder]
"""(format, pixels=, precision=) -> the export, as the fixture `exports` gives it."""

NAMES = catalog.names("sightline.formats")
SLOW = {"executorch"}
"""Formats whose libraries alone take some seconds to import."""


def marks(name: str) -> list[pytest.MarkDecorator]:
    """What keeps a format's tests out of the default run, or of any where its packages aren't installed."""
    lacking = [module for module in find_format(name).modules if importlib.util.find_spec(module) is None]
    return [
        *([pytest.mark.slow] if name in SLOW else []),
        *([pytest.mark.skip(reason=f"{lacking[0]} isn't installed")] if lacking else []),
    ]


FORMATS = [pytest.param(name, marks=marks(name)) for name in NAMES]

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
