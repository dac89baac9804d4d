"""What Ray costs beside the plain stream, on the same cores and images.

Prints a table in Markdown::

    python benchmarks/cluster.py retinaface-mobilenet025 --images 600 --rounds 5

The images are JPEG files made of the examples, 640x480, on this machine's disk. The ways take turns, so that what else
the machine does meets all of them, and the ratio is the median of those of each turn. Ray runs already, and has as many
CPUs as the plain stream has threads. Each way goes over a quarter of the images and over all of them: from the
difference come the rate of further ones, which is what a large input pays, and the start, that of actors among it. The
processors' time, of this process and of all that the cluster has, says what the work costs where the machine has
something else to do besides. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from PIL import Image

import polyface_ray
from polyface.building import build_for_many
from polyface.cli import group
from polyface.machine.cores import default_threads
from polyface.plugins.manager import installed_plugins
from polyface.settings.config import Config
from polyface_ray.runtime import data, ray

EXAMPLES = Path(__file__).parents[1] / "examples"
IMAGES = [EXAMPLES / f"{name}.jpg" for name in ("astronaut", "collage", "grace_hopper")]
SIZE = (640, 480)


def make_folder(folder: Path, count: int) -> list[Path]:
    """Fill a folder with that many images, no two alike, and return their paths."""
    examples = [Image.open(path).convert("RGB") for path in IMAGES]
    paths = [folder / f"{number:05}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        image = examples[number % len(examples)]
        left, top = number * 7 % (image.width // 4), number * 11 % (image.height // 4)
        part = image.crop((left, top, left + image.width * 3 // 4, top + image.height * 3 // 4))
        part.resize(SIZE, Image.Resampling.BILINEAR).save(path, quality=90)
    return paths


def run_stream(config: Config, paths: list[Path]) -> int:
    """Return how many images the plain stream reads, its detector's start included."""
    with build_for_many(config, installed_plugins()) as detector:
        return sum(result.error is None for result in detector.stream(paths))


def run_dataset(config: Config, paths: list[Path]) -> int:
    """Return how many images Ray's dataset has, with the paths as its rows."""
    dataset = data.from_items([{"path": str(path)} for path in paths], override_num_blocks=max(1, len(paths) // 64))
    return sum(row["error"] is None for row in polyface_ray.detect(dataset, config, "path").iter_rows())


def run_command(config: Config, paths: list[Path]) -> int:
    """Return how many images the command takes, four parts for each core."""
    with tempfile.TemporaryDirectory() as output:
        words = ["ray", "detect", *map(str, paths), "--output", output, "--detector", config.detector, "--quiet"]
        words += ["--part-size", str(max(1, len(paths) // (4 * default_threads()))), "--backend", config.backend]
        done = CliRunner().invoke(group, words)
    if done.exit_code:
        sys.exit(done.output)
    return len(paths)


WAYS: dict[str, Callable[[Config, list[Path]], int]] = {
    "`FaceDetector.stream`": run_stream,
    "`polyface_ray.detect`": run_dataset,
    "`polyface ray detect`": run_command,
}


class Processors:
    """The processors' time of this process and of all that it started, and these, ended ones among them.

    Ray lets its workers go without counting them, so that each process is looked at twice a second.
    """

    def __init__(self) -> None:
        self._ticks: dict[int, int] = {}
        self._ended = threading.Event()

    def __enter__(self) -> Processors:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def seconds(self) -> float:
        """Return it up to now."""
        parents, ticks = {}, {}
        for file in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = file.read_text().rpartition(")")[2].split()
                parents[int(file.parent.name)] = int(fields[1])
                ticks[int(file.parent.name)] = int(fields[11]) + int(fields[12])
        ours = {os.getpid()}
        while new := {process for process, parent in parents.items() if parent in ours} - ours:
            ours |= new
        self._ticks |= {process: ticks[process] for process in ours}
        return sum(self._ticks.values()) / os.sysconf("SC_CLK_TCK")

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            self.seconds()


def measure(
    way: Callable[[Config, list[Path]], int], config: Config, paths: list[Path], processors: Processors
) -> tuple[float, float]:
    """Return the seconds of a pass, and those of processors."""
    started, before = time.perf_counter(), processors.seconds()
    done = way(config, paths)
    seconds, used = time.perf_counter() - started, processors.seconds() - before
    if done != len(paths):
        sys.exit(f"{done} of {len(paths)} images were done")
    return seconds, used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", nargs="?", default="retinaface-mobilenet025")
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    config = Config(detector=asked.detector, backend=asked.backend, device="cpu")
    started = time.perf_counter()
    options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    ray.init(num_cpus=default_threads(), **options)
    cluster = time.perf_counter() - started
    data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, Processors() as processors:
        paths = make_folder(Path(folder), asked.images)
        few = paths[: max(1, asked.images // 4)]
        turns = [
            {name: [measure(way, config, some, processors) for some in (few, paths)] for name, way in WAYS.items()}
            for _ in range(asked.rounds)
        ]
    print(
        f"{asked.detector} on {asked.backend}, {asked.images} images of {SIZE[0]}x{SIZE[1]}, "
        f"{default_threads()} threads, Ray {ray.__version__}, whose cluster took {cluster:.1f} s to start\n"
    )
    print("| way | all: images/s | time to that of the stream | start | further ones: images/s | processors' ms each |")
    print("|---|---|---|---|---|---|")
    first, *_ = WAYS
    for name in WAYS:
        # Seconds by the clock, and of processors, for few and for all.
        (short, short_used), (long, long_used) = (
            [statistics.median(turn[name][which][unit] for turn in turns) for unit in (0, 1)] for which in (0, 1)
        )
        ratio = statistics.median(turn[name][1][0] / turn[first][1][0] for turn in turns)
        further = (len(paths) - len(few)) / (long - short)
        used = (long_used - short_used) / (len(paths) - len(few)) * 1000
        start = max(0.0, long - len(paths) / further)
        print(f"| {name} | {len(paths) / long:.1f} | {ratio:.2f} | {start:.1f} s | {further:.1f} | {used:.1f} |")


if __name__ == "__main__":
    main()
