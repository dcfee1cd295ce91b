"""What is done at /v1/explain; the method itself is in `heat`."""

import asyncio
import base64
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from sightline.errors import UnreadableImageError, unknown_name
from sightline.serving.answers import DECIMALS, JSON
from sightline.serving.decoding import decoded_with_size
from sightline.serving.endpoints import Endpoints, answered
from sightline.serving.heat import METHOD, HeatMap, heat_map, occluded, window
from sightline.serving.payloads import Payload, read_payload
from sightline.serving.problems import Problem, RequestError, refuse
from sightline.serving.served import Loaded
from sightline.serving.work import Answer

EXPLAIN_OPTIONS = frozenset({"model", "label", "name"})


class Explanations:
    """The handler, and how many heat maps it is making."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._explaining = 0

    async def explain(self, request: Request) -> Response:
        """POST /v1/explain: the heat map of one image; a PNG where the client accepts nothing else."""
        deadline = time.monotonic() + self._endpoints.limits.deadline_seconds
        async with self._endpoints.intake.body(request) as body:
            payload = await read_payload(request, body, self._endpoints.limits, known=EXPLAIN_OPTIONS)
            del body
            with self._counted():
                loaded = self._endpoints.served.find(payload.options.model)
                with loaded.batcher.kept():  # the model may be swapped while the image is decoded
                    return await self._explained(request, payload, loaded, deadline)

    @contextmanager
    def _counted(self) -> Generator[None]:
        """Within the block a heat map counts as being made. Raises RequestError where as many are as may be."""
        if self._explaining >= self._endpoints.limits.max_explanations:
            sentence = f"{self._explaining} heat maps are being made, which is as many as there may be."
            raise RequestError(Problem("overloaded", sentence), {"retry-after": "2"})
        self._explaining += 1
        try:
            yield
        finally:
            self._explaining -= 1

    async def _explained(self, request: Request, payload: Payload, loaded: Loaded, deadline: float) -> Response:
        spec = loaded.predictor.spec
        label = payload.options.label
        if len(payload.images) != 1:
            raise refuse("invalid_request", f"A heat map is made of one image; {len(payload.images)} were sent.")
        if label is not None and label not in spec.classes:
            where = f"/v1/models/{loaded.name}"
            raise refuse("invalid_request", unknown_name("class", label, spec.classes, listing=where))
        [(name, content)] = payload.images
        request.scope["note"] |= {"model": loaded.name, "images": 1, "bytes": len(content)}
        try:
            pixels, size = await asyncio.to_thread(
                decoded_with_size, content, spec.preprocess, self._endpoints.limits.max_pixels
            )
        except UnreadableImageError as error:
            raise refuse("unreadable_image", str(error), file=name) from error
        ticket = loaded.batcher.submit_background(occluded(pixels, spec.preprocess), deadline=deadline)
        table = _table(await answered(request, loaded.batcher, ticket))
        place = int(table[0].argmax()) if label is None else spec.classes.index(label)
        others = None if spec.multi_label else np.delete(table, place, axis=1).sum(axis=1)
        found = await asyncio.to_thread(heat_map, pixels, table[:, place], others)
        if request.headers.get("accept") == "image/png":
            return Response(found.overlay, media_type="image/png")
        seen = dict(zip(("left", "top", "width", "height"), window(size, spec.preprocess), strict=True))
        answer: dict[str, Any] = {"model": loaded.name, "fingerprint": loaded.fingerprint, "name": name}
        answer |= {"label": spec.classes[place], "probability": round(float(table[0, place]), DECIMALS)}
        return JSON(answer | _plain(found) | {"window": {side: round(part, DECIMALS) for side, part in seen.items()}})


def _table(rows: list[Answer]) -> NDArray[np.float64]:
    """(B, K). Raises RequestError for the first that has no answer."""
    table: list[NDArray[np.float64]] = []
    for row in rows:
        if isinstance(row, Problem):
            raise RequestError(row)
        table.append(row)
    return np.stack(table)


def _plain(found: HeatMap) -> dict[str, Any]:
    return {
        "method": METHOD,
        "grid": [[round(value, 4) for value in line] for line in found.grid.tolist()],
        "overlay": "data:image/png;base64," + base64.b64encode(found.overlay).decode(),
    }
