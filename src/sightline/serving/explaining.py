"""What is done at /v1/explain; the method itself is in `heat`."""

import asyncio
import base64
import time

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from sightline.errors import UnreadableImageError, unknown_name
from sightline.serving.answers import DECIMALS, JSON
from sightline.serving.decoding import decoded_with_size
from sightline.serving.endpoints import Endpoints, answered
from sightline.serving.heat import METHOD, heat_map, occluded, window
from sightline.serving.payloads import Payload, read_payload
from sightline.serving.problems import Problem, RequestError, refuse

EXPLAIN_OPTIONS = frozenset({"model", "label", "name"})


class Explanations:
    """The handler, and how many heat maps it is making."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._explaining = 0

    async def explain(self, request: Request) -> Response:
        """POST /v1/explain: the heat map of one image; a PNG where the client accepts nothing else."""
        deadline = time.monotonic() + self._endpoints.limits.deadline_seconds
        if self._explaining >= self._endpoints.limits.max_explanations:
            sentence = f"{self._explaining} heat maps are being made, which is as many as there may be."
            raise RequestError(Problem("overloaded", sentence), {"retry-after": "2", "connection": "close"})
        self._explaining += 1
        try:
            async with self._endpoints.intake.body(request) as body:
                payload = await read_payload(request, body, self._endpoints.limits, known=EXPLAIN_OPTIONS)
            return await self._explained(request, payload, deadline)
        finally:
            self._explaining -= 1

    async def _explained(self, request: Request, payload: Payload, deadline: float) -> Response:
        options = payload.options
        loaded = self._endpoints.served.find(options.model)
        if len(payload.images) != 1:
            raise refuse("invalid_request", f"A heat map is made of one image; {len(payload.images)} were sent.")
        [(name, content)] = payload.images
        request.scope["note"] |= {"model": loaded.name, "images": 1, "bytes": len(content)}
        spec = loaded.predictor.spec
        if options.label is not None and options.label not in spec.classes:
            where = f"/v1/models/{loaded.name}"
            raise refuse("invalid_request", unknown_name("class", options.label, spec.classes, listing=where))
        try:
            pixels, size = await asyncio.to_thread(
                decoded_with_size, content, spec.preprocess, self._endpoints.limits.max_pixels
            )
        except UnreadableImageError as error:
            raise refuse("unreadable_image", str(error), file=name) from error
        ticket = loaded.batcher.submit_background(occluded(pixels, spec.preprocess), deadline=deadline)
        rows: list[NDArray[np.float64]] = []
        for row in await answered(request, loaded.batcher, ticket):
            if isinstance(row, Problem):
                raise RequestError(row)
            rows.append(row)
        table = np.stack(rows)
        place = int(table[0].argmax()) if options.label is None else spec.classes.index(options.label)
        found = await asyncio.to_thread(heat_map, pixels, table[:, place])
        if request.headers.get("accept") == "image/png":
            return Response(found.overlay, media_type="image/png")
        seen = dict(zip(("left", "top", "width", "height"), window(size, spec.preprocess), strict=True))
        return JSON(
            {
                "model": loaded.name,
                "fingerprint": loaded.fingerprint,
                "name": name,
                "label": spec.classes[place],
                "probability": round(float(table[0, place]), DECIMALS),
                "method": METHOD,
                "grid": [[round(value, 4) for value in line] for line in found.grid.tolist()],
                "window": {side: round(value, DECIMALS) for side, value in seen.items()},
                "overlay": "data:image/png;base64," + base64.b64encode(found.overlay).decode(),
            }
        )
