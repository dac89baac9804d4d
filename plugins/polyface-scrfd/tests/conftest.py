from __future__ import annotations

import numpy as np
import pytest

from polyface.plugins.records import DetectorSpec
from polyface_scrfd.plugin import polyface_detectors

DETECTORS = {spec.name: spec for spec in polyface_detectors() if isinstance(spec, DetectorSpec)}


@pytest.fixture(scope="session")
def published(weights_at_hand):
    """Return the file of a detector as it was published: nobody may ship it, so it is among the reference data."""

    def published(name):
        (file,) = DETECTORS[name].weights
        path = weights_at_hand(file)
        if path is None:
            pytest.skip(f"no file below POLYFACE_SHARED/weights has the sha256 of {file.filename}")
        return path

    return published


@pytest.fixture(scope="session")
def original(published):
    """Return what runs a published file by itself: on an RGB image of a size that it takes, to its nine outputs."""
    runtime = pytest.importorskip("onnxruntime", reason="running the original needs onnxruntime")

    def original(name):
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # det_500m declares the shapes of 640x640, and gives others at other sizes
        session = runtime.InferenceSession(published(name), options, providers=["CPUExecutionProvider"])

        def run(image):
            planes = (image.astype(np.float32).transpose(2, 0, 1)[None] - 127.5) / 128
            outputs = session.run(None, {session.get_inputs()[0].name: planes.astype(np.float32)})
            return [output.reshape(-1, output.shape[-1]) for output in outputs]

        return run

    return original


@pytest.fixture(scope="session")
def slow_decode():
    """Return scores, boxes and points of nine outputs, one anchor after the other, as the repository tells it."""

    def slow_decode(outputs, height, width):
        scores, boxes, points = [], [], []
        for level, stride in enumerate((8, 16, 32)):
            index = 0
            for row in range(height // stride):
                for column in range(width // stride):
                    for _ in range(2):
                        x, y = float(column * stride), float(row * stride)
                        left, top, right, bottom = (float(v) * stride for v in outputs[3 + level][index])
                        offsets = [float(v) * stride for v in outputs[6 + level][index]]
                        scores.append(float(outputs[level][index][0]))
                        boxes.append((x - left, y - top, x + right, y + bottom))
                        points.append([(x + offsets[2 * i], y + offsets[2 * i + 1]) for i in range(5)])
                        index += 1
        return scores, boxes, points

    return slow_decode
