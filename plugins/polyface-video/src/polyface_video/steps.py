"""What is done with the results of a video's frames: faces are followed, and placed between the frames examined."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from polyface.results import Detections, Result
from polyface_video.tracks import GAP, Linker, Scenes, describe

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, IndexArray

LOG = logging.getLogger(__name__)

HELD = 2**29
"""Bytes of frames that are held back until the next one is examined; what is more passes without faces."""

MOST = 10_000
"""Results that are held back at most, for the same."""


class Track:
    """Gives each face of a video a ``track_id``: equal numbers are one face. A scene cut ends tracks.

    Images that are no frames, and frames that are not examined, pass as they are.

    Args:
        track: what turns it on.
        track_gap: examined frames in a row in which a face may be missed.
    """

    def __init__(self, *, track: bool = True, track_gap: int = GAP) -> None:  # noqa: ARG002 - it is on
        self._follower = Follower(track_gap)

    def __call__(self, results: Iterable[Result]) -> Iterator[Result]:
        """Yield each result with the column ``track_id``."""
        for result in results:
            if _was_examined(result):
                numbers = self._follower.follow(result)
                yield attrs.evolve(result, faces=_with_columns(result.faces, {"track_id": numbers}))
            else:
                yield result


class Between:
    """Places faces in frames that were not examined: between those before and after, by time.

    Faces have the column ``interpolated``, which says whether theirs is such a place. A face must be found on both
    sides. Frames are held back until the next one is examined.

    Args:
        every: what turns it on, and is for the source.
        fps: likewise.
        held: bytes of frames that are held back at most.
    """

    def __init__(self, *, every: int | None = None, fps: float | None = None, held: int = HELD) -> None:  # noqa: ARG002
        self._most = held
        self._follower = Follower(GAP)
        self._before: tuple[Result, IndexArray] | None = None
        self._waiting: deque[Result] = deque()
        self._bytes = 0
        self._warned = False

    def __call__(self, results: Iterable[Result]) -> Iterator[Result]:
        """Yield each result with its faces, found or interpolated."""
        for result in results:
            video = result.extra.get("video")
            if self._before is not None and self._before[0].extra["video"] != video:
                yield from self._let_go()
                self._before = None
            if _was_examined(result):
                numbers = self._follower.follow(result)
                yield from self._fill(result, numbers)
                found = np.zeros(len(result.faces), bool)
                yield attrs.evolve(result, faces=_with_columns(result.faces, {"interpolated": found}))
                self._before = attrs.evolve(result, image=None, item=None), numbers
            elif self._before is None:
                yield result
            else:
                self._hold(result)
                if self._bytes > self._most or len(self._waiting) > MOST:
                    if not self._warned:
                        what = "frames up to the next examined one take too much memory, and pass without faces"
                        LOG.warning("%s: %s; examine more of them (--every, --fps)", video, what)
                    self._warned = True
                    yield from self._let_go()
        yield from self._let_go()

    def _hold(self, result: Result) -> None:
        if result.image is None and result.item is not None:  # nobody after this step wants its pixels
            result = attrs.evolve(result, item=attrs.evolve(result.item, image=None))
        self._waiting.append(result)
        self._bytes += 0 if result.image is None else result.image.pixels.nbytes

    def _let_go(self) -> Iterator[Result]:
        while self._waiting:
            yield self._waiting.popleft()
        self._bytes = 0

    def _fill(self, after: Result, numbers: IndexArray) -> Iterator[Result]:
        """Yield what waits with the faces that both sides have."""
        if self._before is None:
            return
        before, known = self._before
        _, left, right = np.intersect1d(known, numbers, return_indices=True)
        faces = before.faces[left], after.faces[right]
        while self._waiting:
            result = self._waiting.popleft()
            if result.error is None:
                span = after.extra["time"] - before.extra["time"]
                part = (result.extra["time"] - before.extra["time"]) / span if span > 0 else 0.5
                result = attrs.evolve(result, faces=_mix(*faces, part))
            yield result
            del result
        self._bytes = 0


class Follower:
    """Numbers the faces of videos, one after the other; of one video, each number is given once.

    Args:
        gap: examined frames in a row in which a face may be missed.
    """

    def __init__(self, gap: int) -> None:
        self._gap = gap
        self._video: Any = None
        self._linker, self._scenes = Linker(gap=gap), Scenes()

    def follow(self, result: Result) -> IndexArray:
        """Return the number ``(N,)`` of each face; a column ``track_id`` is believed."""
        if "track_id" in result.faces.extra:
            known: IndexArray = np.asarray(result.faces.extra["track_id"])
            return known
        video, frame = result.extra["video"], result.extra["frame"]
        if video != self._video:
            self._video, self._linker, self._scenes = video, Linker(gap=self._gap), Scenes()
        pixels = _pixels_of(result)
        look = describe(pixels) if isinstance(pixels, np.ndarray) else None
        scene = self._scenes.find(frame, look)
        return self._linker.link(frame, result.faces.boxes.astype(np.float64), scene=scene)


def _was_examined(result: Result) -> bool:
    """Whether a result is that of a frame whose faces were looked for."""
    return result.error is None and "video" in result.extra and result.extra.get("examined", True)


def _pixels_of(result: Result) -> Any:
    pixels = getattr(result.image, "pixels", None)
    return pixels if pixels is not None else getattr(result.item, "image", None)


def _with_columns(faces: Detections, columns: dict[str, Any]) -> Detections:
    return attrs.evolve(faces, extra={**faces.extra, **columns})


def _mix(before: Detections, after: Detections, part: float) -> Detections:
    """The faces ``part`` of the way from those before to those after, which are as many, the highest score first."""

    def mix(one: FloatArray, other: FloatArray) -> FloatArray:
        mixed: FloatArray = ((1 - part) * one + part * other).astype(np.float32)
        return mixed

    marks = None
    if before.landmarks is not None and after.landmarks is not None:
        marks = mix(before.landmarks, after.landmarks)
    faces = Detections(
        boxes=mix(before.boxes, after.boxes),
        scores=mix(before.scores, after.scores),
        landmarks=marks,
        extra={**before.extra, "interpolated": np.ones(len(before), bool)},
    )
    return faces.sort("score")
