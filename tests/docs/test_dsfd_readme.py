"""What the README of DSFD-Pytorch-Inference shows, with the import changed and with the detector that is installed."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from PIL import Image

import polyface.compat.face_detection as face_detection  # noqa: PLR0402 - the one line that changes
from polyface.compat.face_detection.build import NAMES
from polyface.images.reading import read_image

RETINAFACE = ("onnxruntime", "polyface_onnxruntime", "polyface_retinaface")


def retinaface(pytestconfig):
    """A photograph, its one face, and what finds it."""
    pixels = read_image(pytestconfig.rootpath / "examples/astronaut.jpg")
    return Image.fromarray(pixels), [177.972, 56.677, 273.246, 177.15], "retinaface-mobilenet025", "onnxruntime"


def redbox(_):
    """A red square of 8 pixels on grey, and what finds it: in BGR it would be blue, and not found."""
    pixels = np.full((64, 64, 3), 127, np.uint8)
    pixels[16:24, 32:40] = 255, 0, 0
    return Image.fromarray(pixels), [32, 16, 40, 24], "example-redbox", "numpy"


@pytest.fixture(
    params=[(retinaface, RETINAFACE), (redbox, ("polyface_example",))],
    ids=["retinaface", "redbox"],
)
def face(request, require, pytestconfig, tmp_path, monkeypatch):
    """Put the image where the README has it, OpenCV's reader in the place of OpenCV, and the detector in DSFD's."""
    make, modules = request.param
    require(*modules)
    image, box, name, backend = make(pytestconfig)
    image.save(tmp_path / "path_to_im.jpg", format="PNG")  # by content, and without loss
    cv2 = types.ModuleType("cv2")
    cv2.imread = lambda path: read_image(path)[:, :, ::-1]
    monkeypatch.setitem(sys.modules, "cv2", cv2)
    monkeypatch.setitem(NAMES, "DSFDDetector", name)
    monkeypatch.setenv("POLYFACE_BACKEND", backend)
    monkeypatch.chdir(tmp_path)
    return box


def test_the_simple_snippet_runs(face, capsys):
    import cv2

    print(face_detection.available_detectors)  # noqa: T201 - as the README does
    detector = face_detection.build_detector("DSFDDetector", confidence_threshold=0.5, nms_iou_threshold=0.3)
    im = cv2.imread("path_to_im.jpg")[:, :, ::-1]
    detections = detector.detect(im)

    assert capsys.readouterr().out == "['DSFDDetector', 'RetinaNetResNet50', 'RetinaNetMobileNetV1']\n"
    assert (detections.shape, detections.dtype) == ((1, 5), np.float32)
    assert detections[0, :4].tolist() == pytest.approx(face, abs=0.01)
    assert 0.9 < detections[0, 4] <= 1


def test_the_batched_snippet_runs(face):
    import cv2

    im = cv2.imread("path_to_im.jpg")[:, :, ::-1]  # left over from the snippet before
    detector = face_detection.build_detector("DSFDDetector", confidence_threshold=0.5, nms_iou_threshold=0.3)
    images_dummy = np.zeros((2, 512, 512, 3))
    detections = detector.batched_detect(im)  # the README passes this one

    [boxes] = detections
    assert boxes[0, :4].tolist() == pytest.approx(face, abs=0.01)
    assert [found.shape for found in detector.batched_detect(images_dummy)] == [(0, 5), (0, 5)]


def test_the_calls_of_its_test_script_run(face):
    import cv2

    detector = face_detection.build_detector("DSFDDetector", max_resolution=1080)
    im = cv2.imread("path_to_im.jpg")
    [bbox] = detector.detect(im[:, :, ::-1])[:, :4]

    assert [int(edge) for edge in bbox] == [int(edge) for edge in face]


@pytest.mark.parametrize(("width", "tolerance"), [(512, 0.01), (256, 2)])
def test_the_tensorrt_wrapper_runs_on_another_backend(width, tolerance, require, pytestconfig, monkeypatch):
    require(*RETINAFACE)
    image, face, name, backend = retinaface(pytestconfig)
    monkeypatch.setitem(NAMES, "RetinaNetResNet50", name)
    detector = face_detection.TensorRTRetinaFace((512, width), (512, 512), backend=backend, precision="fp32")
    # The network sees the face in its true proportions; the image may be squeezed to half its width.
    boxes, landmarks, scores = detector.infer(np.asarray(image.resize((width, 512)))[:, :, ::-1])

    scale = width / 512
    assert (boxes.shape, landmarks.shape, scores.shape) == ((1, 4), (1, 5, 2), (1,))
    assert (boxes[0] / [scale, 1, scale, 1]).tolist() == pytest.approx(face, abs=tolerance)
    left_eye, right_eye, nose, *_ = landmarks[0]
    assert left_eye[0] < nose[0] < right_eye[0] < width / 2
    assert max(left_eye[1], right_eye[1]) < nose[1]


def test_the_guide_tells_the_line_that_changes(pytestconfig):
    guide = (pytestconfig.rootpath / "docs/guides/migrate.md").read_text(encoding="utf-8")
    assert "`import polyface.compat.face_detection as face_detection`" in guide
    for name in (*NAMES, "TensorRTRetinaFace"):
        assert f"`{name}`" in guide
