"""What the faults of DSFD-Pytorch-Inference that polyface.compat does not repeat are worth on WIDER FACE.

Each row runs RetinaFace MobileNet0.25 once as that project does and once as polyface does, and prints the average
precision of both, in percent. POLYFACE_SHARED names a folder with ``widerface/WIDER_val/images`` and
``widerface/ground_truth``. Run from here: ``python compat.py``; needs the extra ``evaluate``.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import attrs
import numpy as np
import numpy.typing as npt

import polyface
from polyface.measure.widerface import SUBSETS, average_precision, read_truth
from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import BackendSpec, DetectorSpec
from polyface.results import Detections
from polyface.writers.wider import as_rows

ImageArray: TypeAlias = npt.NDArray[np.uint8]
Detect: TypeAlias = Callable[[ImageArray], Detections]

NAME = "retinaface-mobilenet025"
COMMON = polyface.Config(backend="onnxruntime", device="cpu", view="plain")
CURVE = {"score_threshold": 0.02, "iou_threshold": 0.4}
"""Thresholds for precision-recall curves."""


def reversed_mean() -> polyface.PluginManager:
    """The detector with the mean in the other order, so that red and blue are 19 levels off."""
    installed = installed_plugins()
    spec = installed.get(DetectorSpec, NAME)
    preprocess = attrs.evolve(spec.preprocess, mean=spec.preprocess.mean[::-1])
    plugins = polyface.PluginManager()

    class Plugin:
        @staticmethod
        @polyface.hookimpl
        def polyface_detectors() -> list[DetectorSpec]:
            return [attrs.evolve(spec, preprocess=preprocess)]

        @staticmethod
        @polyface.hookimpl
        def polyface_backends() -> list[BackendSpec]:
            return [installed.get(BackendSpec, "onnxruntime")]

    plugins.register(Plugin, name="reversed-mean")
    return plugins


def nearest(image: ImageArray, max_side: int) -> ImageArray:
    """Shrink by leaving out pixels: of each place the pixel at its upper left, as torch's ``nearest`` does."""
    height, width = image.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    rows, columns = int(height * scale), int(width * scale)
    return image[np.arange(rows) * height // rows][:, np.arange(columns) * width // columns]


def lowest_first(faces: Detections, threshold: float) -> Detections:
    """Of boxes that overlap keep the one that reaches lowest in the image, whatever it scores.

    Overlap is the part of the other box that is covered, sides counting one pixel more.
    """
    x1, y1, x2, y2 = faces.boxes.T
    areas = (x2 - x1 + 1) * (y2 - y1 + 1)
    left, kept = np.argsort(y2)[::-1], []
    while left.size:
        best, left = left[0], left[1:]
        kept.append(best)
        width = np.minimum(x2[best], x2[left]) - np.maximum(x1[best], x1[left]) + 1
        height = np.minimum(y2[best], y2[left]) - np.maximum(y1[best], y1[left]) + 1
        left = left[np.maximum(width, 0) * np.maximum(height, 0) / areas[left] <= threshold]
    return Detections(boxes=faces.boxes[kept], scores=faces.scores[kept])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="mean, resizing or NMS; all by default")
    parser.add_argument("--every", type=int, default=1, help="take every so many images")
    parser.add_argument("--weights", default=None)
    options = parser.parse_args()
    shared = Path(os.environ["POLYFACE_SHARED"]) / "widerface"
    paths = sorted((shared / "WIDER_val/images").rglob("*.jpg"))[:: options.every]
    names = [f"{path.parent.name}/{path.stem}" for path in paths]
    every_truth = read_truth(shared / "ground_truth")
    truth = {name: every_truth[name] for name in names}
    make = functools.partial(polyface.create_detector, NAME, config=COMMON, weights=options.weights)
    print(f"{NAME}, {len(paths)} images, {' / '.join(SUBSETS)}\n\n| | there | here | worth |\n|---|---|---|---|")

    def row(name: str, there: Detect, here: Detect) -> None:
        if options.rows and name.split(maxsplit=1)[0] not in options.rows:
            return
        old, new = (
            average_precision(
                truth, {n: as_rows(detect(polyface.read_image(path))) for n, path in zip(names, paths, strict=True)}
            )
            for detect in (there, here)
        )
        cells = [" / ".join(f"{precision[subset]:.2f}" for subset in SUBSETS) for precision in (old, new)]
        worth = " / ".join(f"{new[subset] - old[subset]:.2f}" for subset in SUBSETS)
        print(f"| {name} | {cells[0]} | {cells[1]} | {worth} |", flush=True)

    exact = make(pad_to=1, **CURVE)
    row("mean", make(pad_to=1, plugins=reversed_mean(), **CURVE).detect, exact.detect)

    for side in (800, 640, 512):

        def by_nearest(image: ImageArray, side: int = side) -> Detections:
            shrunk = nearest(image, side)
            faces = exact.detect(shrunk)
            factors = np.tile(np.array(image.shape[1::-1]) / shrunk.shape[1::-1], 2)
            return Detections(boxes=faces.boxes * factors, scores=faces.scores)

        row(f"resizing to {side}", by_nearest, make(pad_to=1, max_side=side, **CURVE).detect)

    fixed = {"infer_size": (480, 640), "fit": "stretch", "clip": True, "score_threshold": 0.5}
    every = make(iou_threshold=1, **fixed)
    row("NMS at 480x640", lambda p: lowest_first(every.detect(p), 0.3), make(iou_threshold=0.3, **fixed).detect)


if __name__ == "__main__":
    main()
