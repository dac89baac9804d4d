"""How much memory detectors take on each backend, and whether it stays bounded over images of ever new sizes.

Prints a table in Markdown, a row a detector, backend and precision, each in a process of its own::

    python benchmarks/memory.py retinaface-mobilenet025 --backends onnxruntime,openvino:bf16 --images 500

The sizes are all different: height and width are drawn evenly from ``--sides`` by a seeded generator, and the largest
image is among the first 50, so that what is larger afterwards is not owed to a larger image. Resident memory is
that of ``/proc`` after each image, garbage collected; so it takes Linux.
"""

from __future__ import annotations

import argparse
import gc
import json
import mmap
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polyface.plugins.records import BackendSpec

if TYPE_CHECKING:
    from polyface import Config

FIRST = 50
"""Images after which memory is held to what it has been."""


def sizes(count: int, low: int, high: int, seed: int = 0) -> list[tuple[int, int]]:
    """Return that many different heights and widths, each side from ``low`` to ``high``; the largest comes 26th."""
    random = np.random.default_rng(seed)
    found: dict[tuple[int, int], None] = {}
    while len(found) < count:
        found[tuple(random.integers(low, high + 1, 2).tolist())] = None
    drawn = list(found)
    largest = max(range(count), key=lambda index: drawn[index][0] * drawn[index][1])
    drawn[largest], drawn[FIRST // 2] = drawn[FIRST // 2], drawn[largest]
    return drawn


def watch(detect: Callable[[np.ndarray], object], shapes: Iterable[tuple[int, int]]) -> list[int]:
    """Return resident memory in bytes: before the first image of noise, and after each."""
    random = np.random.default_rng(0)
    gc.collect()
    gc.freeze()  # what is loaded stays, and to look through it after each image would take most of the time
    marks = [resident()]
    for height, width in shapes:
        detect(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        gc.collect()
        marks.append(resident())
    return marks


def growth(marks: list[int]) -> float:
    """Return the most after the first 50 images, as a multiple of the most after one of these, not of loading."""
    return max(marks[FIRST + 1 :]) / max(marks[1 : FIRST + 1])


def resident() -> int:
    """Return this process's resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def peak() -> int:
    """Return the most it ever was; not ``getrusage``'s, which starts at that of the process that started this one."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), flags=re.MULTILINE)
    if found is None:
        raise SystemExit("/proc/self/status names no VmHWM: run this on Linux")
    return int(found[1]) * 1024


def measured(config: Config, shapes: list[tuple[int, int]]) -> dict[str, Any]:
    """Return a row's figures in bytes, or why there are none."""
    import polyface

    try:
        with polyface.create_detector(config=config) as detector:
            marks = watch(detector.detect, shapes)
            return {"resident": marks, "growth": growth(marks), "peak": peak()}
    except polyface.PolyfaceError as error:
        return {"why": str(error)}


def alone(config: Config, shapes: list[tuple[int, int]]) -> dict[str, Any]:
    """:func:`measured`, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        try:
            return process.submit(measured, config, shapes).result()
        except BrokenProcessPool:
            return {"why": "its process was killed; if memory ran out, lower --sides"}


def installed() -> str:
    """Every backend and precision that a plugin claims for the CPU."""
    from polyface.plugins.manager import installed_plugins

    return ",".join(
        f"{name}:{precision}"
        for name, record in installed_plugins().by_name(BackendSpec).items()
        for capability in record.capabilities
        if capability.device == "cpu"
        for precision in capability.precisions
    )


def line(label: str, row: dict[str, Any]) -> str:
    if "why" in row:
        return f"| {label} | not run: {' '.join(row['why'].split())} | | | | | |"
    marks = row["resident"]
    figures = (marks[0], marks[FIRST], max(marks[FIRST + 1 :]), marks[-1], row["peak"])
    cells = " | ".join(f"{bytes_ / 1e6:.0f} MB" for bytes_ in figures)
    return f"| {label} | {cells} | {row['growth']:.2f} |"


def main() -> None:
    from polyface.cli.choices import parse_backends
    from polyface.measure.rounds import machine
    from polyface.settings.loading import load_config

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detectors", nargs="*", default=["retinaface-mobilenet025"], metavar="DETECTOR")
    parser.add_argument("--backends", default=None, help="NAME[:PRECISION],...; default: all that are installed")
    parser.add_argument("--weights", default=None)
    parser.add_argument("--score-threshold", type=float, default=None)
    parser.add_argument("--images", type=int, default=500, help=f"more than {FIRST}, each of another size")
    parser.add_argument("--sides", default="160-1280", metavar="LOW-HIGH", help="of the images, in pixels")
    parser.add_argument("--seed", type=int, default=0, help="of the sizes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every mark there, in bytes")
    options = parser.parse_args()
    low, high = (int(side) for side in options.sides.split("-"))
    if not FIRST < options.images <= (high - low + 1) ** 2:
        parser.error(f"--images: more than {FIRST}, and no more than there are sizes")
    shapes = sizes(options.images, low, high, options.seed)
    host = machine()
    print(f"{options.images} images of as many sizes, sides {options.sides}, seed {options.seed}; {host['cpu']}\n")
    print(f"| | loaded | after {FIRST} | most after | last | peak | growth |\n|---|---|---|---|---|---|---|")
    rows = {}
    for detector in options.detectors:
        settings = {
            "detector": detector,
            "view": "plain",
            "weights": options.weights,
            "score_threshold": options.score_threshold,
        }
        config = load_config(device="cpu", **settings)
        for label, one in parse_backends(options.backends or installed(), config).items():
            name = f"{detector} on {label}"
            rows[name] = alone(one, shapes)
            print(line(name, rows[name]), flush=True)
    if options.json:
        report = {"machine": host, "sizes": shapes, "rows": rows}
        options.json.write_text(json.dumps(report) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
