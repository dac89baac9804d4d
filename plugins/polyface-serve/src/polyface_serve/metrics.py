"""What the service counts, in the format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
IMAGES = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]


class Metrics:
    """The counters of one service, in a registry of their own.

    Attributes:
        requests: how many were answered, by path and status.
        seconds: of a request, from its first line to the end of its answer, by path.
        stages: the seconds of a request or an image in each stage, by model: ``upload``, ``queue``, those of the
            detector, and ``answer``, which is drawing up what is sent.
        images: how many were examined, by model and whether they could be.
        faces: how many were found, by model.
        batches: how many images shared a run of the network, by model.
        queue: images that wait or are examined, by model.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        own = self._registry
        self.requests = Counter("polyface_requests", "Requests that were answered.", ["path", "status"], registry=own)
        self.seconds = Histogram(
            "polyface_request_seconds", "Seconds of a request.", ["path"], buckets=SECONDS, registry=own
        )
        self.stages = Histogram(
            "polyface_stage_seconds", "Seconds in a stage.", ["model", "stage"], buckets=SECONDS, registry=own
        )
        self.images = Counter("polyface_images", "Images that were examined.", ["model", "outcome"], registry=own)
        self.faces = Counter("polyface_faces", "Faces that were found.", ["model"], registry=own)
        self.batches = Histogram(
            "polyface_batch_images", "Images that shared a run of the network.", ["model"], buckets=IMAGES, registry=own
        )
        self.queue = Gauge("polyface_queue_images", "Images that wait or are examined.", ["model"], registry=own)

    def watch_queue(self, model: str, length: Callable[[], int]) -> None:
        """Have the queue of a model asked for its length whenever somebody looks."""
        self.queue.labels(model).set_function(length)

    def write(self) -> bytes:
        """Return all of them as text."""
        text: bytes = generate_latest(self._registry)
        return text
