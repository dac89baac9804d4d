"""What every detector must keep, checked by the kit on whichever backend takes an ONNX graph."""

from __future__ import annotations

import numpy as np
import pytest

from polyface.testing import DetectorConformance, FamilyConformance, Golden, PluginConformance

NAMES = [f"{name}_{stride}" for name in ("score", "bbox", "kps") for stride in (8, 16, 32)]


class TestPackage(PluginConformance):
    distribution = "polyface-scrfd"


class Scrfd(DetectorConformance):
    sizes = ((640, 640),)

    @pytest.fixture(scope="class")
    @classmethod
    def weights(cls, published):
        for module in ("onnx", "onnxruntime", "polyface_onnxruntime"):
            pytest.importorskip(module, reason="the file is made free by polyface-scrfd[onnx], and ONNX Runtime")
        return str(published(cls.detector))

    @pytest.fixture(scope="class")
    @classmethod
    def goldens(cls, original, slow_decode):
        """What the published file gives by itself, its input and its boxes worked out without polyface."""
        run = original(cls.detector)
        goldens = []
        for height, width in cls.sizes:
            image = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
            outputs = run(image)
            scores, boxes, _ = slow_decode(outputs, height, width)
            goldens.append(
                Golden(
                    image=image,
                    heads=dict(zip(NAMES, outputs, strict=True)),
                    scores=np.float32(scores),
                    boxes=np.float32(boxes),
                )
            )
        return goldens


class TestScrfd500M(Scrfd):
    detector = "scrfd-500m"
    sizes = ((96, 128), (160, 32))


class TestScrfd2Point5G(Scrfd):
    detector = "scrfd-2.5g"


class TestScrfd10G(Scrfd):
    detector = "scrfd-10g"


del Scrfd  # pytest would collect it, too


class Family(FamilyConformance):
    family = "scrfd"
    backend = "onnxruntime"
    detector = ""

    @pytest.fixture(scope="class")
    @classmethod
    def file(cls, published):
        for module in ("onnx", "onnxruntime", "polyface_onnxruntime"):
            pytest.importorskip(module, reason="the file is made free by polyface-scrfd[onnx], and ONNX Runtime")
        return published(cls.detector)


class TestFamilyWithoutABatchAxis(Family):
    detector = "scrfd-500m"


class TestFamilyOfAFixedSize(Family):
    detector = "scrfd-2.5g"
