"""Faces over time: which of one frame is which of the next, and where one is that was missed in between.

All of it is arithmetic on boxes ``(N, 4)``, x1, y1, x2 and y2 in pixels, by the number of their frame. What covers
faces fails closed: every box that was found is covered whole, and doubt covers more, never less.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np
from attrs import frozen

if TYPE_CHECKING:
    from polyface.arrays import Float64Array, ImageArray, IndexArray

GAP = 30
"""Examined frames in a row in which a face may be missed and still be the same track."""

HOLD = 0.25
"""Seconds for which a face stays covered before it is first and after it is last found."""

SMOOTH = 2
"""Frames on each side that the cover of a face is smoothed over."""

EDGE = 10
"""A face that is first or last found at most so many frames from the edge of its scene stays covered up to there."""

LEAST_IOU = 0.1
"""Boxes of neighbouring frames that overlap so much may be one face, whatever else tells."""

LARGEST_RATIO = 2.0
"""The longer side of a face may differ so much between the frames that have it: a hand hides half of it."""

STEP, STEPS, FARTHEST = 0.5, 0.3, 4.0
"""How far a face may be from where it was expected, in its longer sides: always, more a frame, and at most."""

APART = 1.0
"""Two faces of one frame that are nearer, in their longer sides, may have changed tracks there."""

CUT = 0.4
"""Frames whose histograms differ by more of their pixels may be of different scenes."""

BINS = 8
"""Of each channel in a histogram."""

SAMPLES = 64
"""Rows and columns of a frame that its histogram counts, about."""

LAYOUT = 4
"""Rows and columns of the small picture beside it."""

NOISE = 0.05, 12
"""How far descriptions of one frame may differ that was decoded twice: parts of the pixels, and levels of grey."""


@frozen(eq=False)
class Track:
    """One face over the frames in which it was found.

    Args:
        number: of the track, from 1 on, in the order in which they begin.
        frames: ``(N,)``, ascending: the numbers of the frames.
        boxes: ``(N, 4)``: where it was found.
    """

    number: int
    frames: IndexArray
    boxes: Float64Array


@frozen(eq=False)
class Cover:
    """What is to be covered, frame after frame.

    Args:
        numbers: of the tracks that it belongs to.
        start: the number of the first frame.
        boxes: ``(N, 4)``: where, a row for each frame from the first on.
    """

    numbers: tuple[int, ...]
    start: int
    boxes: Float64Array

    @property
    def stop(self) -> int:
        """The number of the first frame after it."""
        return self.start + len(self.boxes)


@attrs.mutable(eq=False)
class _Live:
    """A track that may go on."""

    number: int
    frame: int  # of the last box
    order: int  # of the last box, counted in examined frames
    box: Float64Array
    speed: Float64Array  # of the middle, in pixels a frame


class Linker:
    """Numbers the faces of one frame after the other: equal numbers are one face. One linker is for one video.

    A face is expected where it was last, and where its motion would have brought it. The pairs of expected and found
    boxes that overlap most are matched first, then those that are nearest. It looks back only, so it serves live.

    Args:
        gap: the examined frames in a row in which a face may be missed.
    """

    def __init__(self, *, gap: int = GAP) -> None:
        self._gap = gap
        self._live: list[_Live] = []
        self._order = 0
        self._count = 0

    def link(self, frame: int, boxes: Float64Array, *, cut: bool = False) -> IndexArray:
        """Return the number ``(N,)`` of the track of each face, from 1 on.

        Args:
            frame: its number, higher than that of the call before.
            boxes: ``(N, 4)``: of its faces.
            cut: a new scene begins with this frame, or began since the one before: no track goes on.
        """
        self._order += 1
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        oldest = self._order - self._gap - 1
        self._live = [] if cut else [track for track in self._live if track.order >= oldest]
        numbers: IndexArray = np.zeros(len(boxes), np.intp)
        for row, column in self._match(frame, boxes):
            self._go_on(self._live[row], frame, boxes[column])
            numbers[column] = self._live[row].number
        for column in np.flatnonzero(numbers == 0).tolist():
            self._count += 1
            numbers[column] = self._count
            self._live.append(_Live(self._count, frame, self._order, boxes[column], np.zeros(2)))
        return numbers

    def _match(self, frame: int, boxes: Float64Array) -> list[tuple[int, int]]:
        """Which live track goes on with which box, the likeliest pairs first; each has one at most."""
        if not self._live or not len(boxes):
            return []
        last = np.stack([track.box for track in self._live])
        steps = np.array([frame - track.frame for track in self._live])
        shift = np.stack([track.speed for track in self._live]) * steps[:, None]
        allowed = _allowed(steps[:, None])
        likely = np.maximum(_likeness(last, boxes, allowed), _likeness(last + np.tile(shift, 2), boxes, allowed))
        likely -= 1e-3 * steps[:, None]  # of two that fit alike, the one that was seen last
        rows, columns = np.nonzero(likely > -1)
        pairs, taken_rows, taken_columns = [], set(), set()
        for at in np.argsort(-likely[rows, columns], kind="stable"):
            row, column = int(rows[at]), int(columns[at])
            if row not in taken_rows and column not in taken_columns:
                pairs.append((row, column))
                taken_rows.add(row)
                taken_columns.add(column)
        return pairs

    def _go_on(self, track: _Live, frame: int, box: Float64Array) -> None:
        speed = (_middles(box) - _middles(track.box)) / (frame - track.frame)
        track.speed = speed if not track.speed.any() else (track.speed + speed) / 2
        track.frame, track.order, track.box = frame, self._order, box


def link(
    examined: Mapping[int, Float64Array],
    *,
    cuts: Collection[int] = (),
    gap: int = GAP,
    numbers: Mapping[int, IndexArray] | None = None,
) -> list[Track]:
    """Return the tracks of a whole video; every box is in one of them, and only one.

    Args:
        examined: by the number of each frame that was examined the boxes ``(N, 4)`` of its faces, of none as well.
        cuts: the numbers of frames with which a new scene begins.
        gap: as of :class:`Linker`. A longer gap parts a track; both parts bear its number.
        numbers: by frame the number of each face's track, which is believed; 0 of those whose track is to be found, and
            gets a number that nobody has.
    """
    linker = Linker(gap=gap)
    ordered = sorted(examined)
    edges = sorted(cuts)
    parts: dict[tuple[int, int], list[tuple[int, Float64Array]]] = {}  # by number and part
    last: dict[int, tuple[int, int, int]] = {}  # by number: part, order and scene of its last box
    before = 0
    highest = max((int(given.max()) for given in (numbers or {}).values() if len(given)), default=0)
    for order, frame in enumerate(ordered):
        boxes = np.asarray(examined[frame], np.float64).reshape(-1, 4)
        scene = bisect.bisect_right(edges, frame)
        found = linker.link(frame, boxes, cut=scene != before)
        if numbers is not None:
            found = np.where(numbers[frame] > 0, numbers[frame], found + highest)
        before = scene
        for number, box in zip(found.tolist(), boxes, strict=True):
            part, seen, where = last.get(number, (0, order, scene))
            # Two faces of one number in a frame are a part each: none of them may be lost.
            twice = seen == order and number in last
            if twice or order - seen > gap + 1 or where != scene:
                part += 1
            last[number] = part, order, scene
            parts.setdefault((number, part), []).append((frame, box))
    return [
        Track(number, np.array([frame for frame, _ in boxes], np.intp), np.stack([box for _, box in boxes]))
        for (number, _), boxes in parts.items()
    ]


def bridge(track: Track, times: Float64Array) -> Cover:
    """Return where a face is in every frame from its first to its last: position and size run evenly over time.

    Args:
        track: of the face.
        times: ``(F,)``: of every frame of the video, in seconds.
    """
    first, last = int(track.frames[0]), int(track.frames[-1])
    moments = _moments(times, first, last)
    known = moments[track.frames - first]
    boxes = np.stack([np.interp(moments, known, side) for side in track.boxes.T], axis=1)
    boxes[track.frames - first] = track.boxes
    return Cover((track.number,), first, boxes)


def hold(cover: Cover, start: int, stop: int) -> Cover:
    """Return a cover from frame ``start`` to before ``stop``: where the face is first and last, and would have moved.

    What is held is the box with that to which the motion of its nearest frames leads, a side of it away at most.
    """
    before, after = max(0, cover.start - start), max(0, stop - cover.stop)
    boxes = cover.boxes
    head = [_drift(boxes, 0, step) for step in range(before, 0, -1)]
    tail = [_drift(boxes, -1, step) for step in range(1, after + 1)]
    return Cover(cover.numbers, cover.start - before, np.stack([*head, *boxes, *tail]))


def smooth(cover: Cover, reach: int = SMOOTH) -> Cover:
    """Return a cover that does not jump: each side the mean, over ``reach`` frames on both sides, of its outermost.

    Each of the means' terms holds the frame's own box, and so does the mean: smoothing uncovers nothing.
    """
    if not reach:
        return cover
    low, high = cover.boxes[:, :2], cover.boxes[:, 2:]
    outer = np.concatenate([-_highest(-low, reach), _highest(high, reach)], axis=1)
    mean = _mean(outer, reach)
    # Rounding must not uncover either.
    return attrs.evolve(
        cover, boxes=np.concatenate([np.minimum(mean[:, :2], low), np.maximum(mean[:, 2:], high)], axis=1)
    )


def cover(
    examined: Mapping[int, Float64Array],
    times: Float64Array,
    *,
    cuts: Collection[int] = (),
    gap: int = GAP,
    seconds: float = HOLD,
    reach: int = SMOOTH,
    numbers: Mapping[int, IndexArray] | None = None,
) -> list[Cover]:
    """Return what is to be covered over a whole video, by what was found in it.

    Tracks are bridged, held, and smoothed, in this order. A track that begins or ends where a face of like size was
    found near by, a few frames before or after, is bridged to that as well: two tracks may be one face.

    Args:
        examined: as of :func:`link`. A frame that was not examined lies between those that were, or is covered whole
            by the caller.
        times: ``(F,)``: of every frame of the video, in seconds.
        cuts: as of :func:`link`; nothing is held beyond them. Beside them, and at both ends of the video, faces are
            held for ``EDGE`` frames at least.
        gap: as of :func:`link`.
        seconds: for how long faces are held before they are first and after they are last found; up to the next frame
            that was examined in any case.
        reach: as of :func:`smooth`.
        numbers: as of :func:`link`.
    """
    edges = sorted({0, len(times), *cuts})
    ordered = sorted(examined)
    tracks = link(examined, cuts=cuts, gap=gap, numbers=numbers)
    found = _Found.of(tracks, ordered, gap)
    covers: list[Cover] = []
    for at, track in enumerate(tracks):
        whole = bridge(track, times)
        scene = bisect.bisect_right(edges, whole.start)
        bounds = edges[scene - 1], edges[scene]
        covers.append(hold(whole, *_span(whole, ordered, times, bounds, seconds)))
        covers += _seams(at, tracks, found, times, bounds)
    return [smooth(one, reach) for one in covers]


def list_covers(covers: Iterable[Cover], count: int) -> Iterator[list[tuple[tuple[int, ...], Float64Array]]]:
    """Yield for each of ``count`` frames its covers: the numbers of their tracks, and the box ``(4,)``."""
    waiting = sorted(covers, key=lambda one: one.start)[::-1]
    live: list[Cover] = []
    for frame in range(count):
        while waiting and waiting[-1].start <= frame:
            live.append(waiting.pop())
        live = [one for one in live if one.stop > frame]
        yield [(one.numbers, one.boxes[frame - one.start]) for one in live]


def describe(image: ImageArray) -> bytes:
    """Return what is to be remembered of an image, to know it again, and to tell scenes apart.

    These are ``3 * BINS`` bytes of a histogram, in parts of 255, and a grey picture of ``LAYOUT**2``.
    """
    height, width = image.shape[:2]
    sample = image[:: max(1, height // SAMPLES), :: max(1, width // SAMPLES)]
    codes = (sample // (256 // BINS)).reshape(-1, 3) + np.arange(3) * BINS
    counts = np.bincount(codes.ravel(), minlength=3 * BINS)
    grey = sample.mean(axis=2)
    cells = [
        part.mean() if part.size else 0
        for row in np.array_split(grey, LAYOUT)
        for part in np.array_split(row, LAYOUT, 1)
    ]
    return bytes(np.rint(np.concatenate([counts * (255 / max(1, len(codes))), cells])).astype(np.uint8))


def differ(one: bytes, other: bytes) -> float:
    """Return by which part of their pixels two images differ in colour, from 0 to 1; the mean over the channels."""
    difference = np.subtract(*(np.frombuffer(what, np.uint8, 3 * BINS).astype(np.int64) for what in (one, other)))
    return float(np.abs(difference).sum() / (2 * 3 * 255))


def is_same(one: bytes, other: bytes) -> bool:
    """Return whether two descriptions may be of one image, decoded twice; one that is turned is another."""
    if len(one) != len(other):
        return False
    cells = np.subtract(*(np.frombuffer(what, np.uint8, offset=3 * BINS).astype(np.int64) for what in (one, other)))
    return differ(one, other) <= NOISE[0] and int(np.abs(cells).max()) <= NOISE[1]


def find_cuts(described: Sequence[tuple[int, bytes]], *, reach: int = EDGE) -> list[int]:
    """Return the numbers of the frames with which a new scene begins.

    One begins where none of the ``reach`` frames before is like any of the ``reach`` frames from there on. So a flash,
    or what passes before the camera, is none: a face that is missed meanwhile is still bridged.

    Args:
        described: frames in order, each its number and what :func:`describe` says of it.
        reach: frames on both sides.
    """
    cuts = []
    for at in range(1, len(described)):
        if differ(described[at - 1][1], described[at][1]) <= CUT:
            continue
        before, after = described[max(0, at - reach) : at], described[at : at + reach]
        if all(differ(one, other) > CUT for (_, one), (_, other) in itertools.product(before, after)):
            cuts.append(described[at][0])
    return cuts


def _moments(times: Float64Array, first: int, last: int) -> Float64Array:
    """When the frames from first to last are; by their numbers where their times do not rise."""
    moments = np.asarray(times[first : last + 1], np.float64)
    if len(moments) != last - first + 1 or not (np.diff(moments) > 0).all():
        return np.arange(first, last + 1, dtype=np.float64)
    return moments


def _span(
    cover: Cover, ordered: Sequence[int], times: Float64Array, scene: tuple[int, int], seconds: float
) -> tuple[int, int]:
    """From where to before where a face is held."""
    begin, end = scene
    start, stop = cover.start, cover.stop
    lower, upper = times[start] - seconds, times[stop - 1] + seconds
    low, high = start, stop
    while low > begin and times[low - 1] >= lower:
        low -= 1
    while high < end and times[high] <= upper:
        high += 1
    # The frames up to the next examined one were not looked at.
    before, after = bisect.bisect_left(ordered, start), bisect.bisect_left(ordered, stop)
    low = min(low, ordered[before - 1] + 1 if before else begin)
    high = max(high, ordered[after] if after < len(ordered) else end)
    if start - begin <= EDGE:
        low = begin
    if end - stop <= EDGE:
        high = end
    return max(low, begin), min(high, end)


@frozen(eq=False)
class _Found:
    """All boxes of a video, by frame.

    Args:
        frames: ``(N,)``, ascending.
        boxes: ``(N, 4)``.
        tracks: ``(N,)``: which of the tracks each belongs to.
        ordered: the numbers of the frames that were examined, ascending.
        gap: in how many of these in a row a face may be missed.
    """

    frames: IndexArray
    boxes: Float64Array
    tracks: IndexArray
    ordered: Sequence[int]
    gap: int

    @classmethod
    def of(cls, tracks: Sequence[Track], ordered: Sequence[int], gap: int) -> _Found:
        frames = np.concatenate([np.empty(0, np.intp), *(track.frames for track in tracks)])
        boxes = np.concatenate([np.empty((0, 4)), *(track.boxes for track in tracks)])
        owners = np.repeat(np.arange(len(tracks)), [len(track.frames) for track in tracks])
        order = np.argsort(frames, kind="stable")
        return cls(frames[order], boxes[order], owners[order], ordered, gap)

    def near(self, track: int, end: tuple[int, Float64Array], way: int, scene: tuple[int, int]) -> list[int]:
        """Which boxes before (-1) or after (1) an end of a track may be of its face: the nearest of each other."""
        frame, box = end
        place = bisect.bisect_left(self.ordered, frame) + way * (self.gap + 1)
        bound = self.ordered[min(max(place, 0), len(self.ordered) - 1)]
        lowest, highest = (max(bound, scene[0]), frame - 1) if way < 0 else (frame + 1, min(bound, scene[1] - 1))
        rows = np.arange(*np.searchsorted(self.frames, [lowest, highest + 1]))[::way]
        rows = rows[self.tracks[rows] != track]
        if not len(rows):
            return []
        steps = np.abs(self.frames[rows] - frame)
        # Frames that nobody looked at hide more: a face may have gone twice as far in them, and no limit is known.
        place = bisect.bisect_left(self.ordered, frame) + way
        unseen = self.frames[rows] == self.ordered[min(max(place, 0), len(self.ordered) - 1)]
        allowed = np.where(unseen, STEP + 2 * STEPS * steps, _allowed(steps))
        rows = rows[_likeness(box[None], self.boxes[rows], allowed[None])[0] > -np.inf]
        first = {int(self.tracks[row]): int(row) for row in rows[::-1]}
        return [row for row in first.values() if abs(int(self.frames[row]) - frame) > 1]


def _seams(
    at: int, tracks: Sequence[Track], found: _Found, times: Float64Array, scene: tuple[int, int]
) -> Iterator[Cover]:
    """What lies between the ends of a track and the nearest boxes of other tracks that may be the same face."""
    track = tracks[at]
    for index, way in ((0, -1), (-1, 1)):
        frame, box = int(track.frames[index]), track.boxes[index]
        for row in found.near(at, (frame, box), way, scene):
            if _is_apart(tracks[found.tracks[row]], frame, box):
                continue
            frames = np.array([frame, found.frames[row]], np.intp)[::way]
            boxes = np.stack([box, found.boxes[row]])[::way]
            numbers = (track.number, tracks[found.tracks[row]].number)
            yield attrs.evolve(bridge(Track(track.number, frames, boxes), times), numbers=numbers)


def _is_apart(track: Track, frame: int, box: Float64Array) -> bool:
    """Whether a track has its face in that frame, too, and away from the box: then it is the face of somebody else."""
    if not track.frames[0] <= frame <= track.frames[-1]:
        return False
    there = np.array([np.interp(frame, track.frames, side) for side in track.boxes.T])
    return bool(_likeness(there[None], box[None], np.array([[APART]]))[0, 0] == -np.inf)


def _allowed(steps: IndexArray) -> Float64Array:
    """How far a face may be from where it is expected so many frames later, in its longer sides."""
    allowed: Float64Array = np.minimum(STEP + STEPS * steps, FARTHEST)
    return allowed


def _likeness(expected: Float64Array, found: Float64Array, allowed: Float64Array) -> Float64Array:
    """How likely boxes ``(N, 4)`` and ``(M, 4)`` are one face that may have gone so far, ``(N, 1 or M)``: ``(N, M)``.

    From 1 to 2 for boxes that overlap, from 0 to 1 for those that are near by, minus infinity for what cannot be.
    """
    low = np.maximum(expected[:, None, :2], found[None, :, :2])
    high = np.minimum(expected[:, None, 2:], found[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    areas = [np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1) for boxes in (expected, found)]
    iou = shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-12)
    sides = [np.maximum((boxes[:, 2:] - boxes[:, :2]).max(axis=1), 1e-6) for boxes in (expected, found)]
    ratio = sides[0][:, None] / sides[1][None]
    side = (sides[0][:, None] + sides[1][None]) / 2
    away = np.hypot(*np.moveaxis(_middles(expected)[:, None] - _middles(found)[None], 2, 0)) / side
    near = (away <= allowed) & (np.maximum(ratio, 1 / ratio) <= LARGEST_RATIO)
    likely: Float64Array = np.where(iou >= LEAST_IOU, 1 + iou, np.where(near, 1 - away / allowed, -np.inf))
    return likely


def _middles(boxes: Float64Array) -> Float64Array:
    middles: Float64Array = (boxes[..., :2] + boxes[..., 2:]) / 2
    return middles


def _drift(boxes: Float64Array, at: int, step: int) -> Float64Array:
    """The box at an end of a cover, with that to which its motion leads in so many frames more."""
    box: Float64Array = boxes[at]
    if len(boxes) < 2:
        return box
    count = min(len(boxes) - 1, 3)  # frames over which motion is measured: one alone shakes
    inner = boxes[count if at == 0 else -1 - count]
    shift = (_middles(box) - _middles(inner)) / count * step
    side = float((box[2:] - box[:2]).max())
    shift = np.clip(shift, -side, side)
    return np.concatenate([box[:2] + np.minimum(shift, 0), box[2:] + np.maximum(shift, 0)])


def _highest(values: Float64Array, reach: int) -> Float64Array:
    """The highest of the rows up to ``reach`` before and after each."""
    padded = np.pad(values, ((reach, reach), (0, 0)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0)
    highest: Float64Array = windows.max(axis=2)
    return highest


def _mean(values: Float64Array, reach: int) -> Float64Array:
    """The mean of the rows up to ``reach`` before and after each."""
    padded = np.pad(values, ((reach, reach), (0, 0)))
    weight = np.pad(np.ones(len(values)), reach)
    window = np.lib.stride_tricks.sliding_window_view
    counts = window(weight, 2 * reach + 1).sum(axis=1)
    mean: Float64Array = window(padded, 2 * reach + 1, axis=0).sum(axis=2) / counts[:, None]
    return mean
