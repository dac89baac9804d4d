"""The whole against an implementation of its own: the published file, fixed as it is, decoded in loops."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import polyface
from boxes import suppress

SIDE = 640


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
    cells = zip(*slow_decode(original(detector)(image), SIDE, SIDE), strict=True)
    expected = suppress([cell for cell in cells if cell[0] >= 0.3], 0.4)

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

    assert len(faces) == len(expected) > 0
    scores, boxes, points = zip(*expected, strict=True)
    np.testing.assert_allclose(faces.scores, scores, rtol=0, atol=1e-4)
    np.testing.assert_allclose(faces.boxes, boxes, rtol=0, atol=0.01)
    np.testing.assert_allclose(faces.landmarks, points, rtol=0, atol=0.01)
