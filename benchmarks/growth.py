"""How the cost of an image grows: with its area, with the batch that it is in, and with the faces that it shows.

Beside polyface-retinaface and the backends it needs the extra ``evaluate``. Run from here: ``python growth.py`` prints
a table, and draws ``growth.png``. Each of the three is measured in interleaved rounds of its own.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from polyface.images.reading import read_image
from polyface.measure.plots import make_figure, save
from polyface.measure.rounds import Contender, Measurement, Samples, machine, measure, polyface_detector
from polyface.settings.config import Config

EXAMPLES = Path(__file__).parents[1] / "examples"
HEADS = {"astronaut": (146, 37, 302, 193), "grace_hopper": (124, 84, 406, 366)}
"""Of the images of one person: a square around the head, xyxy, in pixels."""

DETECTOR = "retinaface-mobilenet025"
BACKENDS = ("onnxruntime", "openvino", "openvino:bf16", "openvino:int8")
AREAS = ((240, 320), (480, 640), (720, 1280), (1080, 1920))
BATCHES = (1, 2, 4, 8)
FACES = (0, 1, 10, 100, 1000)
SMALL, CANVAS = (480, 640), (1200, 1920)
"""Height and width, in pixels: of the images of a batch, and of those with so many faces."""

SIDE = 48
"""Of a head on the canvas, in pixels: a thousand fit, side by side."""


class Point(NamedTuple):
    """A row of the table, on every backend: where it lies on its panel's axis, and the images."""

    label: str
    place: float
    samples: Samples


def canvas(count: int) -> Image.Image:
    """Return a grey image with so many heads, spread over a grid."""
    height, width = CANVAS
    sheet = Image.new("RGB", (width, height), (128, 128, 128))
    heads = [
        Image.fromarray(read_image(EXAMPLES / f"{name}.jpg")).resize((SIDE, SIDE), Image.Resampling.LANCZOS, box)
        for name, box in HEADS.items()
    ]
    rows, columns = height // SIDE, width // SIDE
    for number in range(count):
        row, column = divmod(number * rows * columns // count, columns)
        sheet.paste(heads[number % len(heads)], (column * SIDE, row * SIDE))
    return sheet


def panels(folder: Path) -> dict[str, list[Point]]:
    """Return the points of each panel by what its axis shows; the images with faces are written to ``folder``."""
    faces = []
    for count in FACES:
        path = folder / f"{count}.png"
        canvas(count).save(path)
        faces.append(
            Point(f"{count} face{'' if count == 1 else 's'}", count, Samples(size=None, batch=1, paths=(path,)))
        )
    return {
        "megapixels": [
            Point(f"{height}x{width}", height * width / 1e6, Samples(size=(height, width), batch=1))
            for height, width in AREAS
        ],
        "batch, of 480x640": [Point(f"batch of {n}", n, Samples(size=SMALL, batch=n)) for n in BATCHES],
        "faces, in 1200x1920": faces,
    }


def make(backend: str, samples: Samples) -> Any:
    """Return the call of the detector, as ``make`` of a contender; how many faces it finds is a fact."""
    name, _, precision = backend.partition(":")
    config = Config(
        detector=DETECTOR, backend=name, precision=precision or "fp32", device="cpu", score_threshold=0.5, view="plain"
    )
    call, facts = polyface_detector(config)
    return call, {**facts, "faces": sum(map(len, call(samples.images(0))))}


def cell(one: Measurement, first: Measurement) -> str:
    """Return what the table says of a measurement; ``first`` is the same backend's in the first row of the panel."""
    if one.why or first.why:
        return f"not run: {(one.why or first.why).replace(chr(10), '; ')}"
    memory = "" if one.peak_memory is None else f", {one.peak_memory / 1e6:.0f} MB"
    return f"{one.quartiles[1] * 1000:.1f} ms, x {1 / one.times_as_fast(first):.2f}{memory}"


def draw(axes: Any, points: Sequence[Point], found: Sequence[Sequence[Measurement]]) -> None:
    """Draw a line for each backend: milliseconds for an image, with the quartiles of the rounds."""
    for backend, row in zip(BACKENDS, zip(*found, strict=True), strict=True):
        drawn = [(point, one) for point, one in zip(points, row, strict=True) if not one.why]
        low, median, high = np.array([one.quartiles for _, one in drawn]).reshape(-1, 3).T * 1000
        images = np.array([one.contender.samples.batch for _, one in drawn])
        places = [point.place for point, _ in drawn]
        spread = np.stack([median - low, high - median]) / images
        axes.errorbar(places, median / images, yerr=spread, capsize=3, marker="o", markersize=4, label=backend)
    axes.grid(alpha=0.3)
    axes.set_ylim(bottom=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--plot", type=Path, metavar="FILE", default=Path(__file__).with_name("growth.png"))
    options = parser.parse_args()
    drawing = make_figure(options.plot, rows=3)
    host = machine()
    title = f"{DETECTOR}, {host['cpu']}, {host['usable_cores']} of {host['cores']} cores"
    print(f"{title}, load {host['load']}, {host['date']}, {options.rounds} rounds\n")
    print(f"| | faces found | {' | '.join(BACKENDS)} |\n|---|---|{'---|' * len(BACKENDS)}")
    all_axes = drawing.subplots(1, 3)
    with tempfile.TemporaryDirectory() as folder:
        for axes, (what, points) in zip(all_axes, panels(Path(folder)).items(), strict=True):
            contenders = [
                Contender(label=backend, make=functools.partial(make, backend, point.samples), samples=point.samples)
                for point in points
                for backend in BACKENDS
            ]
            measured, interrupted = measure(contenders, rounds=options.rounds)
            if interrupted:
                raise SystemExit("interrupted")
            found = [measured[start : start + len(BACKENDS)] for start in range(0, len(measured), len(BACKENDS))]
            for point, row in zip(points, found, strict=True):
                faces = dict.fromkeys(str(one.facts["faces"]) for one in row if not one.why)
                cells = [cell(one, first) for one, first in zip(row, found[0], strict=True)]
                print(f"| {point.label} | {' or '.join(faces)} | {' | '.join(cells)} |", flush=True)
            draw(axes, points, found)
            axes.set_xlabel(what)
    all_axes[2].set_xscale("symlog", linthresh=1)  # which has a place for 0
    all_axes[2].set_xlim(-0.3, 2 * FACES[-1])
    all_axes[2].set_xticks(FACES, map(str, FACES))
    all_axes[0].set_ylabel("ms an image")
    all_axes[0].legend(fontsize="small")
    drawing.suptitle(f"{title}: median and quartiles of {options.rounds} rounds", fontsize="small")
    save(drawing, options.plot)
    print(f"\n{options.plot}")


if __name__ == "__main__":
    main()
