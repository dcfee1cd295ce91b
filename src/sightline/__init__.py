"""Sightline: from a folder of images to a served, compressed classifier, with evidence at every step.

The public names are loaded on first use, so that importing the package takes milliseconds.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sightline.adopting import adopt
    from sightline.benchmarking import bench
    from sightline.compression import compress
    from sightline.data.prepare import check
    from sightline.errors import SightlineError
    from sightline.evaluation import evaluate
    from sightline.exporting import export
    from sightline.model_folder import ModelFolder
    from sightline.models import create_model
    from sightline.prediction import Predictor
    from sightline.recipe import Recipe
    from sightline.recipes import find_recipe
    from sightline.reports import write_report
    from sightline.training import resume, train

__all__ = [
    "ModelFolder",
    "Predictor",
    "Recipe",
    "SightlineError",
    "adopt",
    "bench",
    "check",
    "compress",
    "create_model",
    "evaluate",
    "export",
    "find_recipe",
    "resume",
    "train",
    "write_report",
]

_HOMES = {
    "ModelFolder": "sightline.model_folder",
    "Predictor": "sightline.prediction",
    "Recipe": "sightline.recipe",
    "SightlineError": "sightline.errors",
    "adopt": "sightline.adopting",
    "bench": "sightline.benchmarking",
    "check": "sightline.data.prepare",
    "compress": "sightline.compression",
    "create_model": "sightline.models",
    "evaluate": "sightline.evaluation",
    "export": "sightline.exporting",
    "find_recipe": "sightline.recipes",
    "resume": "sightline.training",
    "train": "sightline.training",
    "write_report": "sightline.reports",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'sightline' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        from sightline.deps import explained

        missing = explained(error, purpose=f"sightline.{name}")
        raise missing or error from error


def __dir__() -> list[str]:
    return __all__
