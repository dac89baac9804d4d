"""What an ONNX file says of itself, read without a runtime; and that no file does more than fail."""

from __future__ import annotations

import os
import re
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyface.errors import PolyfaceError, WeightsMismatchError, WeightsNotFoundError
from polyface.graphs import onnx_file
from polyface.graphs.onnx_file import read_onnx

onnx = pytest.importorskip("onnx", reason="the files are written with onnx: pip install onnx")

NUMBERS = np.zeros(3, np.float32)


def varint(number):
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def part(number, content):
    """A field of protobuf: a number, or bytes with their length."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def toy(**changes):
    """A convolution, and outputs that a softmax and a sigmoid compute before others arrange them."""
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["map"]),
        helper.make_node("Transpose", ["map"], ["turned"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["turned", "shape"], ["boxes"]),
        helper.make_node("Softmax", ["boxes"], ["likely"]),
        helper.make_node("Identity", ["likely"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("image", floats, ["n", 3, None, 240])],
        [
            helper.make_tensor_value_info("boxes", floats, [1, 4420, 4]),
            helper.make_tensor_value_info("scores", changes.pop("dtype", floats), None),
        ],
        [
            helper.make_tensor("weight", floats, [4, 3, 1, 1], b"\0" * 48, raw=True),
            helper.make_tensor("shape", onnx.TensorProto.INT64, [3], [1, 4420, 4]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11), helper.make_opsetid("acme", 3)])


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "mine.onnx"
        path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
        return path

    return write


def test_inputs_outputs_and_what_computes_them_are_read(write):
    file = read_onnx(write(toy()))
    assert [str(tensor) for tensor in file.inputs] == ["image (n, 3, ?, 240)"]
    assert [str(tensor) for tensor in file.outputs] == ["boxes (1, 4420, 4)", "scores (no shape stated)"]
    assert [tensor.operation for tensor in file.outputs] == ["Conv", "Softmax"]
    assert file.opset == 11


def test_what_computes_an_output_is_looked_for_past_what_rounds_it(write):
    model = toy()
    model.graph.node.append(onnx.helper.make_node("DequantizeLinear", ["narrow", "scale"], ["wide"]))
    model.graph.node.append(onnx.helper.make_node("QuantizeLinear", ["scores", "scale"], ["narrow"]))
    model.graph.output[1].name = "wide"
    assert read_onnx(write(model)).outputs[1].operation == "Softmax"


def test_weights_that_old_files_list_as_inputs_are_none(write):
    model = toy()
    model.graph.input.append(onnx.helper.make_tensor_value_info("weight", onnx.TensorProto.FLOAT, [4, 3, 1, 1]))
    assert [tensor.name for tensor in read_onnx(write(model)).inputs] == ["image"]


@pytest.mark.parametrize(("dtype", "name"), [(10, "float16"), (7, "int64"), (16, "type 16")])
def test_other_types_are_named(write, dtype, name):
    scores = read_onnx(write(toy(dtype=dtype))).outputs[1]
    assert (scores.dtype, str(scores)) == (name, f"scores (no shape stated) {name}")


def test_an_output_that_is_no_tensor_says_so(write):
    model = toy()
    model.graph.output[1].type.sequence_type.elem_type.tensor_type.elem_type = 1
    assert read_onnx(write(model)).outputs[1].dtype == "no tensor"


def test_what_goes_in_circles_is_left(write):
    model = toy()
    model.graph.node[4].input[0] = "scores"
    assert read_onnx(write(model)).outputs[1].operation == "Identity"


def test_weights_are_passed_over_and_not_read(write, monkeypatch):
    model = toy()
    model.graph.initializer[0].raw_data = bytes(1 << 22)
    monkeypatch.setattr(onnx_file, "MOST_TEXT", 1000)
    assert len(read_onnx(write(model)).outputs) == 2


def external(tensor):
    onnx.external_data_helper.set_external_data(tensor, "mine.bin")
    tensor.ClearField("raw_data")
    return tensor


def in_an_initializer(model):
    external(model.graph.initializer[0])


def in_a_place_alone(model):
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL


def in_a_sparse_tensor(model):
    model.graph.sparse_initializer.add().values.CopyFrom(external(onnx.numpy_helper.from_array(NUMBERS, "sparse")))


def constant():
    tensor = external(onnx.numpy_helper.from_array(NUMBERS, "constant"))
    return onnx.helper.make_node("Constant", [], ["constant"], value=tensor)


def in_a_branch(model):
    branch = onnx.helper.make_graph([constant()], "branch", [], [])
    model.graph.node.append(onnx.helper.make_node("If", ["boxes"], ["either"], then_branch=branch, else_branch=branch))


def in_a_function(model):
    model.functions.add().node.append(constant())


@pytest.mark.parametrize("put", [in_an_initializer, in_a_place_alone, in_a_sparse_tensor, in_a_branch, in_a_function])
def test_weights_in_another_file_are_refused_and_it_says_what_to_do(write, put):
    model = toy()
    put(model)
    path = write(model)
    with pytest.raises(WeightsMismatchError, match="keeps its weights in another file") as caught:
        read_onnx(path)
    assert str(caught.value.fix) == "save it as one file, in Python by onnx.save(onnx.load(path), other_path)"


def test_constants_within_are_passed_over(write):
    model = toy()
    node = constant()
    node.attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(NUMBERS, "constant"))
    model.graph.node.append(node)
    assert len(read_onnx(write(model)).outputs) == 2


def nested(depth):
    content = b""
    for _ in range(depth):
        content = part(1, part(5, part(6, content)))
    return part(7, content)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (nested(2000), "more than 64 messages within each other"),
        (b"", "it holds no graph with inputs and outputs"),
        (b"\x89PNG\r\n\x1a\n", "it is cut short"),
        (b"PK\x03\x04" + b"\0" * 100, "nothing that ONNX has begins at byte 2"),
        (toy().SerializeToString()[:-20], "it is cut short"),
        (part(7, b"")[:-1] + varint(1 << 40), "it is cut short"),
        (b"\x08" + b"\xff" * 11, "a number in it is too long"),
        (part(7, 3), "a number stands where ONNX has something else"),
        (part(7, part(11, part(1, b"\xff\xfe"))), "utf-8"),
        (part(7, part(1, part(3, b"n") * 600_000)), "more than 500000 fields"),
        (part(7, part(12, b"") * 300), "more than 256 outputs"),
        (part(7, part(11, part(1, b"a" * (1 << 24) + b"a"))), "its names are longer than"),
    ],
)
def test_what_is_no_whole_onnx_file_is_refused_soon_and_says_why(write, content, why):
    path = write(content)
    begun = time.process_time()
    with pytest.raises(WeightsMismatchError) as caught:
        read_onnx(path)
    assert caught.value.what == f"{path} is not a whole ONNX file."
    assert re.search(why, caught.value.why[0])
    assert time.process_time() - begun < 10


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    for path in (tmp_path / "none.onnx", tmp_path / "pipe.onnx"):
        with pytest.raises(WeightsNotFoundError, match=r"^There is no file at "):
            read_onnx(path)
    with pytest.raises(WeightsNotFoundError, match=r" is a folder\."):
        read_onnx(tmp_path)


def test_a_checkpoint_is_told_from_a_damaged_file(tmp_path):
    for name, fix in (
        ("a.pth", "if it is a checkpoint, name its detector, and the file as weights"),
        ("a.onnx", "get it again"),
    ):
        (tmp_path / name).write_bytes(b"PK")
        with pytest.raises(WeightsMismatchError) as caught:
            read_onnx(tmp_path / name)
        assert str(caught.value.fix) == fix


WHOLE = toy().SerializeToString()


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(max_size=4)), max_size=8), st.integers(0, 64))
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, changes, cut):
    content = bytearray(WHOLE)
    for at, new in changes:
        content[at : at + len(new)] = new
    refused_or_read(tmp_path_factory, bytes(content[: len(content) - cut]))


messages = st.deferred(
    lambda: st.lists(
        st.tuples(st.integers(0, 16), st.integers(0, 1 << 70) | st.binary(max_size=9) | messages).map(
            lambda p: part(*p)
        ),
        max_size=5,
    ).map(b"".join)
)


@given(messages)
def test_whatever_is_written_as_protobuf_is_read_or_refused(tmp_path_factory, content):
    refused_or_read(tmp_path_factory, content)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    refused_or_read(tmp_path_factory, content)


def refused_or_read(factory, content):
    path = factory.getbasetemp() / "fuzz.onnx"
    path.write_bytes(content)
    try:
        file = read_onnx(path)
    except PolyfaceError:
        return
    assert all(str(tensor).isprintable() for tensor in (*file.inputs, *file.outputs))
