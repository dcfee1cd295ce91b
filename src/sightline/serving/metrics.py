"""What Prometheus reads at /metrics.

With several processes each writes its figures to files in PROMETHEUS_MULTIPROC_DIR; whichever is asked adds them up.
"""

import os

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The figures of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.requests = Counter("sightline_requests", "Requests answered.", ("endpoint", "status"), registry=own)
        self.latency = Histogram(
            "sightline_request_seconds",
            "From a request's head to its answer.",
            ("endpoint",),
            buckets=SECONDS,
            registry=own,
        )
        self.images = Counter("sightline_images", "Images answered, by outcome.", ("model", "outcome"), registry=own)
        self.batch_size = Histogram("sightline_batch_size", "Images in a run.", ("model",), buckets=SIZES, registry=own)
        self.model_seconds = Histogram(
            "sightline_model_seconds", "Of one run of the model.", ("model",), buckets=SECONDS, registry=own
        )
        self.decode_seconds = Histogram(
            "sightline_decode_seconds", "Of decoding and resizing one image.", ("model",), buckets=SECONDS, registry=own
        )
        self.queue = Gauge(
            "sightline_queue_images",
            "Images accepted and not yet answered.",
            ("model",),
            registry=own,
            multiprocess_mode="livesum",
        )
        self.held = Gauge(
            "sightline_held_bytes", "Bytes of requests in hand.", registry=own, multiprocess_mode="livesum"
        )
        self.reloads = Counter("sightline_reloads", "Models loaded anew.", ("model", "outcome"), registry=own)

    def text(self) -> tuple[bytes, str]:
        """The exposition and its content type."""
        registry = self.registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return generate_latest(registry), CONTENT_TYPE_LATEST
