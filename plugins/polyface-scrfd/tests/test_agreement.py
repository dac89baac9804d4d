"""The whole against an implementation of its own: the published file, fixed as it is, decoded in loops."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import polyface

SIDE = 640


def slow_nms(scores, boxes, *, score, iou):
    """The indices of the boxes that are kept, the highest-scoring first."""
    kept = []
    for index in sorted((i for i, s in enumerate(scores) if s >= score), key=lambda i: -scores[i]):
        if all(overlap(boxes[index], boxes[other]) <= iou for other in kept):
            kept.append(index)
    return kept


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@pytest.fixture(params=["astronaut.jpg", "collage.jpg", "grace_hopper.jpg"])
def image(request, pytestconfig):
    """An example as a square of the size that the published files are fixed at, so that nothing is resized."""
    whole = Image.open(pytestconfig.rootpath / "examples" / request.param).convert("RGB")
    return np.asarray(whole.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


@pytest.mark.shared
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("detector", ["scrfd-500m", "scrfd-2.5g", "scrfd-10g"])
def test_faces_are_those_of_the_original_within_a_hundredth_of_a_pixel(
    detector, backend, image, published, original, slow_decode, require
):
    require("onnx", "onnxruntime", backend, f"polyface_{backend}", "polyface_onnxruntime")
    scores, boxes, points = slow_decode(original(detector)(image), SIDE, SIDE)
    kept = slow_nms(scores, boxes, score=0.3, iou=0.4)

    with polyface.create_detector(
        detector,
        weights=str(published(detector)),
        backend=backend,
        device="cpu",
        view="plain",
        clip=False,
        score_threshold=0.3,
        iou_threshold=0.4,
    ) as found:
        faces = found.detect(image)

    assert len(faces) == len(kept) > 0
    np.testing.assert_allclose(faces.scores, [scores[index] for index in kept], rtol=0, atol=1e-4)
    np.testing.assert_allclose(faces.boxes, [boxes[index] for index in kept], rtol=0, atol=0.01)
    np.testing.assert_allclose(faces.landmarks, [points[index] for index in kept], rtol=0, atol=0.01)
