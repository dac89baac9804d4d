"""RetinaFace against what the original networks gave: raw heads, decoding, and real pictures end to end."""

from __future__ import annotations

import json

import numpy as np
import pytest

from polyface.testing.tolerances import TOLERANCES

pytestmark = pytest.mark.shared

FP32 = TOLERANCES["fp32"]
BACKENDS = ["torch", "onnxruntime", "openvino"]


@pytest.fixture
def reference_detector(require, make_detector, reference_checkpoint):
    """A detector with the goldens' weights; where ONNX is run, they come through the converter."""

    def build(name, backend):
        require(backend, f"polyface_{backend}", "torch", "torchvision", "polyface_torch", "onnxscript")
        return make_detector(name, backend=backend, device="cpu", weights=reference_checkpoint(name), pad_to=1)

    return build


@pytest.mark.parametrize("size", [(96, 128, 1), (101, 157, 2)], ids=["96x128", "101x157"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["retinaface-mobilenet025", "retinaface-resnet50"])
def test_raw_heads_and_decoded_anchors_are_the_original_networks(
    golden, reference_detector, raw_heads, name, backend, size
):
    height, width, seed = size
    detector = reference_detector(name, backend)
    expected = golden.outputs(name, height, width, seed)

    actual = raw_heads(detector, golden.picture(height, width, seed))

    assert actual["loc"].shape == (1, *expected["loc"].shape)
    assert np.abs(actual["loc"][0] - expected["loc"]).max() <= FP32.heads
    assert np.abs(actual["landms"][0] - expected["landms"]).max() <= FP32.heads
    assert np.abs(detector._head.scores(actual)[0] - expected["scores"]).max() <= FP32.heads
    every = np.arange(len(expected["loc"]))
    boxes, landmarks = detector._head.decode(actual, detector._head.priors(height, width), 0, every)
    size = np.array([width, height], np.float32)
    assert np.abs(boxes / np.tile(size, 2) - expected["boxes"]).max() <= FP32.heads
    assert np.abs(landmarks / size - expected["landmarks"].reshape(-1, 5, 2)).max() <= FP32.heads


@pytest.mark.parametrize("weights", ["yakhyo", "pytorch-retinaface"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_real_pictures_give_the_same_faces_as_the_original(shared, require, make_detector, backend, weights):
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
