"""How fast a detector's network runs on a GPU: eager PyTorch in fp32 and fp16, and cuda-fp16 without and with graphs.

Prints a table in Markdown::

    python benchmarks/cuda_fp16.py --detector retinaface-mobilenet025 --device cuda:0
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch

import polyface

RUNS: dict[str, dict[str, Any]] = {
    "torch, fp32": {"backend": "torch", "precision": "fp32"},
    "torch, fp16": {"backend": "torch", "precision": "fp16"},
    "cuda-fp16, graphs=0": {"backend": "cuda-fp16", "precision": "fp16", "backend_options": {"graphs": 0}},
    "cuda-fp16": {"backend": "cuda-fp16", "precision": "fp16"},
}
"""What is compared; the first is what the others are related to."""

SHAPES = ((1, 480, 640), (8, 480, 640), (1, 704, 1024), (8, 704, 1024))
"""Batch, height and width."""

WARM_UPS = 5
TURNS = 50


def seconds(session: Any, inputs: dict[str, Any]) -> float:
    start = time.perf_counter()
    session.run(inputs)
    return time.perf_counter() - start


def medians(sessions: dict[str, Any], inputs: dict[str, Any]) -> dict[str, float]:
    """Return the median time of each, all taken in turn, so that what disturbs one disturbs all."""
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(WARM_UPS + TURNS):
        for name, session in sessions.items():
            taken = seconds(session, inputs)
            if turn >= WARM_UPS:
                times[name].append(taken)
    return {name: statistics.median(taken) for name, taken in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="retinaface-mobilenet025")
    parser.add_argument("--weights", help="a name or a file, where those of the detector are not at hand")
    parser.add_argument("--device", default="cuda:0")
    arguments = parser.parse_args()
    try:
        detectors = {
            name: polyface.create_detector(
                arguments.detector, weights=arguments.weights, device=arguments.device, **settings
            )
            for name, settings in RUNS.items()
        }
    except polyface.PolyfaceError as error:
        raise SystemExit(str(error)) from None
    # A session's time, not a detector's: reading, resizing and decoding are the same for all.
    sessions = {name: detector._session for name, detector in detectors.items()}  # noqa: SLF001
    place = next(iter(detectors.values())).execution.device
    gpu = torch.cuda.get_device_name(place) if place.startswith("cuda") else place
    print(f"{arguments.detector} on {gpu}, PyTorch {torch.__version__}, median of {TURNS} after {WARM_UPS}\n")
    print(
        "|",
        " | ".join(
            ["batch, height, width", *(f"{name}: ms" for name in RUNS), *(f"{name}: times as fast" for name in RUNS)]
        ),
        "|",
    )
    print("|---" * (1 + 2 * len(RUNS)) + "|")
    random = np.random.default_rng(0)
    for shape in SHAPES:
        image = random.uniform(-120, 150, (shape[0], 3, *shape[1:])).astype(np.float32)
        taken = medians(sessions, {"image": image})
        slowest = next(iter(taken.values()))
        cells = [f"{1e3 * value:.2f}" for value in taken.values()] + [
            f"{slowest / value:.2f}" for value in taken.values()
        ]
        print("|", " | ".join([" x ".join(map(str, shape)), *cells]), "|", flush=True)


if __name__ == "__main__":
    main()
