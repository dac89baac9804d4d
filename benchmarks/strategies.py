"""What each test-time strategy gains on WIDER FACE, and how many pixels the network sees for it.

POLYFACE_SHARED names a folder with ``widerface/WIDER_val/images`` and ``widerface/ground_truth``. Run from here:
``python strategies.py``, or with names of rows and ``--every 8`` for a part of the images.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import polyface
from polyface.measure.widerface import SUBSETS, average_precision, read_truth
from polyface.writers.wider import as_rows

ROWS: dict[str, dict[str, Any]] = {
    "widerface-original": {"preset": "widerface-original", "pad_to": 1},
    "auto": {"view": "auto"},
    "plain": {},
    "flip": {"flip": True},
    "flip, vote": {"flip": True, "merge": "vote"},
    "scales 0.5,1,2": {"scales": (0.5, 1, 2)},
    "scales 0.5,1,2, vote": {"scales": (0.5, 1, 2), "merge": "vote"},
    "scales 0.5,1,2, flip, vote": {"scales": (0.5, 1, 2), "flip": True, "merge": "vote"},
    "tile 640": {"tile": 640},
    "scale 2, tile 1024": {"scales": 2, "tile": 1024},
    "scales 1,2, tile 1024": {"scales": (1, 2), "tile": 1024},
    "widerface-1600": {"preset": "widerface-1600"},
    "dsfd-multiscale": {"preset": "dsfd-multiscale"},
}
COMMON: dict[str, Any] = {"backend": "onnxruntime", "device": "cpu", "view": "plain"}
THRESHOLDS = {"score_threshold": 0.02, "iou_threshold": 0.4}
"""Of the rows that are no preset."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"rows to run: {'; '.join(ROWS)}")
    parser.add_argument("--every", type=int, default=1, help="take every so many images")
    parser.add_argument("--detector", default="retinaface-mobilenet025")
    parser.add_argument("--weights", default=None)
    options = parser.parse_args()
    shared = Path(os.environ["POLYFACE_SHARED"]) / "widerface"
    paths = sorted((shared / "WIDER_val/images").rglob("*.jpg"))[:: options.every]
    every_truth = read_truth(shared / "ground_truth")
    truth = {name: every_truth[name] for name in (f"{path.parent.name}/{path.stem}" for path in paths)}
    print(f"{options.detector}, {len(paths)} images\n")
    print(f"| strategy | {' | '.join(SUBSETS)} | network pixels |\n|---|---|---|---|---|", flush=True)
    for row in options.names or ROWS:
        settings = ROWS[row] if "preset" in ROWS[row] else {**THRESHOLDS, **ROWS[row]}
        with polyface.create_detector(
            options.detector, config=polyface.Config(**COMMON), weights=options.weights, **settings
        ) as detector:
            found, pixels, seen = {}, 0, 0.0
            for name, path in zip(truth, paths, strict=True):
                image = polyface.read_image(path)
                height, width = image.shape[:2]
                pixels += height * width
                for view in detector.strategy.views(height, width):
                    rows, columns = view.size
                    seen += rows * columns * view.scale**2
                found[name] = as_rows(detector.detect(image))
        precision = average_precision(truth, found)
        print(f"| {row} | {' | '.join(f'{precision[s]:.2f}' for s in SUBSETS)} | x {seen / pixels:.1f} |", flush=True)


if __name__ == "__main__":
    main()
