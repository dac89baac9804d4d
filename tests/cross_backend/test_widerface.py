"""Average precision on real pictures, as the original evaluation gave it for the original networks."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from polyface.cli import group
from polyface.evaluation.widerface import SUBSETS

# The table of README.md beside the pictures: all 400, at the exact size.
ORIGINAL = {"yakhyo": (90.85, 88.04, 73.67), "pytorch-retinaface": (90.98, 88.33, 73.94)}


@pytest.mark.shared
@pytest.mark.parametrize(("weights", "backend"), [("yakhyo", "onnxruntime"), ("pytorch-retinaface", "torch")])
def test_average_precision_is_within_a_tenth_of_a_point_of_the_original(shared, require, tmp_path, weights, backend):
    require("scipy", backend, f"polyface_{backend}", "polyface_retinaface")
    arguments = {
        "--images": shared / "widerface/WIDER_val/images",
        "--ground-truth": shared / "widerface/ground_truth",
        "--output": tmp_path,
        "--detector": "retinaface-mobilenet025",
        "--weights": weights if weights == "yakhyo" else shared / "weights/RetinaFace_mobilenet025.pth",
        "--backend": backend,
        "--device": "cpu",
        "--pad-to": 1,
    }
    options = [str(part) for pair in arguments.items() for part in pair]
    result = CliRunner().invoke(group, ["evaluate", "widerface", *options, "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["pictures"], report["of"]) == (400, 3226)
    actual = [report["subsets"][subset]["average_precision"] for subset in SUBSETS]
    assert actual == pytest.approx(ORIGINAL[weights], abs=0.1)
