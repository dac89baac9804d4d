"""The family ``yunet``: a file that the user has gives what the detector gives."""

from __future__ import annotations

import numpy as np
import pytest

import polyface
from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import DetectorSpec


@pytest.mark.parametrize("free", [False, True])
def test_it_gives_what_the_detector_gives(require, weights_at_hand, pytestconfig, free):
    require("onnxruntime", *(["onnx"] if free else []))
    path = weights_at_hand(installed_plugins().get(DetectorSpec, "yunet-n").weights[0])
    if path is None:
        pytest.skip("no file below POLYFACE_SHARED/weights has the sha256 of yunet_n_dynamic.onnx")
    [image, *_] = sorted((pytestconfig.rootpath / "examples").glob("*.jpg"))
    with polyface.create_detector("yunet-n", weights=str(path), backend="onnxruntime") as detector:
        wanted = detector.detect(image)
    options = {"family": "yunet", "family_options": {"free": free}}
    with polyface.create_detector(str(path), backend="onnxruntime", **options) as detector:
        found = detector.detect(image)
    assert len(wanted)
    np.testing.assert_allclose(found.boxes, wanted.boxes, atol=1e-2)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)
    np.testing.assert_allclose(found.landmarks, wanted.landmarks, atol=1e-2)
