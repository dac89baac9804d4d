"""How many images a second ``detector.stream`` does, for each way in which a backend takes its input.

Prints a table in Markdown, a row a detector, size, batch, backend and input::

    python benchmarks/throughput.py --backends torch:fp16@cuda,cuda-fp16:fp16@cuda --batches 1,8,32
    python benchmarks/throughput.py all --seeded --score-threshold 0.99 --sizes 480x640,1080x1920

The images are arrays of noise, so reading is not in it; preparing, the network, decoding and merging are. Those that
share a row's detector, size and batch live at once and take turns of ``--seconds``, in which the stream is given images
until the time is up; the first turn of each is not counted. The rate is the median of the turns. How many times as fast
is the median, over the turns, of the ratio to the first kind of input on the same backend. Faces are those of the last
image. Exit status is 1 where something was not run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from weights import choose_weights, make_parser, select_detectors

import polyface
from polyface import FaceDetector
from polyface.cli.choices import parse_backends
from polyface.measure.rounds import machine
from polyface.settings.config import Config

INPUTS = ("float32", "uint8")
"""What the networks get: floats, or pixels where the session takes them. Ratios are to the first."""

BACKENDS = "torch:fp16@cuda,cuda-fp16:fp16@cuda"

SAMPLES = 16
"""How many different images go round."""

COLUMNS = ("detector", "height x width", "batch", "backend", "input", "images/s", "times as fast", "faces")

Key: TypeAlias = tuple[str, str]
"""A backend as ``--backends`` calls it, and a kind of input."""

Found: TypeAlias = dict[Key, dict[str, Any]]


def take_turn(detector: FaceDetector, images: Sequence[Any], batch: int, seconds: float) -> tuple[float, int]:
    """Return the images a second of one turn, and the faces of the last image.

    Raises:
        PolyfaceError: an image was not examined.
    """
    start = time.perf_counter()

    def items() -> Iterator[Any]:
        for image in itertools.cycle(images):
            yield image
            if time.perf_counter() - start > seconds:
                return

    done = 0
    for result in detector.stream(items(), batch_size=batch):
        if result.error is not None:
            raise result.error
        done += 1
    return done / (time.perf_counter() - start), len(result.faces)


def measure(
    detectors: Mapping[Key, FaceDetector], images: Sequence[Any], batch: int, options: argparse.Namespace
) -> Found:
    """Return the rates of each detector by turn, and how many faces it finds, or why there are none."""
    found: Found = {key: {"rates": [], "faces": None} for key in detectors}
    for turn in range(1 + options.turns):
        for key, detector in detectors.items():
            if "why" in found[key]:
                continue
            try:
                rate, found[key]["faces"] = take_turn(detector, images, batch, options.seconds)
            except polyface.PolyfaceError as error:
                found[key] = {"why": str(error)}
            else:
                found[key]["rates"] += [rate] if turn else []
    return found


def open_detectors(config: Config, backends: str) -> tuple[dict[Key, FaceDetector], Found]:
    """Return the detectors to compare, and why others are not there."""
    detectors, refused = {}, {}
    for label, one in parse_backends(backends, config).items():
        for kind in INPUTS:
            try:
                detectors[label, kind] = open_detector(one, kind)
            except polyface.PolyfaceError as error:
                refused[label, kind] = {"why": str(error)}
    return detectors, refused


def open_detector(config: Config, kind: str) -> FaceDetector:
    """Return a detector whose network gets this kind of input.

    Raises:
        PolyfaceError: it cannot be had, or its session takes no pixels.
    """
    detector = polyface.create_detector(config=config)
    network = detector._network  # noqa: SLF001 - nobody but a benchmark wants floats where pixels are taken
    if kind == "float32":
        object.__setattr__(network, "pixels", None)
    elif network.pixels is None:
        detector.close()
        raise polyface.UnsupportedError(f"{config.backend} takes no pixels for '{config.detector}' on {config.device}.")
    return detector


def line(row: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    """Return a row of the table; ``first`` is that of the same backend and the first kind of input."""
    cells = [row["detector"], row["size"], row["batch"], row["backend"], row["input"]]
    if "why" in row:
        return f"| {' | '.join(map(str, cells))} | not run: {' '.join(row['why'].split())} | | |"
    ratios = [ours / theirs for ours, theirs in zip(row["rates"], first.get("rates", ()), strict=False)]
    ratio = f"{statistics.median(ratios):.2f}" if ratios else ""
    cells += [f"{statistics.median(row['rates']):.1f}", ratio, row["faces"]]
    return f"| {' | '.join(map(str, cells))} |"


def make_rows(config: Config, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure one detector, print its lines, and yield its rows."""
    detectors, refused = open_detectors(config, options.backends)
    for size, batch in itertools.product(options.sizes.split(","), map(int, options.batches.split(","))):
        shape = (SAMPLES, *map(int, size.split("x")), 3)
        images = list(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
        found = measure(detectors, images, batch, options) | refused
        for (label, kind), figures in found.items():
            asked = {"detector": config.detector, "size": size, "batch": batch, "backend": label, "input": kind}
            row = asked | figures
            print(line(row, found[label, INPUTS[0]]), flush=True)
            yield row
    for detector in detectors.values():
        detector.close()


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--backends", default=BACKENDS, metavar="NAME[:PRECISION][@DEVICE],...")
    parser.add_argument("--sizes", default="640x640", metavar="HEIGHTxWIDTH,...")
    parser.add_argument("--batches", default="1,8,32", metavar="N,...")
    parser.add_argument("--score-threshold", type=float, help="default: the detector's own")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1, help="of a turn")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rates of every turn there")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    options = parse(given)
    detectors = select_detectors(options.detectors)
    report: dict[str, Any] = {"machine": machine(), "turns": options.turns, "seconds": options.seconds, "rows": []}
    print(f"{report['machine']['cpu']}, {options.turns} turns of {options.seconds:g} seconds after one\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    for spec in detectors:
        with tempfile.TemporaryDirectory() as folder:
            weights = choose_weights(spec, options, Path(folder))
            config = Config(detector=spec.name, weights=weights, view="plain", score_threshold=options.score_threshold)
            for row in make_rows(config, options):
                report["rows"].append(row)
                if options.json:
                    options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 1 if any("why" in row for row in report["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
