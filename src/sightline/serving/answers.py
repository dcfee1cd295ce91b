"""What is sent back: JSON with stable names."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response

from sightline.serving.payloads import Options
from sightline.serving.problems import Problem, RequestError
from sightline.serving.served import Loaded
from sightline.serving.work import Answer

DECIMALS = 6
"""Of a probability, as `sightline predict` prints it."""


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class JSON(Response):
    """Plain values as JSON. What a client called its file may hold what UTF-8 has no bytes for."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Compact, without NaN."""
        return _ENCODER.encode(content).encode("utf-8", "replace")


def predicted(loaded: Loaded, names: Sequence[str], rows: Sequence[Answer], options: Options) -> dict[str, Any]:
    """The answer for a request's images. Raises RequestError when none of them has one."""
    images = [_image(loaded, name, row, options) for name, row in zip(names, rows, strict=True)]
    problems = [(name, row) for name, row in zip(names, rows, strict=True) if isinstance(row, Problem)]
    if len(problems) == len(images):
        name, first = problems[0]
        raise RequestError(Problem(first.code, first.message, name), details={"images": images})
    return {"model": loaded.name, "fingerprint": loaded.fingerprint, "images": images}


def _image(loaded: Loaded, name: str, row: Answer, options: Options) -> dict[str, Any]:
    if isinstance(row, Problem):
        return {"name": name, "error": Problem(row.code, row.message, name).plain()}
    guesses = loaded.predictor.guesses(row, options.top_k)
    listed = [{"label": guess.label, "probability": round(guess.probability, DECIMALS)} for guess in guesses]
    answer: dict[str, Any] = {"name": name, "predictions": listed}
    if options.probabilities:
        answer["probabilities"] = by_label(loaded, row)
    return answer


def by_label(loaded: Loaded, row: NDArray[np.float64]) -> dict[str, float]:
    """Every class's probability, in the model's order."""
    values = (round(value, DECIMALS) for value in row.tolist())
    return dict(zip(loaded.predictor.spec.classes, values, strict=True))
