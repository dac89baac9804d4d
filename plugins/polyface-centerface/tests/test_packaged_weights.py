from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from polyface_centerface.plugin import polyface_detectors

DETECTOR, _ = polyface_detectors()
GRAPH = DETECTOR.weights[0].ref.path()


@pytest.fixture(scope="module")
def script():
    for module in ("onnx", "onnxruntime", "polyface_onnxruntime"):
        pytest.importorskip(module, reason=f"the script needs {module}")
    path = Path(__file__).parents[1] / "scripts/package_weights.py"
    spec = importlib.util.spec_from_file_location("package_centerface", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_the_source_is_the_file_we_say_it_is(original_onnx, script):
    assert hashlib.sha256(original_onnx).hexdigest() == script.SHA256


def test_the_script_makes_the_same_file_again(original_onnx, script):
    assert script.make_free(original_onnx) == GRAPH.read_bytes()


def test_the_script_compares_the_graph_with_the_original_at_its_own_size(original_onnx, script):
    onnx = pytest.importorskip("onnx", reason="the script needs onnx")
    other = onnx.load(GRAPH)
    bias = next(tensor for tensor in other.graph.initializer if tensor.name == "head.off_conv.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.5), bias.name))

    assert script.find_difference(original_onnx, GRAPH.read_bytes()) < 1e-5
    assert script.find_difference(original_onnx, other.SerializeToString()) == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("size", [(1, 64, 96), (2, 128, 160)], ids=str)
def test_the_packaged_graph_equals_the_original_at_other_sizes(original, size):
    runtime = pytest.importorskip("onnxruntime", reason="running the graph needs onnxruntime")
    session = runtime.InferenceSession(GRAPH, providers=["CPUExecutionProvider"])
    count, height, width = size
    image = np.random.default_rng(height).uniform(0, 255, (count, 3, height, width)).astype(np.float32)
    names = [output.name for output in DETECTOR.outputs]

    outputs = dict(zip(names, session.run(names, {DETECTOR.input.name: image}), strict=True))

    for name, expected in original(image).items():
        np.testing.assert_allclose(outputs[name], expected, rtol=0, atol=1e-4)


def test_the_packaged_graph_leaves_batch_height_and_width_free():
    runtime = pytest.importorskip("onnxruntime", reason="reading the graph needs onnxruntime")
    session = runtime.InferenceSession(GRAPH, providers=["CPUExecutionProvider"])

    (tensor,) = session.get_inputs()
    assert (tensor.name, tuple(tensor.shape)) == (DETECTOR.input.name, DETECTOR.input.dims)
    assert [(output.name, tuple(output.shape)) for output in session.get_outputs()] == [
        (output.name, output.dims) for output in DETECTOR.outputs
    ]


def test_the_packaged_graph_is_of_operators_that_can_be_quantized():
    onnx = pytest.importorskip("onnx", reason="the graph is read with onnx")

    assert [entry.version for entry in onnx.load(GRAPH).opset_import] == [17]


def test_the_packaged_file_holds_no_path_of_the_machine_that_made_it():
    content = GRAPH.read_bytes()
    assert [word for word in (b"/work/", b"/root/", b"/home/", b"/tmp/", b"site-packages") if word in content] == []
