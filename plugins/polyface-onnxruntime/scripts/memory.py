"""How much memory ONNX Runtime keeps over 200 input sizes, and how fast it is, for one choice of its switches.

The figures in the README come from here, one process a line::

    python scripts/memory.py retinaface-mobilenet025.onnx --order ascending --pattern
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]


def resident() -> float:
    """Return this process's resident memory in MB (2**20 bytes)."""
    match = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    if match is None:
        raise SystemExit("/proc/self/status names no VmRSS: run this on Linux")
    return int(match[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph")
    parser.add_argument("--order", choices=("random", "ascending"), default="random")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--no-arena", action="store_true")
    parser.add_argument("--pattern", action="store_true")
    parser.add_argument("--shrink", action="store_true")
    arguments = parser.parse_args()

    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = not arguments.no_arena
    options.enable_mem_pattern = arguments.pattern
    run_options = onnxruntime.RunOptions()
    if arguments.shrink:
        run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    session = onnxruntime.InferenceSession(arguments.graph, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    random = np.random.default_rng(0)
    sizes: set[tuple[int, int]] = set()
    while len(sizes) < arguments.count:
        height, width = random.integers(200, 1001, 2).tolist()
        sizes.add((height, width))
    ordered = sorted(sizes, key=lambda size: size[0] * size[1])
    if arguments.order == "random":
        random.shuffle(ordered)
    marks = []
    for height, width in ordered:
        picture = random.standard_normal((arguments.batch, 3, height, width), dtype=np.float32)
        session.run(None, {name: picture}, run_options)
        marks.append(resident())

    picture = random.standard_normal((1, 3, 704, 1024), dtype=np.float32)
    times = []
    for _ in range(35):
        start = time.perf_counter()
        session.run(None, {name: picture}, run_options)
        times.append(time.perf_counter() - start)
    print(
        f"after ten {marks[9]:.0f} MB, after all {marks[-1]:.0f} MB, most {max(marks[9:]):.0f} MB; "
        f"1024x704: median {np.median(times[5:]) * 1e3:.1f} ms"
    )


if __name__ == "__main__":
    main()
