"""``benchmarks/detectors.py`` measures a detector whose weights are at hand, and names one whose are not."""

from __future__ import annotations

import json
import shutil

import pytest


@pytest.fixture(scope="module")
def script(benchmark_script):
    return benchmark_script("detectors")


def test_a_run_measures_what_is_at_hand_and_invents_nothing(
    script, tmp_path, pytestconfig, write_mats, monkeypatch, require
):
    require("onnxruntime", "polyface_onnxruntime", "polyface_retinaface", "polyface_dsfd")
    monkeypatch.setenv("POLYFACE_HOME", str(tmp_path / "home"))
    images = tmp_path / "images"
    (images / "0--Event").mkdir(parents=True)
    shutil.copy(pytestconfig.rootpath / "examples/astronaut.jpg", images / "0--Event/astronaut.jpg")
    face = ([[178, 57, 95, 120]], {"easy": [1], "medium": [1], "hard": [1]})
    truth = write_mats(tmp_path / "truth", {"0--Event/astronaut": face})
    places = ["--images", str(images), "--ground-truth", str(truth), "--weights", str(tmp_path / "none")]
    output = tmp_path / "output"

    names = ["retinaface-mobilenet025", "dsfd-resnet152"]
    script.main([*names, *places, "--rounds", "1", "--output", str(output)])

    report = json.loads((output / "detectors.json").read_text(encoding="utf-8"))
    assert report["unmeasured"] == {"dsfd-resnet152": "weights not at hand"}
    [row] = report["measured"]
    assert row["detector"] == "retinaface-mobilenet025"
    assert all(value > 99 for value in row["average_precision"].values())
    assert row["times_as_long"] == 1
    assert row["facts"]["backend"] == "onnxruntime"
    assert all(seconds > 0 for seconds in row["quartiles"])
    assert (output / "detectors.png").is_file()
