"""Serving: model folders answer over HTTP.

The way of a request: `app` (routes) -> `door` (request ids, token, errors, log) -> `payloads` (body -> images, within
`limits`) -> `batching` (decode beside the model, one run for many images) -> `Predictor` -> `answers` (JSON).
`served` holds the models and swaps them, `workers` the processes. docs/serving.md is the manual.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from sightline.deps import require

if TYPE_CHECKING:
    from sightline.serving.limits import Settings


def serve(settings: "Settings", *, on_listening: Callable[[str], None] = lambda _address: None) -> None:
    """Serve until SIGTERM or Ctrl-C; what was accepted is answered before this returns.

    `on_listening` is told the address once the models are open and requests are answered.
    Raises SightlineError for a folder that is no model, an address that can't be had, and a missing package.
    """
    for module in ("uvicorn", "starlette", "python_multipart", "prometheus_client"):
        require(module, extra="serve", purpose="Serving")
    from sightline.serving.workers import run

    run(settings, on_listening)
