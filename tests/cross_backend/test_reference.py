"""The conformance kit's own network, whose ONNX file is written here by the onnx package as by hand in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from polyface.testing.conformance.reference import KERNEL, REFERENCE, build

onnx = pytest.importorskip("onnx", reason="the file is read with onnx: pip install onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - only once onnx is known to be there

FILE = next(graph.ref for graph in REFERENCE.graphs if graph.kind == "onnx").path()


def declared(tensor):
    return helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims)


def test_the_packaged_graph_is_one_convolution_in_three_heads():
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "kernel"], ["maps"]),
            helper.make_node("Transpose", ["maps"], ["last"], perm=[0, 2, 3, 1]),
            helper.make_node("Reshape", ["last", "shape"], ["heads"]),
            helper.make_node("Split", ["heads", "sizes"], [output.name for output in REFERENCE.outputs], axis=2),
        ],
        "reference",
        [declared(REFERENCE.input)],
        [declared(output) for output in REFERENCE.outputs],
        [
            numpy_helper.from_array(KERNEL[:, :, None, None], "kernel"),
            numpy_helper.from_array(np.array([0, -1, 10]), "shape"),
            numpy_helper.from_array(np.array([4, 4, 2]), "sizes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    assert onnx.load(FILE) == model


def test_the_numpy_graph_is_that_worked_out_by_hand():
    image = np.float32([[[[1, 0]], [[0, 8]], [[2, 0]]]])
    heads = build()({"image": image})
    # The kernel's rows are 0 1/8 2/8, 3/8 4/8 5/8, ...: row k gives (9 k + 4) / 8 for 1, 0, 2 and 3 k + 1 for 0, 8, 0.
    rows = np.arange(10)
    both = np.stack([(9 * rows + 4) / 8, 3 * rows + 1])
    np.testing.assert_array_equal(np.concatenate(list(heads.values()), axis=2)[0], both)
