"""How much memory detectors take on each backend, and whether it stays bounded over images of ever new sizes.

Prints a table in Markdown, a row a detector, backend and precision, each in a process of its own::

    python benchmarks/memory.py retinaface-mobilenet025 --backends onnxruntime,openvino:bf16 --images 500
    python benchmarks/memory.py --backends torch:fp16@cuda,cuda-fp16:fp16@cuda --images 200

The sizes are all different: height and width are drawn evenly from ``--sides`` by a seeded generator, and the largest
image is among the first 50, so that what is larger afterwards is not owed to a larger image. Resident memory is
that of ``/proc`` after each image, garbage collected; so it takes Linux. On a GPU a second row is of its memory: what
its driver says is not free, other processes included. Exit status is 1 where something was not run.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import mmap
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from weights import choose_weights, make_parser, select_detectors

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


def watch(
    detect: Callable[[np.ndarray], object],
    shapes: Iterable[tuple[int, int]],
    gauges: Mapping[str, Callable[[], int]],
    seconds: float = math.inf,
) -> dict[str, list[int]]:
    """Return what each gauge says, in bytes: before the first image of noise, and after each.

    After so many seconds no further image is begun, once growth can be told.
    """
    random = np.random.default_rng(0)
    gc.collect()
    gc.freeze()  # what is loaded stays, and to look through it after each image would take most of the time
    marks = {place: [gauge()] for place, gauge in gauges.items()}
    end = time.monotonic() + seconds
    for number, (height, width) in enumerate(shapes):
        if number > FIRST and time.monotonic() > end:
            break
        detect(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        gc.collect()
        for place, gauge in gauges.items():
            marks[place].append(gauge())
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


def gpu_memory(device: str) -> int:
    """Return the memory of a GPU that is not free, in bytes."""
    import torch

    free, total = torch.cuda.mem_get_info(device)
    return total - free


def measured(config: Config, shapes: list[tuple[int, int]], seconds: float = math.inf) -> dict[str, Any]:
    """Return a row for each memory, with its figures in bytes, or one that says why there are none."""
    import polyface

    try:
        with polyface.create_detector(config=config) as detector:
            gauges = {"resident": resident}
            if (device := detector.execution.device) != "cpu":
                gauges["GPU"] = lambda: gpu_memory(device)
            marks = watch(detector.detect, shapes, gauges, seconds)
            peaks = {place: max(taken) for place, taken in marks.items()} | {"resident": peak()}
            return {
                place: {"marks": taken, "growth": growth(taken), "peak": peaks[place]} for place, taken in marks.items()
            }
    except polyface.PolyfaceError as error:
        return {"resident": {"why": str(error)}}


def alone(config: Config, shapes: list[tuple[int, int]], seconds: float = math.inf) -> dict[str, Any]:
    """:func:`measured`, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        try:
            return process.submit(measured, config, shapes, seconds).result()
        except BrokenProcessPool:
            return {"resident": {"why": "its process was killed; if memory ran out, lower --sides"}}


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
        return f"| {label} | | not run: {' '.join(row['why'].split())} | | | | | |"
    marks = row["marks"]
    figures = (marks[0], marks[FIRST], max(marks[FIRST + 1 :]), marks[-1], row["peak"])
    cells = " | ".join(f"{bytes_ / 1e6:.0f} MB" for bytes_ in figures)
    return f"| {label} | {len(marks) - 1} | {cells} | {row['growth']:.2f} |"


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--backends", help="NAME[:PRECISION][@DEVICE],...; default: all that are installed, on the CPU")
    parser.add_argument("--score-threshold", type=float, default=None)
    parser.add_argument("--images", type=int, default=500, help=f"more than {FIRST}, each of another size")
    parser.add_argument("--seconds", type=float, default=math.inf, help="of a row; then it ends with fewer images")
    parser.add_argument("--sides", default="160-1280", metavar="LOW-HIGH", help="of the images, in pixels")
    parser.add_argument("--seed", type=int, default=0, help="of the sizes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every mark there, in bytes")
    options = parser.parse_args(given)
    low, high = options.sides = [int(side) for side in options.sides.split("-")]
    if not FIRST < options.images <= (high - low + 1) ** 2:
        parser.error(f"--images: more than {FIRST}, and no more than there are sizes")
    return options


def main(given: Sequence[str] | None = None) -> int:
    from polyface.cli.choices import parse_backends
    from polyface.measure.rounds import machine
    from polyface.settings.loading import load_config

    options = parse(given)
    detectors = select_detectors(options.detectors)
    shapes = sizes(options.images, *options.sides, options.seed)
    report: dict[str, Any] = {"machine": machine(), "sizes": shapes, "rows": {}}
    low, high = options.sides
    print(
        f"{options.images} images of as many sizes, sides {low}-{high}, seed {options.seed}; {report['machine']['cpu']}"
    )
    print(f"\n| | images | loaded | after {FIRST} | most after | last | peak | growth |\n|---|{'---|' * 7}", flush=True)
    for spec in detectors:
        with tempfile.TemporaryDirectory() as folder:
            settings = {
                "detector": spec.name,
                "view": "plain",
                "weights": choose_weights(spec, options, Path(folder)),
                "score_threshold": options.score_threshold,
            }
            config = load_config(device="cpu", **settings)
            for label, one in parse_backends(options.backends or installed(), config).items():
                for place, row in alone(one, shapes, options.seconds).items():
                    name = f"{spec.name} on {label}" + (f", {place}" if place != "resident" else "")
                    report["rows"][name] = row
                    print(line(name, row), flush=True)
                if options.json:
                    options.json.write_text(json.dumps(report) + "\n", encoding="utf-8")
    return 1 if any("why" in row for row in report["rows"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
