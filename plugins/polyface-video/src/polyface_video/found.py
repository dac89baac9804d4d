"""What a journal, or a file of faces that ``polyface detect`` wrote and somebody edited, says of a video's faces."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import field, frozen

from polyface.errors import ConfigError, Fix
from polyface_video import tracks

if TYPE_CHECKING:
    from polyface.arrays import Float64Array, IndexArray

MOST = 10_000_000
"""The highest number of a frame or a track: forty hours of sixty frames a second. More is a slip."""

LARGEST = 1e6
"""Pixels: no side of a box is further away."""

UNKNOWN = 0
"""Stands for the number of a face's track, which is 1 or more, where none is given."""


@frozen(kw_only=True)
class Found:
    """What the lines of a journal say of a video.

    Args:
        size: width and height of frames that boxes are in pixels of: those of the first; ``None`` where none is told.
        first: the number of the first frame that is written.
        last: of the last.
        examined: by number, the boxes ``(N, 4)`` of each frame that was examined wholly.
        numbers: likewise those of their tracks, ``UNKNOWN`` where they are not given; ``None`` where none is.
        placed: the faces in lines of frames that were not examined, interpolated or written by somebody.
        hidden: the frames that are to be covered whole.
        known: by number, when frames are shown.
        looks: by number, what is remembered of frames.
        sizes: likewise their width and height.
        undescribed: whether of some that have pixels nothing is.
    """

    size: tuple[int, int] | None
    first: int
    last: int
    examined: Mapping[int, Float64Array]
    numbers: Mapping[int, IndexArray] | None
    placed: Sequence[tracks.Cover] = field(repr=False)
    hidden: frozenset[int]
    known: Mapping[int, float]
    looks: Mapping[int, bytes] = field(repr=False)
    sizes: Mapping[int, tuple[int, int]] = field(repr=False)
    undescribed: bool

    @property
    def times(self) -> Float64Array:
        """When each frame is shown, from 0 to the last one that is known."""
        frames = np.array(sorted(self.known))
        times: Float64Array = np.interp(
            np.arange(frames[-1] + 1), frames, [self.known[frame] for frame in frames.tolist()]
        )
        return times

    @classmethod
    def of(cls, lines: Iterable[Mapping[str, Any]], start: float = 0.0, end: float = math.inf) -> Found:
        """Read the lines; of a frame that has several, the faces of all count, and so does any failure.

        Args:
            lines: such as :func:`find_mistake` finds none in.
            start: frames that are shown earlier are not written; in seconds.
            end: frames that are shown then or later are not written.
        """
        examined: dict[int, Float64Array] = {}
        numbers: dict[int, IndexArray] = {}
        passed, failed = set[int](), set[int]()
        known, looks, sizes = dict[int, float](), dict[int, bytes](), dict[int, tuple[int, int]]()
        placed: list[tracks.Cover] = []
        undescribed = False
        size: tuple[int, int] | None = None
        for line in lines:
            if "frame" not in line:  # what ended the video
                continue
            frame = line["frame"]
            known[frame] = line["time"]
            if "look" in line:
                looks[frame] = bytes.fromhex(line["look"])
            if line.get("width") is not None:
                sizes[frame] = line["width"], line["height"]
                undescribed |= "look" not in line
            faces = line["faces"] or ()
            boxes = sort_corners([face["box"] for face in faces])
            if frame in sizes:
                size = sizes[frame] if size is None else size
                boxes *= scale_of(sizes[frame], size)
            ids = np.array([face.get("track_id", UNKNOWN) for face in faces], np.intp)
            if line.get("error") is not None or line.get("truncated") or line.get("damaged"):
                failed.add(frame)
            elif line.get("examined") is False:
                passed.add(frame)
                placed += map(tracks.Cover, ids[:, None].tolist(), itertools.repeat(frame), boxes[:, None])
            else:
                examined[frame] = np.concatenate([examined.get(frame, boxes[:0]), boxes])
                numbers[frame] = np.concatenate([numbers.get(frame, ids[:0]), ids])
        written = [frame for frame, time in known.items() if start <= time < end]
        all_frames = range(min(known, default=0), max(known, default=-1) + 1)
        hidden = failed | ({*all_frames} - examined.keys() - passed)
        return cls(
            size=size,
            first=min(written, default=0),
            last=max(written, default=-1),
            examined={frame: boxes for frame, boxes in examined.items() if frame not in failed},
            numbers=numbers if any(ids.any() for ids in numbers.values()) else None,
            placed=placed,
            hidden=frozenset(hidden | _beside(passed, hidden)),
            known=known,
            looks=looks,
            sizes=sizes,
            undescribed=undescribed,
        )


def read_faces(path: Path) -> bytes:
    """Return what is in a file of faces, without empty lines.

    Raises:
        ConfigError: it cannot be read, or a line is none of a video's frame.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read.", why=[str(error)], fix=Fix("choose another file")) from error
    lines = data.splitlines(keepends=True)
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            mistake = find_mistake(json.loads(text))
        except ValueError:
            mistake = "it is no JSON"
        if mistake:
            raise ConfigError(
                f"{path} is no file of a video's faces.",
                why=[f"line {number}: {mistake}"],
                fix=Fix("mend the line, or have polyface detect write the file anew"),
            )
    return b"".join(line for line in lines if line.strip())


def find_mistake(line: Any) -> str:
    """Return what is wrong with a line; nothing if it says of a frame what :class:`Found` reads."""
    if not isinstance(line, dict) or not all(isinstance(line.get(key), str) for key in ("image", "video")):
        return "it lacks the image's or the video's name"
    if "frame" not in line and isinstance(line.get("error"), str):
        return ""  # what ended the video
    if not _is_count(line.get("frame")) or not _is_number(line.get("time")):
        return f"it lacks the frame's number, from 0 to {MOST}, or its time in seconds"
    if line.get("width") is not None and not (_is_count(line["width"]) and _is_count(line.get("height"))):
        return "its width and height are no whole numbers"
    faces = line.get("faces")
    if not isinstance(faces, list):
        return "" if faces is None and line.get("error") is not None else "it has no list of faces"
    return next(filter(None, itertools.starmap(_find_mistake_of_face, enumerate(faces, 1))), "")


def _find_mistake_of_face(number: int, face: Any) -> str:
    box = face.get("box") if isinstance(face, dict) else None
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return f"its face {number} has no box of four numbers, in pixels"
    if "track_id" in face and (not _is_count(face["track_id"]) or face["track_id"] == UNKNOWN):
        return f"the track_id of its face {number} is no whole number from 1 to {MOST}"
    return ""


def sort_corners(boxes: Sequence[Sequence[float]]) -> Float64Array:
    """Return boxes ``(N, 4)``; one that is inside out would shrink where others grow."""
    corners = np.sort(np.array(boxes, np.float64).reshape(-1, 2, 2), axis=1)
    sorted_: Float64Array = corners.reshape(-1, 4)
    return sorted_


def scale_of(size: tuple[int, int], other: tuple[int, int]) -> Float64Array:
    """Return what takes boxes in pixels of one size, width and height, to those of another: ``(4,)``."""
    return np.tile(np.array(other, np.float64) / np.maximum(size, 1), 2)


def list_unheld(placed: Iterable[tracks.Cover], covers: Iterable[tracks.Cover], count: int) -> Iterator[tracks.Cover]:
    """Yield the faces, each of one frame, that none of the covers holds there, but for a pixel.

    Those that were interpolated lie in the covers of their tracks, which are the better ones; what is not in one was
    written, or moved, by somebody.
    """
    by_frame: dict[int, list[tracks.Cover]] = {}
    for face in placed:
        by_frame.setdefault(face.start, []).append(face)
    for frame, live in enumerate(tracks.list_covers(covers, count)):
        boxes = np.array([box for _, box in live], np.float64).reshape(-1, 4)
        for face in by_frame.get(frame, ()):
            inside = (boxes[:, :2] <= face.boxes[0, :2] + 1) & (boxes[:, 2:] >= face.boxes[0, 2:] - 1)
            if not inside.all(axis=1).any():
                yield face


def _beside(passed: set[int], hidden: set[int]) -> set[int]:
    """Frames that were passed over, and of which the next on a side that was not could not be examined."""
    after, before = set[int](), set[int]()
    for frame in sorted(passed):
        if frame - 1 in hidden or frame - 1 in after:
            after.add(frame)
    for frame in sorted(passed, reverse=True):
        if frame + 1 in hidden or frame + 1 in before:
            before.add(frame)
    return after | before


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= LARGEST


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST
