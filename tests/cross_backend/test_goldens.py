"""RetinaFace on real images against what the original gave, end to end; test_matrix.py has the raw heads."""

from __future__ import annotations

import json

import numpy as np
import pytest

from polyface.measure.tolerances import TOLERANCES

pytestmark = pytest.mark.shared

FP32 = TOLERANCES["fp32"]
BACKENDS = ["torch", "onnxruntime", "openvino"]


@pytest.mark.parametrize("weights", ["yakhyo", "pytorch-retinaface"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_real_images_give_the_same_faces_as_the_original(shared, require, make_detector, backend, weights):
    require(backend, f"polyface_{backend}")
    choice = weights
    if weights == "pytorch-retinaface":
        require("torch", "polyface_torch", "onnxscript")
        choice = shared / "weights/RetinaFace_mobilenet025.pth"
    detector = make_detector(
        "retinaface-mobilenet025",
        backend=backend,
        device="cpu",
        weights=choice,
        score_threshold=0.5,
        iou_threshold=0.4,
        pad_to=1,
        view="plain",
    )
    images = json.loads((shared / "golden/detections.json").read_text())["images"]
    assert len(images) == 10
    for name, expected in images.items():
        faces = detector.detect(shared / f"widerface/WIDER_val/images/{name}.jpg")
        wanted = expected[f"{weights.replace('-', '_')}-mobilenet025"]
        assert len(faces) == len(wanted), name
        boxes = np.array([face["box"] for face in wanted])
        nearest = np.abs(faces.boxes[:, None] - boxes).max(axis=2).argmin(axis=1)
        assert sorted(nearest) == list(range(len(wanted))), name
        landmarks = np.array([face["landmarks"] for face in wanted])
        scores = np.array([face["score"] for face in wanted])
        assert np.abs(faces.boxes - boxes[nearest]).max() <= FP32.pixels, name
        assert np.abs(faces.landmarks - landmarks[nearest]).max() <= FP32.pixels, name
        assert np.abs(faces.scores - scores[nearest]).max() <= FP32.score, name
