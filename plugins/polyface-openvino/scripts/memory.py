"""How much memory OpenVINO keeps over 500 input sizes, and what a change of size costs, for one choice of its switch.

The figures in the README come from here, one process a line::

    python scripts/memory.py retinaface-mobilenet025.onnx --order ascending --kernels 64
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import numpy as np

from polyface_openvino.runtime import openvino as ov


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
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--kernels", type=int, default=64)
    arguments = parser.parse_args()

    properties = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": 1,
        "CPU_RUNTIME_CACHE_CAPACITY": arguments.kernels,
    }
    core = ov.Core()
    request = core.compile_model(core.read_model(arguments.graph), "CPU", properties).create_infer_request()

    def run(height: int, width: int) -> float:
        """Return the processor time of one run in ms; unlike the wall's, other work on the machine hardly moves it."""
        picture = np.zeros((1, 3, height, width), np.float32)
        start = time.process_time()
        request.infer({0: picture}, share_inputs=True)
        return (time.process_time() - start) * 1e3

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
        run(height, width)
        marks.append(resident())

    same = np.median([run(704, 1024) for _ in range(12)][2:])
    turns = np.reshape([run(704 - 32 * (i % 8), 1024) for i in range(56)], (7, 8))
    in_turn = np.median(turns[1:, 0])
    new = np.median([run(704, 1024 - 8 * i) for i in range(1, 9)])
    print(
        f"after 10: {marks[9]:.0f} MB, 50: {marks[49]:.0f} MB, all: {marks[-1]:.0f} MB; 1024x704: {same:.1f} ms, "
        f"in turn with seven sizes: {in_turn:.1f} ms, a new size: {new:.1f} ms"
    )


if __name__ == "__main__":
    main()
