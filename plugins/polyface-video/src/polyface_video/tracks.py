"""Faces over time: which of one frame is which of the next, and where one is that was missed in between.

All of it is arithmetic on boxes ``(N, 4)``, x1, y1, x2 and y2 in pixels, by the number of their frame. What covers
faces fails closed: every box that was found is covered whole, and doubt covers more, never less.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

PACE = 3
"""Boxes over which the motion of a face is measured: from one to the next alone it shakes."""

APART = 1.0
"""Two faces of one frame that are nearer, in their longer sides, may have changed tracks there."""

CUT = 0.4
"""Frames that follow each other are of different scenes where more of their pixels differ in colour."""

LIKELY_CUT = 0.15, 14
"""So they are where fewer do, if light lies elsewhere, too: so many levels of grey, in the mean of small pictures. Pans
move light, and change fewer colours; faces that move change the small pictures by up to 8."""

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
        scene: the number of its scene.
        frames: ``(N,)``, ascending: the numbers of the frames.
        boxes: ``(N, 4)``: where it was found.
    """

    number: int
    scene: int
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
    scene: int


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

    def link(self, frame: int, boxes: Float64Array, *, scene: int = 0) -> IndexArray:
        """Return the number ``(N,)`` of the track of each face, from 1 on.

        Args:
            frame: its number, higher than that of the call before.
            boxes: ``(N, 4)``: of its faces.
            scene: the number of its scene, as of :class:`Scenes`; a track is of one scene.
        """
        self._order += 1
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        oldest = self._order - self._gap - 1
        self._live = [track for track in self._live if track.order >= oldest]
        live = [track for track in self._live if track.scene == scene]
        numbers: IndexArray = np.zeros(len(boxes), np.intp)
        for row, column in self._match(live, frame, boxes):
            self._go_on(live[row], frame, boxes[column])
            numbers[column] = live[row].number
        for column in np.flatnonzero(numbers == 0).tolist():
            self._count += 1
            numbers[column] = self._count
            self._live.append(_Live(self._count, frame, self._order, boxes[column], np.zeros(2), scene))
        return numbers

    def _match(self, live: Sequence[_Live], frame: int, boxes: Float64Array) -> list[tuple[int, int]]:
        """Which live track goes on with which box, the likeliest pairs first; each has one at most."""
        if not live or not len(boxes):
            return []
        last = np.stack([track.box for track in live])
        steps = np.array([frame - track.frame for track in live])
        shift = np.stack([track.speed for track in live]) * steps[:, None]
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
    scenes: IndexArray | None = None,
    gap: int = GAP,
    numbers: Mapping[int, IndexArray] | None = None,
) -> list[Track]:
    """Return the tracks of a whole video; every box is in one of them, and only one.

    Args:
        examined: by the number of each frame that was examined the boxes ``(N, 4)`` of its faces, of none as well.
        scenes: as of :func:`find_scenes`; one scene by default.
        gap: as of :class:`Linker`. A longer gap parts a track; both parts bear its number.
        numbers: by frame the number of each face's track, which is believed; 0 of those whose track is to be found, and
            gets a number that nobody has.
    """
    linker = Linker(gap=gap)
    parts: dict[tuple[int, int, int], list[tuple[int, Float64Array]]] = {}  # by number, scene and part
    last: dict[tuple[int, int], tuple[int, int]] = {}  # by number and scene: part and order of its last box
    highest = max((int(given.max()) for given in (numbers or {}).values() if len(given)), default=0)
    for order, frame in enumerate(sorted(examined)):
        boxes = np.asarray(examined[frame], np.float64).reshape(-1, 4)
        scene = 0 if scenes is None else int(scenes[frame])
        found = linker.link(frame, boxes, scene=scene)
        if numbers is not None:
            found = np.where(numbers[frame] > 0, numbers[frame], found + highest)
        for number, box in zip(found.tolist(), boxes, strict=True):
            part, seen = last.get((number, scene), (0, order - 1))
            # Two faces of one number in a frame are a part each: none of them may be lost.
            part += seen == order or order - seen > gap + 1
            last[number, scene] = part, order
            parts.setdefault((number, scene, part), []).append((frame, box))
    return [
        Track(number, scene, np.array([frame for frame, _ in boxes], np.intp), np.stack([box for _, box in boxes]))
        for (number, scene, _), boxes in parts.items()
    ]


def bridge(track: Track, times: Float64Array) -> Cover:
    """Return where a face is in every frame from its first to its last.

    Where it was missed, that is two ways over the gap and what lies between them: straight and even over time, and the
    cubic curve that leaves and arrives as the face moved before and after (Hermite's). They part where it swings.

    Args:
        track: of the face.
        times: ``(F,)``: of every frame of the video, in seconds.
    """
    first, last = int(track.frames[0]), int(track.frames[-1])
    moments = _moments(times, first, last)
    known = moments[track.frames - first]
    straight = np.stack([np.interp(moments, known, side) for side in track.boxes.T], axis=1)
    boxes = straight.copy()
    for at in np.flatnonzero(np.diff(track.frames) > 1).tolist():
        gap = slice(int(track.frames[at]) - first + 1, int(track.frames[at + 1]) - first)
        shift = _bend(track.boxes, known, at, moments[gap])
        boxes[gap, :2] += np.minimum(shift, 0)
        boxes[gap, 2:] += np.maximum(shift, 0)
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
    scenes: IndexArray | None = None,
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
        scenes: as of :func:`link`; nothing is held beyond them. At their ends faces are held for ``EDGE`` frames at
            least.
        gap: as of :func:`link`.
        seconds: for how long faces are held before they are first and after they are last found; up to the next frame
            that was examined in any case.
        reach: as of :func:`smooth`.
        numbers: as of :func:`link`.
    """
    ordered = sorted(examined)
    tracks = link(examined, scenes=scenes, gap=gap, numbers=numbers)
    found = _Found.of(tracks, ordered, gap)
    covers: list[Cover] = []
    for at, track in enumerate(tracks):
        whole = bridge(track, times)
        bounds = (0, len(times)) if scenes is None else _bounds(scenes, track.scene)
        covers.append(hold(whole, *_span(whole, ordered, times, bounds, seconds)))
        covers += _seams(at, tracks, found, times)
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
    return differ(one, other) <= NOISE[0] and int(np.abs(_subtract_layouts(one, other)).max()) <= NOISE[1]


class Scenes:
    """Numbers the scenes of a video, frame after frame.

    A frame that is unlike the one before begins a scene, unless it is like one of the last ten: so a flash, or what
    passes before the camera, is a scene of its own between two parts of another. It looks back only, so it serves live.
    """

    def __init__(self) -> None:
        self._count = 0
        self._recent: list[tuple[int, int, bytes]] = []  # number, last frame and what that showed; the latest first

    def find(self, frame: int, look: bytes | None) -> int:
        """Return the number of a frame's scene, from 0 on.

        Args:
            frame: its number, higher than that of the call before.
            look: what :func:`describe` says of it; ``None`` of one that nobody saw, which is of the last scene.
        """
        if look is None:
            return self._recent[0][0] if self._recent else 0
        recent = [one for one in self._recent if frame - one[1] <= EDGE + 1]
        number = next((known for known, _, seen in self._recent[:1] + recent if not _is_cut(seen, look)), self._count)
        self._count = max(self._count, number + 1)
        self._recent = [(number, frame, look), *(one for one in recent if one[0] != number)]
        return number


def find_scenes(looks: Mapping[int, bytes], count: int) -> IndexArray:
    """Return the number ``(count,)`` of each frame's scene.

    Args:
        looks: what :func:`describe` says of frames, by their numbers.
        count: of frames.
    """
    scenes = Scenes()
    return np.array([scenes.find(frame, looks.get(frame)) for frame in range(count)], np.intp)


def _is_cut(one: bytes, other: bytes) -> bool:
    """Whether two frames, one of which follows the other, are of different scenes."""
    colours = differ(one, other)
    likely = colours > LIKELY_CUT[0] and float(np.abs(_subtract_layouts(one, other)).mean()) > LIKELY_CUT[1]
    return colours > CUT or likely


def _subtract_layouts(one: bytes, other: bytes) -> IndexArray:
    """The difference of the small pictures of two descriptions, in levels."""
    both = (np.frombuffer(what, np.uint8, offset=3 * BINS).astype(np.intp) for what in (one, other))
    return np.subtract(*both)


def _bounds(scenes: IndexArray, number: int) -> tuple[int, int]:
    """The first frame of a scene, and that after its last; others may lie between."""
    frames = np.flatnonzero(scenes == number)
    return int(frames[0]), int(frames[-1]) + 1


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
        scenes: of each track.
        ordered: the numbers of the frames that were examined, ascending.
        gap: in how many of these in a row a face may be missed.
    """

    frames: IndexArray
    boxes: Float64Array
    tracks: IndexArray
    scenes: IndexArray
    ordered: Sequence[int]
    gap: int

    @classmethod
    def of(cls, tracks: Sequence[Track], ordered: Sequence[int], gap: int) -> _Found:
        frames = np.concatenate([np.empty(0, np.intp), *(track.frames for track in tracks)])
        boxes = np.concatenate([np.empty((0, 4)), *(track.boxes for track in tracks)])
        owners = np.repeat(np.arange(len(tracks)), [len(track.frames) for track in tracks])
        order = np.argsort(frames, kind="stable")
        scenes = np.array([track.scene for track in tracks], np.intp)
        return cls(frames[order], boxes[order], owners[order], scenes, ordered, gap)

    def near(self, track: int, end: tuple[int, Float64Array], way: int) -> list[int]:
        """Which boxes before (-1) or after (1) an end of a track may be of its face: the nearest of each other."""
        frame, box = end
        place = bisect.bisect_left(self.ordered, frame) + way * (self.gap + 1)
        bound = self.ordered[min(max(place, 0), len(self.ordered) - 1)]
        lowest, highest = (bound, frame - 1) if way < 0 else (frame + 1, bound)
        rows = np.arange(*np.searchsorted(self.frames, [lowest, highest + 1]))[::way]
        owners = self.tracks[rows]
        rows = rows[(owners != track) & (self.scenes[owners] == self.scenes[track])]
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


def _seams(at: int, tracks: Sequence[Track], found: _Found, times: Float64Array) -> Iterator[Cover]:
    """What lies between the ends of a track and the nearest boxes of other tracks that may be the same face."""
    track = tracks[at]
    for index, way in ((0, -1), (-1, 1)):
        frame, box = int(track.frames[index]), track.boxes[index]
        for row in found.near(at, (frame, box), way):
            if _is_apart(tracks[found.tracks[row]], frame, box):
                continue
            frames = np.array([frame, found.frames[row]], np.intp)[::way]
            boxes = np.stack([box, found.boxes[row]])[::way]
            numbers = (track.number, tracks[found.tracks[row]].number)
            yield attrs.evolve(bridge(Track(track.number, track.scene, frames, boxes), times), numbers=numbers)


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
    count = min(len(boxes) - 1, PACE)
    inner = boxes[count if at == 0 else -1 - count]
    shift = (_middles(box) - _middles(inner)) / count * step
    side = float((box[2:] - box[:2]).max())
    shift = np.clip(shift, -side, side)
    return np.concatenate([box[:2] + np.minimum(shift, 0), box[2:] + np.maximum(shift, 0)])


def _bend(boxes: Float64Array, moments: Float64Array, at: int, within: Float64Array) -> Float64Array:
    """How far the curved way between a box and the next lies from the straight one at moments within: ``(N, 2)``."""
    length = moments[at + 1] - moments[at]
    ends = _middles(boxes[at]), _middles(boxes[at + 1])
    straight = ends[1] - ends[0]
    before = boxes[max(at - PACE, 0) : at + 1], moments[max(at - PACE, 0) : at + 1]
    after = boxes[at + 1 : at + 2 + PACE], moments[at + 1 : at + 2 + PACE]
    # A way that nothing is known of is straight there.
    leaves, arrives = (
        straight if len(part) < 2 else (_middles(part[-1]) - _middles(part[0])) / (when[-1] - when[0]) * length
        for part, when in (before, after)
    )
    part = ((within - moments[at]) / length)[:, None]
    shift = part * (1 - part) * ((1 - part) * (leaves - straight) - part * (arrives - straight))
    side = float((boxes[at : at + 2, 2:] - boxes[at : at + 2, :2]).max())
    bent: Float64Array = np.clip(shift, -FARTHEST * side, FARTHEST * side)
    return bent


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
