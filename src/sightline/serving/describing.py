"""A model in words and figures: what `/v1/models` tells of it."""

from dataclasses import asdict
from typing import Any

from sightline.serving.served import Loaded


def line(loaded: Loaded) -> dict[str, Any]:
    """What a list of models says of each."""
    spec = loaded.predictor.spec
    return {
        "name": loaded.name,
        "fingerprint": loaded.fingerprint,
        "architecture": spec.architecture.name,
        "task": spec.task,
        "num_classes": len(spec.classes),
        "format": _format(loaded),
        "engine": loaded.predictor.engine,
        "loaded": loaded.loaded,
    }


def card(loaded: Loaded) -> dict[str, Any]:
    """The whole trail: from the served model back to the images."""
    spec = loaded.predictor.spec
    return line(loaded) | {
        "classes": list(spec.classes),
        "preprocess": asdict(spec.preprocess),
        "calibration": asdict(spec.calibration),
        "thresholds": None if spec.thresholds is None else asdict(spec.thresholds),
        "figures": spec.figures,
        "provenance": asdict(spec.provenance),
        "artefact": loaded.description.get("artefact"),
        "weights_sha256": spec.weights_sha256,
    }


def _format(loaded: Loaded) -> str:
    artefact = loaded.description.get("artefact")
    return "model folder" if artefact is None else f"{artefact['format']} ({artefact['precision']})"
