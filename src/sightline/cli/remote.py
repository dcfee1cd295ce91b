"""`--server`, as `predict` has it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sightline.errors import SightlineError, UnreadableImageError

if TYPE_CHECKING:
    from sightline.prediction import Prediction

TOP_K = 3
"""Classes that are printed for an image that has one of them."""


@dataclass(frozen=True)
class Asked:
    """What of the command line goes to the server."""

    server: str
    model: str
    """Its name there."""
    top_k: int | None
    batch_size: int
    """Images in one request."""


def ask_server(
    asked: Asked, images: Iterable[tuple[str, bytes | UnreadableImageError]], *, unused: Mapping[str, object]
) -> "Iterator[Prediction]":
    """The server's predictions. Raises SightlineError for an option, in `unused`, that is not None."""
    from sightline.client import Client

    given = [name for name, value in unused.items() if value is not None]
    if given:
        raise SightlineError(f"{given[0]} is the server's to choose; leave it out with --server.")
    with Client(asked.server, model=asked.model) as client:
        top_k = asked.top_k
        if top_k is None and client.describe()["task"] == "single_label":
            top_k = TOP_K
        yield from client.predict_stream(images, top_k=top_k, batch_size=asked.batch_size)
