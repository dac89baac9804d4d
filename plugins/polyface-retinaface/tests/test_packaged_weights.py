from __future__ import annotations

import hashlib
import importlib.util
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest

from polyface_retinaface.head import Head
from polyface_retinaface.plugin import polyface_detectors

DETECTOR = next(spec for spec in polyface_detectors() if spec.name == "retinaface-mobilenet025")
CHECKPOINT, GRAPH = DETECTOR.weights[0].ref.path(), DETECTOR.graphs[0].ref.path()
SIZES = [(1, 64, 96), (2, 101, 157), (3, 333, 250)]

at_each_size = pytest.mark.parametrize("size", SIZES, ids=str)


def noise(size):
    count, height, width = size
    return np.random.default_rng(height).uniform(-120, 140, (count, 3, height, width)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(original_onnx):
    """The outputs of the file that the weights were taken from: loc, softmaxed scores and landmarks, by size."""
    runtime = pytest.importorskip("onnxruntime", reason="running the original needs onnxruntime")
    session = runtime.InferenceSession(original_onnx, providers=["CPUExecutionProvider"])
    return {size: session.run(["loc", "conf", "landmarks"], {"input": noise(size)}) for size in SIZES}


def assert_equal_to_the_original(outputs, expected):
    loc, scores, landms = expected
    np.testing.assert_allclose(outputs["loc"], loc, rtol=0, atol=1e-4)
    np.testing.assert_allclose(outputs["landms"], landms, rtol=0, atol=1e-4)
    np.testing.assert_allclose(Head().scores(outputs), scores[..., 1], rtol=0, atol=1e-4)


def test_the_source_is_the_file_we_say_it_is(original_onnx):
    assert (
        hashlib.sha256(original_onnx).hexdigest() == "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5"
    )


@at_each_size
def test_the_packaged_graph_equals_the_original(expected, size):
    runtime = pytest.importorskip("onnxruntime", reason="running the graph needs onnxruntime")
    session = runtime.InferenceSession(GRAPH, providers=["CPUExecutionProvider"])
    names = [output.name for output in DETECTOR.outputs]

    outputs = dict(zip(names, session.run(names, {DETECTOR.input.name: noise(size)}), strict=True))

    assert_equal_to_the_original(outputs, expected[size])


@at_each_size
def test_the_packaged_checkpoint_equals_the_original(expected, size):
    torch = pytest.importorskip("torch", reason="building the network needs polyface-retinaface[torch]")
    module = DETECTOR.graphs[1].ref.load()(CHECKPOINT)

    with torch.inference_mode():
        raw = [output.numpy() for output in module(torch.from_numpy(noise(size)))]

    assert_equal_to_the_original(dict(zip(("loc", "logits", "landms"), raw, strict=True)), expected[size])


def test_the_packaged_graph_leaves_batch_height_and_width_free():
    runtime = pytest.importorskip("onnxruntime", reason="reading the graph needs onnxruntime")
    session = runtime.InferenceSession(GRAPH, providers=["CPUExecutionProvider"])

    assert [(tensor.name, tensor.shape) for tensor in session.get_inputs()] == [("image", ["n", 3, "h", "w"])]
    assert [(tensor.name, tensor.shape) for tensor in session.get_outputs()] == [
        ("loc", ["n", "p", 4]),
        ("logits", ["n", "p", 2]),
        ("landms", ["n", "p", 10]),
    ]


def test_the_packaged_files_hold_no_path_of_the_machine_that_made_them():
    for path in (CHECKPOINT, GRAPH):
        content = path.read_bytes()
        assert [word for word in (b"/work/", b"/root/", b"/home/", b"/tmp/", b"site-packages") if word in content] == []


def test_the_script_makes_the_same_checkpoint_again(original_onnx):
    onnx = pytest.importorskip("onnx", reason="the script needs polyface-torch[export]")
    numpy_format = pytest.importorskip("safetensors.numpy", reason="the script needs polyface-retinaface[torch]")
    path = Path(__file__).parents[1] / "scripts/package_weights.py"
    spec = importlib.util.spec_from_file_location("package_weights", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    again = numpy_format.save(dict(script.unfolded(onnx.load_from_string(original_onnx))))

    assert again == CHECKPOINT.read_bytes()


def test_the_quantized_graph_keeps_the_layers_of_the_record_and_no_others():
    onnx = pytest.importorskip("onnx", reason="the graphs are read with onnx: pip install onnx")
    quantized = next(graph.ref.path() for graph in DETECTOR.graphs if graph.kind == "onnx-int8")
    arrays = {
        path: {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
        for path in (GRAPH, quantized)
    }
    layers = [name for name, array in arrays[GRAPH].items() if array.ndim == 4]
    kept = [name for name in layers if any(fnmatchcase(name, pattern) for pattern in DETECTOR.keep_float)]
    # By hand: nine heads, the 11 convolutions of stage 1, the 12 of stage 2, and the three on top of the stages.
    assert (len(layers), len(kept)) == (56, 9 + 11 + 12 + 3)
    for name in kept:
        np.testing.assert_array_equal(arrays[quantized][name], arrays[GRAPH][name])
    assert not arrays[quantized].keys() & (set(layers) - set(kept))
