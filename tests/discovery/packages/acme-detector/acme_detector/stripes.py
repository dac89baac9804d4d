from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from polyface.plugins.protocols import Candidates

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, IndexArray

    Network = Callable[[Mapping[str, FloatArray]], dict[str, FloatArray]]


def build(weights: Path | None = None, *, seed: int | None = None) -> Network:
    def network(inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        pixels = inputs["pixels"]
        n, channels, height, width = pixels.shape
        return {"brightness": pixels.reshape(n, channels, height // 16, 16, width).mean(axis=(1, 3, 4))}

    return network


class Head:
    """One anchor a stripe; its prior is its box. The landmarks are the middles of its left and right ends."""

    def priors(self, height: int, width: int) -> FloatArray:
        top = np.arange(0, height, 16)
        return np.stack([0 * top, top, 0 * top + width, top + 16], axis=1).astype(np.float32)

    def scores(self, outputs: Mapping[str, FloatArray]) -> FloatArray:
        return outputs["brightness"]

    def decode(
        self,
        outputs: Mapping[str, FloatArray],  # noqa: ARG002 - a stripe's box does not depend on the image
        priors: FloatArray,
        image: int,  # noqa: ARG002
        keep: IndexArray,
    ) -> Candidates:
        boxes = priors[keep]
        middle = (boxes[:, 1] + boxes[:, 3]) / 2
        landmarks = np.stack([boxes[:, 0], middle, boxes[:, 2], middle], axis=1).reshape(-1, 2, 2)
        return Candidates(boxes=boxes, landmarks=landmarks)
