"""Which images are in memory together, and which of their views go through the network together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from attrs import field, frozen

from polyface.errors import PolyfaceError
from polyface.images.geometry import Placement
from polyface.images.reading import Decoded
from polyface.pipeline.timing import Stopwatch

S = TypeVar("S")

HELD_PIXELS = 2**25
"""Decoded images are held until they have so many pixels, which take 100 MB; the last one may exceed it."""


@frozen(kw_only=True)
class Window(Generic[S]):
    """Items that are in memory together.

    Args:
        items: as they came.
        read: of each, its image, or why it has none.
        watch: where their seconds are counted, by their numbers in the window.
    """

    items: list[S] = field(factory=list)
    read: list[Decoded | PolyfaceError] = field(factory=list)
    watch: Stopwatch

    @property
    def images(self) -> dict[int, Decoded]:
        """The images by their numbers in the window."""
        return {number: image for number, image in enumerate(self.read) if isinstance(image, Decoded)}


def read_windows(
    items: Iterable[S], read: Callable[[S], Decoded | PolyfaceError], *, most: float = math.inf, timing: bool = False
) -> Iterator[Window[S]]:
    """Yield the items in windows: at most ``most``, and no more than memory is meant to hold.

    Items are taken when their window is asked for, and no earlier, and it lets go of them when the next is asked for.
    What ``read`` raises ends the windows. Where ``items`` itself raises, what was read comes first.
    """
    remaining, more = iter(items), True
    while more:
        window: Window[S] = Window(watch=Stopwatch(on=timing))
        pixels, more, failure = 0, False, None
        while not more:
            try:
                item = next(remaining)
            except StopIteration:
                break
            except Exception as error:  # noqa: BLE001 - what was taken before it is worth having
                failure = error
                break
            window.items.append(item)
            with window.watch.stage("read", [len(window.read)]):
                window.read.append(read(item))
            image = window.read[-1]
            pixels += math.prod(image.pixels.shape[:2]) if isinstance(image, Decoded) else 0
            more = len(window.items) >= most or pixels >= HELD_PIXELS
        if window.items:
            yield window
            window.items.clear()
            window.read.clear()
        if failure is not None:
            raise failure


def group_by_shape(placements: Sequence[Placement], batch_size: int, run_pixels: int) -> Iterator[list[int]]:
    """Indices of views that go through the network together: one shape, within the limits, and always one view."""
    by_shape: dict[tuple[int, int], list[int]] = {}
    for index, placement in enumerate(placements):
        by_shape.setdefault(placement.shape, []).append(index)
    for (height, width), indices in by_shape.items():
        size = max(1, min(batch_size, run_pixels // (height * width)))
        for start in range(0, len(indices), size):
            yield indices[start : start + size]
