"""What a server is told, and what it allows: every bound in one place, each with its unit."""

import re
from dataclasses import dataclass, field

from sightline.errors import SightlineError

MEGABYTE = 2**20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a client may ask for."""

    max_body_bytes: int = 32 * MEGABYTE
    """Of one request."""
    max_held_bytes: int = 256 * MEGABYTE
    """Of all requests that are being received or answered; beyond it a request is turned away with 429."""
    max_pixels: int = 50_000_000
    """Of one image, by its header, before it is decoded: a few kilobytes can unpack to gigabytes."""
    max_images: int = 64
    """In one request."""
    max_queue: int = 256
    """Images that are accepted and not yet answered; beyond it a request is turned away with 429."""
    max_queue_seconds: float = 3.0
    """For which an accepted image would wait, by the pace of the last answers; beyond it a request is turned away with
    429. It is also how long a server takes to be its usual self after a flood."""
    max_explanations: int = 2
    """Heat maps at a time; each takes some fifty runs of the model."""
    header_seconds: float = 10.0
    """For a connection to send a request's head."""
    body_seconds: float = 30.0
    """For a request to send its body."""
    deadline_seconds: float = 30.0
    """For an accepted request to be answered; then it gets 504 and its work is dropped."""
    drain_seconds: float = 1.0
    """How long a server that is told to stop goes on taking requests, so that clients can turn to another."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name != "drain_seconds" and not value > 0:  # nor what is no number
                raise SightlineError(f"{name} must be greater than 0, got {value}.")
        if not self.drain_seconds >= 0:
            raise SightlineError(f"drain_seconds must be at least 0, got {self.drain_seconds}.")
        if self.max_images > self.max_queue:
            raise SightlineError(
                f"max_images ({self.max_images}) must be at most max_queue ({self.max_queue}): "
                "a request of that many images would never be accepted."
            )


MAX_BATCH = 16
"""Images in a run of a model unless told otherwise."""
LONGEST_WAIT = 10
"""Seconds that an image may be told to wait for others."""


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How images are put together for one run of the model."""

    max_batch: int | None = None
    """Images in a run at most; a model that is opened says of which size up to it an image costs least here. If left
    out 16, of which an engine that would change their bits computes one at a time."""
    max_wait_seconds: float = 0.005
    """How long a decoded image waits for others that are being decoded. With none under way it never waits."""
    decode_threads: int = 0
    """Threads that decode; 0 is one more than the cores, at most 8, and on a single core the model's own."""

    def __post_init__(self) -> None:
        if self.max_batch is not None and self.max_batch < 1:
            raise SightlineError(f"max_batch must be at least 1, got {self.max_batch}.")
        if not 0 <= self.max_wait_seconds <= LONGEST_WAIT:
            raise SightlineError(
                f"max_wait_seconds must be 0 to {LONGEST_WAIT} (--max-wait-ms {LONGEST_WAIT * 1000}), "
                f"got {self.max_wait_seconds}."
            )

    @property
    def largest(self) -> int:
        """Images in a run at most."""
        return self.max_batch or MAX_BATCH


_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
"""As browsers write it: a path, a capital or foreign letter or a wildcard would match no page."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything `sightline serve` can be told."""

    models: tuple[str, ...]
    """Folders, each as PATH or NAME=PATH."""
    host: str = "127.0.0.1"
    port: int = 8000
    """0 takes a free one."""
    workers: int = 1
    """Processes, each with its own copy of the models."""
    threads: int | None = None
    """Threads that a model computes with, in each process; the engine's own choice if left out."""
    device: str = "auto"
    engine: str | None = None
    """As for Predictor.open: the folder's own if left out, "auto" the fastest here."""
    precision: str | None = None
    token: str | None = field(default=None, repr=False)
    """What a client must send as `Authorization: Bearer ...`; None asks for nothing."""
    cors_origins: tuple[str, ...] = ()
    """Other sites whose pages may call this server from a browser, as scheme://host[:port]; "*" is every site."""
    watch_seconds: float = 1.0
    """How often the folders are looked at for a new model; 0 never."""
    access_log: bool = True
    limits: Limits = field(default_factory=Limits)
    batching: Batching = field(default_factory=Batching)

    def __post_init__(self) -> None:
        if not self.models:
            raise SightlineError("Name at least one model folder to serve.")
        if self.workers < 1:
            raise SightlineError(f"workers must be at least 1, got {self.workers}.")
        if not 0 <= self.port <= 65535:
            raise SightlineError(f"port must be 0 to 65535, got {self.port}.")
        wrong = next((each for each in self.cors_origins if each != "*" and not _ORIGIN.fullmatch(each)), None)
        if wrong is not None:
            raise SightlineError(
                "A site whose pages may call is named as scheme://host or scheme://host:port in lower case, such as "
                f"https://example.com, or * for every site; got {wrong!r}."
            )
