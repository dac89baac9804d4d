"""Which views go through the network together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from polyface.images.geometry import Placement


def group_by_shape(frames: Sequence[Placement], batch_size: int, run_pixels: int) -> Iterator[list[int]]:
    """Indices of views that go through the network together: one shape, within the limits, and always one view."""
    by_shape: dict[tuple[int, int], list[int]] = {}
    for index, frame in enumerate(frames):
        by_shape.setdefault(frame.shape, []).append(index)
    for (height, width), indices in by_shape.items():
        size = max(1, min(batch_size, run_pixels // (height * width)))
        for start in range(0, len(indices), size):
            yield indices[start : start + size]
