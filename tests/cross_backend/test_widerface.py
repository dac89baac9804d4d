"""Average precision on real images, as the original evaluation gave it for the original networks."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from polyface.cli import group
from polyface.measure.widerface import SUBSETS

# The table of README.md beside the images: all 400, at the exact size.
ORIGINAL = {"yakhyo": (90.85, 88.04, 73.67), "pytorch-retinaface": (90.98, 88.33, 73.94)}

# The published files of SCRFD at 640x640, run by ONNX Runtime alone and decoded in a program of its own.
AT_640 = {"scrfd-500m": (90.94, 87.42, 67.11), "scrfd-2.5g": (93.27, 90.68, 75.28)}


@pytest.fixture
def average_precision(shared, require, tmp_path):
    """Evaluate RetinaFace MobileNet0.25 by the command line, on a backend, with weights and a precision."""

    def average_precision(weights, backend, precision="fp32"):
        require("scipy", backend, f"polyface_{backend}", "polyface_retinaface")
        return evaluated(shared, tmp_path, weights, backend, precision)

    return average_precision


def evaluated(shared, folder, weights, backend, precision):
    arguments = {
        "--detector": "retinaface-mobilenet025",
        "--weights": weights if weights == "yakhyo" else shared / "weights/RetinaFace_mobilenet025.pth",
        "--backend": backend,
        "--precision": precision,
        "--pad-to": 1,
        "--preset": "widerface-original",
    }
    return evaluate(shared, folder, arguments)


def evaluate(shared, folder, arguments):
    arguments = {
        "--images": shared / "widerface/WIDER_val/images",
        "--ground-truth": shared / "widerface/ground_truth",
        "--output": folder,
        "--device": "cpu",
        **arguments,
    }
    options = [str(part) for pair in arguments.items() for part in pair]
    result = CliRunner().invoke(group, ["evaluate", "widerface", *options, "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["evaluated"], report["of"]) == (400, 3226)
    return [report["subsets"][subset]["average_precision"] for subset in SUBSETS]


@pytest.mark.shared
@pytest.mark.parametrize(("weights", "backend"), [("yakhyo", "onnxruntime"), ("pytorch-retinaface", "torch")])
def test_average_precision_is_within_a_tenth_of_a_point_of_the_original(average_precision, weights, backend):
    assert average_precision(weights, backend) == pytest.approx(ORIGINAL[weights], abs=0.1)


@pytest.mark.shared
def test_the_packaged_graph_in_int8_loses_no_more_than_it_may(average_precision):
    actual = average_precision("yakhyo", "onnxruntime", "int8")
    lost = [before - after for before, after in zip(ORIGINAL["yakhyo"], actual, strict=True)]
    assert [allowed for allowed, part in zip((0.3, 0.3, 0.5), lost, strict=True) if part > allowed] == [], actual


@pytest.mark.shared
@pytest.mark.parametrize("detector", AT_640)
def test_scrfd_at_its_published_size_is_within_three_tenths_of_its_own_decoding(
    shared, require, weights_of, tmp_path, detector
):
    require("scipy", "onnx", "onnxruntime", "polyface_onnxruntime", "polyface_scrfd")
    arguments = {
        "--detector": detector,
        "--weights": weights_of(detector),
        "--backend": "onnxruntime",
        "--infer-size": "640x640",
    }
    assert evaluate(shared, tmp_path, arguments) == pytest.approx(AT_640[detector], abs=0.3)
