"""How fast a folder becomes ``faces.jsonl``: one step after the other, and with images read while the network runs.

Prints a table in Markdown, a row a detector, backend and way::

    python benchmarks/folder.py yunet-n retinaface-mobilenet025 --backends onnxruntime,openvino --cores 1,2

The folder is made of the examples, as JPEG files of mixed sizes, the same each time. Each pass is a ``polyface detect``
in a process of its own, by its own clock, so without the start of Python. The ways take turns, so that what else the
machine does meets all of them, and the ratio is the median of those of each turn. The last column but one is the
network's own time in the way that came first, as a part of the time of the way in that row: what no overlapping could
take away, had the network run on all threads all the time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"
IMAGES = [EXAMPLES / f"{name}.jpg" for name in ("astronaut", "collage", "grace_hopper")]
SIZES = ((250, 250), (640, 480), (480, 640), (1024, 768), (800, 1200), (1600, 1200), (1920, 1080), (4000, 3000))
"""Width and height; the most common are the smaller ones: the n-th is taken by its share of ``SHARES``."""

SHARES = (8, 6, 4, 4, 3, 2, 2, 1)
"""Of 30 images."""

WAYS = {"one after the other": ("--workers", "0", "--runs", "1"), "runs=1": ("--runs", "1"), "runs=2": ("--runs", "2")}

CODE = """
import os, sys, time
os.sched_setaffinity(0, set(list(sorted(os.sched_getaffinity(0)))[: int(sys.argv[1])]))
from polyface.cli import main
started = time.perf_counter()
try:
    main(sys.argv[2:])
except SystemExit as end:
    assert not end.code, end.code
print("seconds", time.perf_counter() - started)
"""


def make_folder(folder: Path, count: int) -> None:
    """Fill a folder with that many images."""
    portraits = [Image.open(path).convert("RGB") for path in IMAGES]
    order = [size for turn in range(max(SHARES)) for size, share in zip(SIZES, SHARES, strict=True) if turn < share]
    for number in range(count):
        image = portraits[number % len(portraits)].resize(order[number % len(order)], Image.Resampling.BILINEAR)
        image.save(folder / f"{number:05}.jpg", quality=90)


def measure(folder: Path, detector: str, backend: str, cores: int, way: tuple[str, ...]) -> tuple[float, float, str]:
    """Return seconds of a pass, those of the network in it, and its lines without the seconds."""
    with tempfile.TemporaryDirectory() as place:
        lines = Path(place, "faces.jsonl")
        words = ["detect", str(folder), "--output", str(lines), "--detector", detector, "--backend", backend]
        command = [sys.executable, "-c", CODE, str(cores), *words, "--device", "cpu", "--timing", "--quiet", *way]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - this very Python
        results = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    network = sum(result.pop("timing")["network"] for result in results)
    return float(done.stdout.split()[-1]), network, json.dumps(results)


def main() -> None:
    """Make the folder, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detectors", nargs="+")
    parser.add_argument("--backends", default="onnxruntime")
    parser.add_argument("--cores", default=str(len(os.sched_getaffinity(0))))
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--turns", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_folder(folder, asked.images)
        print(f"{asked.images} images, {asked.turns} turns, load before {os.getloadavg()[0]:.2f}\n")
        print("| detector | backend | cores | way | images/s | ratio | of the network's own rate | same lines |")
        print("|---|---|---|---|---|---|---|---|")
        for detector in asked.detectors:
            for backend in asked.backends.split(","):
                for cores in map(int, asked.cores.split(",")):
                    measure(folder, detector, backend, cores, ())  # what is made once, and files that are not in memory
                    turns = [
                        {name: measure(folder, detector, backend, cores, way) for name, way in WAYS.items()}
                        for _ in range(asked.turns)
                    ]
                    first = next(iter(WAYS))
                    for name in WAYS:
                        rate = statistics.median(asked.images / turn[name][0] for turn in turns)
                        ratio = statistics.median(turn[first][0] / turn[name][0] for turn in turns)
                        own = statistics.median(turn[first][1] / turn[name][0] for turn in turns)
                        same = all(turn[name][2] == turn[first][2] for turn in turns)
                        row = [detector, backend, cores, name, f"{rate:.1f}", f"{ratio:.2f}", f"{own:.0%}", same]
                        print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
