"""Where the seconds of a call go."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

STAGES = ("read", "prepare", "network", "trim", "decode", "nms")
"""The stages of an image, in their order; ``polyface detect`` adds ``write``."""


class Stopwatch:
    """The seconds of a call, by image and stage. Stages may overlap, in several threads.

    What is done for several images at once is shared out equally, so that the seconds of all images add up to those of
    the call, where no two stages overlap.

    Args:
        on: whether to measure; off, a stage costs next to nothing.
    """

    def __init__(self, *, on: bool) -> None:
        self._on = on
        self._seconds: defaultdict[int, dict[str, float]] = defaultdict(lambda: dict.fromkeys(STAGES, 0.0))
        self._lock = threading.Lock()

    def stage(self, name: str, images: Sequence[int]) -> contextlib.AbstractContextManager[None]:
        """Return a context whose seconds count for one of :data:`STAGES`, of images by their indices.

        An image with two views in a batch stands there twice, and bears two shares.
        """
        return self._span(name, images) if self._on else contextlib.nullcontext()

    @contextlib.contextmanager
    def _span(self, name: str, images: Sequence[int]) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            share = (time.perf_counter() - started) / len(images)
            with self._lock:
                for image in images:
                    self._seconds[image][name] += share

    def seconds(self, image: int) -> dict[str, float] | None:
        """Return an image's seconds by stage; ``None`` if nothing was measured."""
        return self._seconds[image] if self._on else None

    def forget(self, image: int) -> None:
        """Let go of an image's seconds."""
        self._seconds.pop(image, None)
