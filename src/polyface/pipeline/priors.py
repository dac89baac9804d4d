"""The priors of the shapes that a detector has seen lately."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polyface.arrays import FloatArray

KEPT_PRIOR_BYTES = 8 * 1024 * 1024
"""Bytes of priors that a detector keeps. RetinaFace has 0.35 MB for an input of 1024x704 pixels, 4 MB for its largest
run."""


class PriorCache:
    """Makes the priors of a height and width of input once, and keeps those used last, up to ``most`` bytes of them.

    Threads may share it: two that ask for a new shape at once may both make it. There is no lock that a fork could
    leave held.
    """

    def __init__(self, make: Callable[[int, int], FloatArray], most: int = KEPT_PRIOR_BYTES) -> None:
        self._make = make
        self._most = most
        self._kept: dict[tuple[int, int], FloatArray] = {}  # the one used last comes last

    def __call__(self, height: int, width: int) -> FloatArray:
        priors = self._kept.pop((height, width), None)
        if priors is None:
            priors = self._make(height, width)
        self._kept[height, width] = priors
        held = list(self._kept.items())
        size = sum(kept.nbytes for _, kept in held)
        for shape, kept in held:
            if size <= self._most:
                break
            self._kept.pop(shape, None)
            size -= kept.nbytes
        return priors
