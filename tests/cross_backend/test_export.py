"""A network exported here runs in a process that cannot import torch, and finds the same faces."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from polyface.cli import group
from polyface.measure.tolerances import TOLERANCES
from polyface.settings.paths import home

# None in sys.modules makes an import fail, whatever is installed.
WITHOUT_TORCH = """
import sys
sys.modules.update(dict.fromkeys(("torch", "torchvision", "onnx", "onnxscript", "safetensors")))
from polyface.cli import main
main(sys.argv[1:])
"""
NAME = "retinaface-resnet50"


@pytest.fixture(scope="module")
def exported(request, tmp_path_factory):
    """A folder with the graph of retinaface-resnet50 with seeded weights, and the file of these weights."""
    for module in ("torch", "torchvision", "onnxscript", "onnxruntime", "polyface_retinaface"):
        pytest.importorskip(module, reason=f"exports with torch and runs on ONNX Runtime: {module} is not installed")
    from safetensors.torch import save_file

    from polyface_retinaface.net import resnet50

    folder = tmp_path_factory.mktemp("exported")
    weights = folder / "seeded.safetensors"
    save_file(resnet50(None, seed=1).state_dict(), weights)
    done = CliRunner().invoke(
        group, ["export", NAME, "--weights", str(weights), "--output", str(folder / "graphs"), "--json"]
    )
    assert done.exit_code == 0, done.output
    return weights, folder / "graphs", json.loads(done.stdout)


def run_without_torch(home, *arguments):
    """Run the command line with this home: with one of its own, a graph can come from nowhere but ``--artifacts``."""
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, arguments)]
    environ = {**os.environ, "POLYFACE_HOME": str(home)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environ)


def assert_same_boxes(actual, expected):
    """Each box of one has its like among the others; rounding may change their order."""
    assert len(actual) == len(expected) > 20
    apart = np.abs(np.array(actual)[:, None] - expected).max(axis=2)
    assert apart.min(axis=0).max() <= TOLERANCES["fp32"].pixels
    assert apart.min(axis=1).max() <= TOLERANCES["fp32"].pixels


def test_the_manifest_says_what_the_graph_was_made_from_and_with(exported):
    import torch

    weights, _, entry = exported
    assert (entry["detector"], entry["kind"], entry["new"]) == (NAME, "onnx", True)
    assert entry["provenance"]["weights"] == weights.name
    assert entry["provenance"]["torch"] == torch.__version__
    assert entry["provenance"]["opset"] == "18"
    assert 100e6 < entry["size"] < 120e6


def test_a_process_without_torch_finds_the_faces_that_torch_finds(exported, make_detector, examples, tmp_path):
    weights, graphs, _ = exported
    # Random weights see faces everywhere. Without NMS, which of two nearly equal ones to keep is not up to rounding.
    settings = {"weights": weights, "score_threshold": 0.8, "iou_threshold": 1, "max_side": 320}
    options = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", value)]
    command = ["detect", examples[0], "--detector", NAME, "--backend", "onnxruntime", "--device", "cpu", "--json"]

    done = run_without_torch(tmp_path / "home", *command, *options, "--artifacts", graphs)
    assert done.returncode == 0, done.stderr
    [line] = [json.loads(text) for text in done.stdout.splitlines()]

    expected = make_detector(NAME, backend="torch", device="cpu", **settings).detect(examples[0]).boxes
    assert_same_boxes([face["box"] for face in line["faces"]], expected)


def test_a_process_without_torch_runs_dsfd_from_the_users_cache(require, weights_of, noise, make_detector, tmp_path):
    require("torch", "torchvision", "onnxscript", "onnxruntime", "polyface_dsfd")
    name, image = "dsfd-resnet152", tmp_path / "noise.png"
    Image.fromarray(noise(72, 104)).save(image)
    settings = {"weights": weights_of(name), "score_threshold": 0.3, "iou_threshold": 1}
    options = [part for key, value in settings.items() for part in (f"--{key.replace('_', '-')}", value)]
    done = CliRunner().invoke(group, ["export", name, "--weights", str(settings["weights"])])
    assert done.exit_code == 0, done.output

    done = run_without_torch(
        home(), "detect", image, "--detector", name, "--backend", "onnxruntime", "--json", *options
    )
    assert done.returncode == 0, done.stderr

    expected = make_detector(name, backend="torch", device="cpu", **settings).detect(image).boxes
    assert_same_boxes([face["box"] for face in json.loads(done.stdout)["faces"]], expected)


def test_without_the_folder_that_process_says_how_to_get_the_graph(exported, examples, tmp_path):
    weights, _, _ = exported
    done = run_without_torch(
        tmp_path / "home", "detect", examples[0], "--detector", NAME, "--weights", weights, "--backend", "onnxruntime"
    )
    assert done.returncode == 2
    assert "onnx artifact: none is stored in" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_graph_that_was_cut_short_is_refused_in_that_process(exported, examples, tmp_path):
    weights, graphs, _ = exported
    copy = tmp_path / "graphs"
    shutil.copytree(graphs, copy)
    [cut] = copy.glob("*/*.onnx")
    cut.write_bytes(cut.read_bytes()[:-1])
    command = ["detect", examples[0], "--detector", NAME, "--weights", weights, "--backend", "onnxruntime"]
    done = run_without_torch(tmp_path / "home", *command, "--artifacts", copy)
    assert done.returncode == 2
    assert f"'{cut.name}' is damaged: its sha256 is not the one in manifest.json" in done.stderr
    assert f"&& polyface export retinaface-resnet50 --to onnx --weights {weights} --output {copy}" in done.stderr


def test_the_graph_has_the_names_and_the_free_axes_that_the_detector_declares(exported):
    import onnxruntime

    _, _, entry = exported
    session = onnxruntime.InferenceSession(entry["path"], providers=["CPUExecutionProvider"])
    [image] = session.get_inputs()
    assert (image.name, image.shape) == ("image", ["n", 3, "h", "w"])
    assert [output.name for output in session.get_outputs()] == ["loc", "logits", "landms"]
