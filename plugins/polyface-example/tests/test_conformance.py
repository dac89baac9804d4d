"""What every plugin must keep, checked by the kit."""

from __future__ import annotations

import numpy as np
import pytest

from polyface.testing import BackendConformance, DetectorConformance, Golden, PluginConformance


class TestPackage(PluginConformance):
    distribution = "polyface-example"


class TestNumpy(BackendConformance):
    backend = "numpy"


class TestRedbox(DetectorConformance):
    detector = "example-redbox"
    backend = "numpy"

    @pytest.fixture(scope="class")
    @classmethod
    def goldens(cls):
        """There is no original: by hand, a cell of pure red in the middle of six, and one of blue beside it."""
        image = np.zeros((16, 24, 3), np.uint8)
        image[:8, 8:16] = 255, 0, 0
        image[:8, 16:] = 0, 0, 255
        face = np.float32([-4, 4, -8, -4, -4, -4])  # blue is as far from grey as red is, by half and the other way
        heads = {"loc": np.zeros((6, 4), np.float32), "logits": np.stack([-face, face], axis=1)}
        boxes = np.float32([[x, y, x + 8, y + 8] for y in (0, 8) for x in (0, 8, 16)])
        return [Golden(image=image, heads=heads, scores=1 / (1 + np.exp(-2 * face)), boxes=boxes)]
