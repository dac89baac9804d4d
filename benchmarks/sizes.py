"""From which size of a face to which a detector finds it: the heads of the examples, pasted at every size.

A face counts as found where one box has an IoU of over 0.6 with it and no other box scores over 0.5. Sizes grow by a
fifth. Run from here: ``python sizes.py``, for every installed detector whose weights are on this machine, or
``python sizes.py --detector NAME``; with ``--view plain`` for one view of the network. What a plain view finds is what
a detector's record says under ``face_sizes``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import groupby, product
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

import polyface
from polyface.graphs.weights import select_weights
from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import DetectorSpec

EXAMPLES = Path(__file__).parent.parent / "examples"
BACKGROUNDS = ("plain", "noise", "photograph")
BOXES = {"astronaut": (178.0, 56.7, 273.2, 177.1), "grace_hopper": (177.7, 106.5, 353.9, 327.7)}
"""The faces: x1, y1, x2, y2 in pixels of the examples, as RetinaFace MobileNet0.25 finds them at their own size."""

CASES = tuple(product(BOXES, BACKGROUNDS))
SMALLEST, LARGEST = 12, 4000

MARGIN = 0.15
"""What is pasted of a head beyond its face, as a part of the face's longer side; a hat's emblem looks like a face."""

ROOM = 1.3
"""The image's sides, as a multiple of the head's."""


class Pasted(NamedTuple):
    """An image with one face, and its box."""

    pixels: npt.NDArray[np.uint8]
    box: npt.NDArray[np.float64]


def paste(head: str, size: float, background: str, seed: int = 0) -> Pasted:
    """Return an image with one of the heads, its face ``size`` pixels high, in front of a background.

    Args:
        head: one of ``BOXES``.
        size: the longer side of the face, in pixels.
        background: one of ``BACKGROUNDS``.
        seed: of the noise.
    """
    example = Image.open(EXAMPLES / f"{head}.jpg").convert("RGB")
    face = np.array(BOXES[head])
    longer = max(face[2:] - face[:2])
    wanted = [*(face[:2] - MARGIN * longer), *(face[2:] + MARGIN * longer)]
    crop = np.array([*np.maximum(wanted[:2], 0), *np.minimum(wanted[2:], example.size)])
    width, height = (max(1, round(side)) for side in (crop[2:] - crop[:2]) * size / longer)
    # Large steps of shrinking need the filter's full width, which LANCZOS has; enlarged, a face stays smooth.
    filtered = Image.Resampling.LANCZOS if size < longer else Image.Resampling.BICUBIC
    pasted = example.resize((width, height), filtered, box=tuple(crop.tolist()))
    side = max(64, round(ROOM * max(width, height)) + 16)
    canvas = Image.fromarray(_background(background, side, np.random.default_rng(seed)))
    # The head's edge fades into the background: a sharp rectangle is no part of any photograph.
    fade = max(1, round(0.08 * size))
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, (fade, fade, max(fade + 1, width - fade), max(fade + 1, height - fade)))
    left, top = round(0.6 * (side - width)), round(0.4 * (side - height))
    canvas.paste(pasted, (left, top), mask.filter(ImageFilter.BoxBlur(fade)))
    scale = np.array([width, height] * 2) / np.tile(crop[2:] - crop[:2], 2)
    return Pasted(np.asarray(canvas), (face - np.tile(crop[:2], 2)) * scale + np.array([left, top] * 2))


def _background(kind: str, side: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    if kind == "plain":
        return np.full((side, side, 3), 128, np.uint8)
    if kind == "noise":
        return rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    # The right of the astronaut's image: a flag and a model of a rocket, no face.
    part = Image.open(EXAMPLES / "astronaut.jpg").convert("RGB").crop((300, 0, 512, 212))
    return np.asarray(part.resize((side, side), Image.Resampling.BICUBIC))


def overlap(boxes: npt.NDArray[Any], box: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the IoU ``(N,)`` of ``boxes (N, 4)`` with ``box (4,)``, xyxy."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    shared = np.maximum(sides, 0).prod(axis=1)
    return shared / ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod() - shared)


def found_once(detector: polyface.FaceDetector, pasted: Pasted) -> tuple[bool, int, float]:
    """Return whether the face is found exactly once, the boxes over 0.5, and the best IoU with the face."""
    faces = detector.detect(pasted.pixels)
    boxes = faces.boxes[faces.scores > 0.5].astype(np.float64)
    best = float(overlap(boxes, pasted.box).max(initial=0))
    return len(boxes) == 1 and best > 0.6, len(boxes), best


def sizes(smallest: float, largest: float) -> Iterator[float]:
    """Yield sizes in steps of a fifth."""
    size = smallest
    while size <= largest:
        yield size
        size *= 1.2


def is_here(spec: DetectorSpec) -> bool:
    """Return whether the detector has weights, and the default ones are on this machine."""
    try:
        select_weights(spec, None).locate()
    except polyface.WeightsError:
        return False
    return bool(spec.weights)


def smallest_of(spec: DetectorSpec) -> float:
    """Return the smallest face that the detector's record promises, in pixels."""
    return SMALLEST if spec.face_sizes is None else max(SMALLEST, spec.face_sizes[0])


def longest_run(once: Sequence[tuple[float, bool]]) -> list[float]:
    """Return the longest run of sizes at which all faces were found, from sizes in order."""
    runs = [[size for size, _ in run] for found, run in groupby(once, key=itemgetter(1)) if found]
    return max(runs, key=len, default=[])


def print_table(detector: polyface.FaceDetector, smallest: float, largest: float) -> list[tuple[float, bool]]:
    """Print what a detector finds at each size, and return whether that was every face, once."""
    print(f"\n| face | {' | '.join(f'{head}, {background}' for head, background in CASES)} |")
    print(f"|---|{'---|' * len(CASES)}", flush=True)
    rows = []
    for size in sizes(smallest, largest):
        found = [found_once(detector, paste(head, size, background)) for head, background in CASES]
        cells = [
            f"{best:.2f}" if once else f"**{count} boxes, {best:.2f}**" if count else "**none**"
            for once, count, best in found
        ]
        print(f"| {size:.0f} px | {' | '.join(cells)} |", flush=True)
        rows.append((size, all(once for once, _, _ in found)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detector", action="append", help="may be given several times; all whose weights are here")
    parser.add_argument("--weights", default=None)
    parser.add_argument("--view", default="auto")
    parser.add_argument("--smallest", type=float, default=SMALLEST)
    parser.add_argument("--largest", type=float, default=LARGEST)
    options = parser.parse_args()
    summary = []
    for name in options.detector or [
        name for name, spec in installed_plugins().by_name(DetectorSpec).items() if is_here(spec)
    ]:
        print(f"\n{name}, view {options.view}")
        with polyface.create_detector(
            name, weights=options.weights, view=options.view, score_threshold=0.5
        ) as detector:
            rows = print_table(detector, options.smallest, options.largest)
            run = longest_run(rows)
            seen = "all" if detector.spec.face_sizes is None else "{:g} to {:g} px".format(*detector.spec.face_sizes)
            ends = f"{run[0]:.0f} px | {run[-1]:.0f} px" if run else "- | -"
            summary.append(f"| `{name}` | {seen} | {ends} |")
    print("\n| detector | its network sees | every face is found once from | to |\n|---|---|---|---|")
    print("\n".join(summary))


if __name__ == "__main__":
    main()
