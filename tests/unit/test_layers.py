"""``benchmarks/layers.py`` on a small graph, where one of the two that run it is wrong on purpose."""

from __future__ import annotations

import json

import attrs
import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the graph is written with onnx: pip install onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402


@pytest.fixture(scope="module")
def script(benchmark_script):
    return benchmark_script("layers")


@pytest.fixture
def model():
    """Two convolutions of 3x3, the second of a tensor in 8 bits with a zero point of 100, and a head beside them."""
    random = np.random.default_rng(0)
    constants = {
        "w1": random.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "w2": random.normal(size=(2, 4, 3, 3)).astype(np.float32),
        "scale": np.float32(0.5),
        "point": np.uint8(100),
    }
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Shape", ["image"], ["size"]),
        helper.make_node("Conv", ["image", "w1"], ["first"], **same),
        helper.make_node("QuantizeLinear", ["first", "scale", "point"], ["narrow"]),
        helper.make_node("DequantizeLinear", ["narrow", "scale", "point"], ["wide"]),
        helper.make_node("Conv", ["wide", "w2"], ["second"], **same),
        helper.make_node("Relu", ["second"], ["heads"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 9])
    heads = helper.make_tensor_value_info("heads", TensorProto.FLOAT, [1, 2, 8, 9])
    initializer = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "toy", [image], [heads], initializer)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


@pytest.fixture
def image():
    return np.random.default_rng(1).normal(size=(1, 3, 8, 9)).astype(np.float32)


def right(model, names, image):
    return dict(zip(names, ReferenceEvaluator(model).run(list(names), {"image": image}), strict=True))


def wrong_at_the_border(model, names, image):
    """As if the second convolution took its padding for zeros before, and not after, the zero point is taken off."""
    made = right(model, [*{*names, "second"}], image)
    made["second"] = made["second"].copy()
    made["second"][0, 1, 0, 3] += 2 * np.abs(made["second"]).max()
    made["heads"] = np.maximum(made["second"], 0)
    return {name: made[name] for name in names}


def test_what_depends_on_the_input_in_float_is_looked_at_and_what_is_quantized_behind_that(script, model):
    assert script.tensors(model) == ["wide", "second", "heads"]


def test_the_first_layer_that_is_wrong_is_named_with_the_place(script, model, image):
    for alone in (False, True):
        wide, second, heads = script.layers(model, image, right, wrong_at_the_border, alone=alone)
        assert (wide.max, wide.border, wide.inside) == (0, 0, 0)
        assert second.name == "second"
        assert second.max == second.border == pytest.approx(2)
        assert second.mean == pytest.approx(2 / (2 * 8 * 9))
        assert second.inside == 0
        assert second.at == (0, 1, 0, 3)
        assert second.made_by == (
            "Conv: kernel_shape 3x3, pads 1x1x1x1, zero point 100"  # strides and dilations were not given
        )
        assert heads.max > 1


def test_a_map_that_is_no_more_than_border_has_no_inside(script):
    layer = script.compare("a", "Conv", np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 4, 4), np.float32), 2)
    assert (layer.border, layer.inside) == (0, None)


def test_a_table_has_a_line_a_layer_and_the_json_every_number(script, model, image):
    taken = list(script.layers(model, image, right, wrong_at_the_border))
    lines = script.table(taken)
    assert len(lines) == 2 + 3
    assert {line.count("|") for line in lines} == {9}
    assert json.loads(json.dumps([attrs.asdict(layer) for layer in taken]))[1]["at"] == [0, 1, 0, 3]


def test_two_installed_backends_give_the_same_layers_of_a_detector(script, require, capsys, tmp_path):
    require("onnxruntime", "openvino", "polyface_onnxruntime", "polyface_openvino", "polyface_retinaface")
    path = tmp_path / "layers.json"
    script.main(["--kind", "onnx", "--apart", "1e-4", "--json", str(path)])
    first = capsys.readouterr().out.splitlines()[0]
    taken = json.loads(path.read_text())
    assert first.endswith(f"0 of {len(taken)} tensors of openvino lie more than 0.0001 from onnxruntime's")
    assert {"loc", "logits", "landms"} < {layer["name"] for layer in taken}
