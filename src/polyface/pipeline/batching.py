"""Which images are in memory together, and which of their views go through the network together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from attrs import field, frozen

from polyface.errors import ContractError, PolyfaceError
from polyface.images.geometry import Placement
from polyface.images.reading import Decoded
from polyface.pipeline.timing import Stopwatch
from polyface.plugins.protocols import Execution, Session

if TYPE_CHECKING:
    from polyface.arrays import FloatArray

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
    items: Iterable[S],
    read: Callable[[S], Decoded | PolyfaceError],
    *,
    most: float = math.inf,
    pixels: int | None = None,
    timing: bool = False,
) -> Iterator[Window[S]]:
    """Yield the items in windows: at most ``most``, until there are ``pixels``, by default :data:`HELD_PIXELS`.

    Items are taken when their window is asked for, and no earlier, and it lets go of them when the next is asked for.
    What ``read`` raises ends the windows. Where ``items`` itself raises, what was read comes first.
    """
    remaining, more = iter(items), True
    enough = HELD_PIXELS if pixels is None else pixels
    while more:
        window: Window[S] = Window(watch=Stopwatch(on=timing))
        held, more, failure = 0, False, None
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
            held += math.prod(image.pixels.shape[:2]) if isinstance(image, Decoded) else 0
            more = len(window.items) >= most or held >= enough
        if window.items:
            yield window
            window.items.clear()
            window.read.clear()
        if failure is not None:
            raise failure


def group_by_shape(
    placements: Sequence[Placement], batch_size: int, run_pixels: int, multiple: int = 1
) -> Iterator[list[int]]:
    """Indices of views that go through the network together: one shape, within the limits, and always one view.

    A network that takes a fixed number of images, ``multiple``, gets as many runs of that as the limits allow, or one.
    """
    by_shape: dict[tuple[int, int], list[int]] = {}
    for index, placement in enumerate(placements):
        by_shape.setdefault(placement.shape, []).append(index)
    for (height, width), indices in by_shape.items():
        size = max(1, min(batch_size, run_pixels // (height * width)) // multiple) * multiple
        for start in range(0, len(indices), size):
            yield indices[start : start + size]


def in_batches(session: Session, size: int | None) -> Session:
    """Return what runs any number of images on a session that takes ``size`` at a time; ``None`` is any number."""
    return session if size is None else _InBatches(session, size)


@frozen
class _InBatches:
    """A session whose last run is filled up with zeros, whose rows go."""

    _session: Session
    _size: int

    @property
    def execution(self) -> Execution:
        return self._session.execution

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        [(name, image)] = inputs.items()
        parts = []
        for start in range(0, len(image), self._size):
            part = image[start : start + self._size]
            missing = self._size - len(part)
            if missing:
                part = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)])
            outputs = self._session.run({name: part})
            if wrong := [key for key, rows in outputs.items() if len(rows) != self._size]:
                raise ContractError(
                    f"Of {self._size} images, the outputs {', '.join(wrong)} have another number of rows."
                )
            parts.append({key: rows[: self._size - missing] for key, rows in outputs.items()})
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]} if parts[1:] else parts[0]

    def close(self) -> None:
        self._session.close()
