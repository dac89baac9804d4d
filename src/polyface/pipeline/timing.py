"""Where the seconds of a call go."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

STAGES = ("read", "prepare", "network", "decode", "nms")
"""The stages of a call, in their order; ``polyface detect`` adds ``draw``."""


class Stopwatch:
    """The seconds of one call, by picture and stage; it belongs to that call, so it is safe from threads.

    What is done for several pictures at once is shared out equally, so the seconds of all pictures add up to those of
    the call.

    Args:
        on: whether to measure; off, a lap does nothing.
    """

    def __init__(self, *, on: bool) -> None:
        self._on = on
        self._seconds: defaultdict[int, dict[str, float]] = defaultdict(lambda: dict.fromkeys(STAGES, 0.0))
        self._last = time.perf_counter() if on else 0.0

    def lap(self, stage: str, pictures: Sequence[int]) -> None:
        """Count the time since the last lap for a stage.

        Args:
            stage: one of :data:`STAGES`.
            pictures: the numbers of those it was for; one that is named twice gets two shares.
        """
        if not self._on:
            return
        now = time.perf_counter()
        share = (now - self._last) / len(pictures)
        for picture in pictures:
            self._seconds[picture][stage] += share
        self._last = now

    def of(self, picture: int) -> dict[str, float] | None:
        """Return a picture's seconds by stage; ``None`` if nothing was measured."""
        return self._seconds[picture] if self._on else None
