"""Files as they are published: made free, each must equal the file that was exported for another size."""

from __future__ import annotations

import re

import attrs
import numpy as np
import pytest

from polyface.errors import ContractError
from polyface.machine.processes import NotBegunError, NotDoneError
from polyface.plugins.protocols import Converter, Graph
from polyface.plugins.records import DetectorSpec, GraphSource, Preprocess, Ref, TensorSpec
from polyface_onnxruntime.plugin import polyface_converters

onnx = pytest.importorskip("onnx", reason="graphs are written with onnx: pip install 'polyface-onnxruntime[onnx]'")
runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'polyface-onnxruntime[cpu]'")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - only once onnx is known to be there

from polyface_onnxruntime import onnx_file  # noqa: E402
from polyface_onnxruntime.onnx_file import OnnxFileConverter, write  # noqa: E402
from polyface_onnxruntime.runtime import failure  # noqa: E402

DETECTOR = DetectorSpec(
    name="tiny",
    summary="one convolution and what exporters put around it",
    graph_version=1,
    input=TensorSpec(name="image", dims=("n", 3, "h", "w")),
    outputs=(TensorSpec(name="scores", dims=("n", "p", 2)),),
    preprocess=Preprocess(channels="rgb", mean=(127.5, 127.5, 127.5), std=(128, 128, 128), stride=16),
    head=Ref("tiny:Head"),
    graphs=(GraphSource(kind="numpy", ref=Ref("tiny:build")),),
)
OWN, OTHERS = (64, 96), [(32, 32), (80, 48), (64, 96)]


class File:
    """The nodes and constants of a file of one size: a convolution of stride 8 to four channels, ``maps``, and more."""

    def __init__(self, height, width, batch=1):
        self.opset = 13
        self.batch, self.height, self.width = batch, height, width
        self.rows, self.columns = height // 8, width // 8
        self.cells = self.rows * self.columns
        weight = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)
        self.constants = {"weight": weight}
        self.nodes = [helper.make_node("Conv", ["input.1", "weight"], ["maps"], strides=[8, 8])]

    def add(self, kind, inputs, output, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))

    def constant(self, name, numbers, dtype=np.int64):
        self.constants[name] = np.array(numbers, dtype)
        return name

    def reshape(self, source, shape, output):
        self.add("Reshape", [source, self.constant(f"{output} shape", shape)], output)

    def as_rows(self, source, output="out"):
        """The ending that leaves no doubt: ``(n, p, 2)``."""
        self.add("Transpose", [source], f"{output} last", perm=[0, 2, 3, 1])
        self.reshape(f"{output} last", [0, -1, 2], output)

    def bytes(self, *, outputs=("out",), sides=None):
        graph = helper.make_graph(
            self.nodes,
            "published",
            [
                helper.make_tensor_value_info(
                    "input.1", TensorProto.FLOAT, sides or [self.batch, 3, self.height, self.width]
                )
            ],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        return model.SerializeToString()


def batch_moved_and_left_out(file):
    """As InsightFace publishes it."""
    file.add("Transpose", ["maps"], "a", perm=[2, 3, 0, 1])
    file.reshape("a", [-1, 2], "b")
    file.add("Sigmoid", ["b"], "out")


def sizes_in_a_reshape(file):
    file.add("Transpose", ["maps"], "a", perm=[0, 2, 3, 1])
    file.reshape("a", [1, 2 * file.cells, 2], "out")


def the_batch_left_to_be_computed(file):
    file.add("Transpose", ["maps"], "a", perm=[0, 2, 3, 1])
    file.reshape("a", [-1, 2 * file.cells, 2], "out")


def the_batch_alone_is_constant(file):
    file.add("Transpose", ["maps"], "a", perm=[0, 2, 3, 1])
    file.add("Shape", ["a"], "shape")
    file.add("Slice", ["shape", file.constant("1", [1]), file.constant("3", [3])], "sides")
    file.add("Concat", [file.constant("one image", [1]), "sides", file.constant("rest", [2, 2])], "target", axis=0)
    file.add("Reshape", ["a", "target"], "b")
    file.reshape("b", [1, -1, 2], "out")


def channels_shuffled(file):
    file.reshape("maps", [1, 2, 2, file.rows, file.columns], "a")
    file.add("Transpose", ["a"], "b", perm=[0, 2, 1, 3, 4])
    file.reshape("b", [1, 4, file.rows, file.columns], "c")
    file.as_rows("c")


def sides_change_places(file):
    file.add("Transpose", ["maps"], "a", perm=[0, 3, 2, 1])
    file.reshape("a", [1, file.columns, 1, file.rows, 4], "b")
    file.reshape("b", [1, 2 * file.cells, 2], "out")


def resized_to_a_size(file):
    file.add("MaxPool", ["maps"], "a", kernel_shape=[2, 2], strides=[2, 2])
    file.add("Resize", ["a", "", "", file.constant("sizes", [1, 4, file.rows, file.columns])], "b", mode="nearest")
    file.add("Add", ["maps", "b"], "c")
    file.as_rows("c")


def sliced_to_its_end(file):
    ends = file.constant("ends", [file.rows, 2**31 - 1])
    inputs = [
        "maps",
        file.constant("starts", [0, 1]),
        ends,
        file.constant("axes", [2, 3]),
        file.constant("steps", [1, 2]),
    ]
    file.add("Slice", inputs, "a")
    file.as_rows("a")


def sliced_without_naming_axes(file):
    whole = 2**31 - 1
    file.add("Slice", ["maps", file.constant("starts", [0, 0]), file.constant("ends", [whole, whole])], "a")
    every = [
        file.constant("second", [0, 0, 1]),
        file.constant("to", [whole, 4, file.rows]),
        "",
        file.constant("by", [1, 1, 2]),
    ]
    file.add("Slice", ["a", *every], "b")
    file.as_rows("b")


def expanded_to_its_size(file):
    file.add("Expand", ["maps", file.constant("size", [1, 4, file.rows, file.columns])], "a")
    file.as_rows("a")


def the_batch_squeezed_out(file):
    file.as_rows("maps", "a")
    file.add("Squeeze", ["a", file.constant("axes", [0])], "out")


def the_first_image_taken(file):
    file.as_rows("maps", "a")
    file.add("Gather", ["a", file.constant("index", 0)], "out", axis=0)


def squeezed_and_back(file):
    file.as_rows("maps", "a")
    file.add("Squeeze", ["a"], "b")
    file.add("Softmax", ["b"], "c", axis=1)
    file.add("Unsqueeze", ["c", file.constant("axes", [0])], "out")


def two_levels_joined_without_a_batch(file):
    file.add("AveragePool", ["maps"], "small", kernel_shape=[2, 2], strides=[2, 2])
    for source in ("maps", "small"):
        file.add("Transpose", [source], f"{source} last", perm=[2, 3, 0, 1])
        file.reshape(f"{source} last", [-1, 2], f"{source} rows")
    file.add("Concat", ["maps rows", "small rows"], "a", axis=0)
    file.add("Mul", ["a", file.constant("scale", [2, 3], np.float32)], "b")
    file.add("Softmax", ["b"], "out", axis=-1)


def constants_computed_by_nodes(file):
    """As PyTorch writes them: each number a node, joined by another."""
    file.add("Transpose", ["maps"], "a", perm=[0, 2, 3, 1])
    for name, number in (("n", 1), ("p", 2 * file.cells), ("k", 2)):
        file.add("Constant", [], name, value=numpy_helper.from_array(np.array(number)))
        file.add("Unsqueeze", [name, file.constant("zero", [0])], f"{name} axis")
    file.add("Concat", ["n axis", "p axis", "k axis"], "shape", axis=0)
    file.add("Reshape", ["a", "shape"], "out")


def flattened(file):
    file.add("Flatten", ["maps"], "a")
    file.reshape("a", [0, -1, 2], "out")


def flattened_in_front_of_the_batch(file):
    file.add("Flatten", ["maps"], "a", axis=0)
    file.reshape("a", [1, -1, 2], "out")


def an_axis_put_in_and_taken_out(file):
    file.add("Unsqueeze", ["maps", file.constant("axes", [2])], "a")
    file.add("Squeeze", ["a", "axes"], "b")
    file.as_rows("b")


def an_axis_put_in_front_of_the_batch(file):
    file.add("Unsqueeze", ["maps", file.constant("axes", [0])], "a")
    file.add("Squeeze", ["a", "axes"], "b")
    file.as_rows("b")


def shaped_where_zero_is_allowed(file):
    """As PyTorch's newer exporter writes it."""
    file.opset = 14
    file.add("Transpose", ["maps"], "a", perm=[0, 2, 3, 1])
    file.add("Reshape", ["a", file.constant("rows", [1, file.cells, 4])], "b", allowzero=1)
    file.add("Shape", ["maps"], "shape")
    file.add("Gather", ["shape", file.constant("first", [0])], "batch")
    file.add("Concat", ["batch", file.constant("rest", [-1, 2])], "target", axis=0)
    file.add("Reshape", ["b", "target"], "out", allowzero=1)


def one_number_of_each_image(file):
    file.add("ReduceMean", ["maps"], "a", axes=[1, 2, 3], keepdims=0)
    file.reshape("a", [1], "b")
    file.reshape("b", [1, 1, 1, 1], "c")
    file.add("Mul", ["maps", "c"], "d")
    file.as_rows("d")


def rows_of_the_image_taken_in_turn(file):
    ends, second = file.constant("ends", [file.height]), file.constant("2", [2])
    for start in (0, 1):
        file.add("Slice", ["input.1", file.constant(f"{start}", [start]), ends, second, second], f"a{start}")
    file.add("Max", ["a0", "a1"], "b")
    file.add("Conv", ["b", "weight"], "c", strides=[8, 8])
    file.as_rows("c")


def every_second_cell_as_channels(file):
    file.constant("by", [2, 2])
    file.constant("axes", [2, 3])
    file.constant("ends", [file.rows, file.columns])
    corners = [(0, 0), (0, 1), (1, 0), (1, 1)]
    for row, column in corners:
        file.add(
            "Slice", ["maps", file.constant(f"{row}{column}", [row, column]), "ends", "axes", "by"], f"a{row}{column}"
        )
    file.add("Concat", [f"a{row}{column}" for row, column in corners], "b", axis=1)
    file.as_rows("b")


def cropped_to_another(file):
    file.add("AveragePool", ["maps"], "a", kernel_shape=[3, 3])
    file.add("Shape", ["a"], "shape")
    file.add("Slice", ["shape", file.constant("2", [2]), file.constant("4", [4])], "ends")
    file.add("Slice", ["maps", file.constant("starts", [0, 0]), "ends", file.constant("axes", [2, 3])], "b")
    file.add("Mul", ["a", "b"], "c")
    file.as_rows("c")


def expanded_to_another(file):
    file.add("GlobalAveragePool", ["maps"], "a")
    file.add("Shape", ["maps"], "shape")
    file.add("Expand", ["a", "shape"], "b")
    file.as_rows("b")


def channels_in_another_order(file):
    file.add("Gather", ["maps", file.constant("order", [2, 0, 3, 1])], "a", axis=1)
    file.as_rows("a")


def looked_up_in_a_table(file):
    file.add("ArgMax", ["maps"], "a", axis=1)
    file.add("Gather", [file.constant("table", [[1, 2], [3, 4], [5, 6], [7, 8]], np.float32), "a"], "b")
    file.reshape("b", [1, file.cells, 2], "out")


def joined_from_a_sequence(file):
    file.add("SequenceEmpty", [], "a")
    file.add("SequenceInsert", ["a", "maps"], "b")
    file.add("SequenceInsert", ["b", "maps"], "c")
    file.add("ConcatFromSequence", ["c"], "d", axis=1)
    file.as_rows("d")


ENDINGS = [
    batch_moved_and_left_out,
    sizes_in_a_reshape,
    the_batch_left_to_be_computed,
    the_batch_alone_is_constant,
    channels_shuffled,
    sides_change_places,
    resized_to_a_size,
    sliced_to_its_end,
    sliced_without_naming_axes,
    expanded_to_its_size,
    the_batch_squeezed_out,
    the_first_image_taken,
    squeezed_and_back,
    two_levels_joined_without_a_batch,
    constants_computed_by_nodes,
    flattened,
    flattened_in_front_of_the_batch,
    an_axis_put_in_and_taken_out,
    an_axis_put_in_front_of_the_batch,
    shaped_where_zero_is_allowed,
    one_number_of_each_image,
    rows_of_the_image_taken_in_turn,
    every_second_cell_as_channels,
    cropped_to_another,
    expanded_to_another,
    channels_in_another_order,
    looked_up_in_a_table,
    joined_from_a_sequence,
]


def made(ending, height, width, batch=1, **options):
    file = File(height, width, batch)
    ending(file)
    return file.bytes(**options)


@pytest.fixture
def freed(tmp_path):
    """Free a file, and return the path of what is written."""

    def freed(content, detector=DETECTOR):
        (tmp_path / "published.onnx").write_bytes(content)
        folder = tmp_path / "written"
        folder.mkdir(exist_ok=True)
        return write(Graph(kind="onnx-file", source=tmp_path / "published.onnx", detector=detector), folder)

    return freed


def run(model, image):
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: image})


def noise(batch, height, width):
    return np.random.default_rng(height).uniform(-1, 1, (batch, 3, height, width)).astype(np.float32)


def test_the_record_names_a_converter():
    spec = next(spec for spec in polyface_converters() if spec.source == "onnx-file")
    assert (spec.target, spec.calibrated) == ("onnx", False)
    converter = spec.factory.load()()
    assert isinstance(converter, Converter)
    assert converter.provenance() == {"onnx": onnx.__version__, "onnxruntime": runtime.__version__}


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__)
def test_a_free_graph_equals_the_file_exported_for_another_size(freed, ending):
    free = freed(made(ending, *OWN))

    for height, width in OTHERS:
        image = noise(3, height, width)
        wanted = [run(made(ending, height, width), image[index : index + 1])[0] for index in range(3)]
        (found,) = run(free, image)
        np.testing.assert_allclose(found, np.stack([one.reshape(-1, 2) for one in wanted]), rtol=0, atol=1e-6)


def test_input_and_outputs_are_those_of_the_record(freed):
    model = onnx.load(freed(made(batch_moved_and_left_out, *OWN)))

    named = {
        value.name: [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert named == {"image": ["n", 3, "h", "w"], "scores": ["n", "p", 2]}


def test_old_operators_are_upgraded(freed):
    def upsampled(file):
        file.opset = 9
        file.add("MaxPool", ["maps"], "a", kernel_shape=[2, 2], strides=[2, 2])
        file.add("Upsample", ["a", file.constant("scales", [1, 1, 2, 2], np.float32)], "b", mode="nearest")
        file.as_rows("b")

    path = freed(made(upsampled, *OWN))

    assert [one.version for one in onnx.load(path).opset_import] == [13]
    np.testing.assert_allclose(
        run(path, noise(1, 80, 48))[0], run(made(upsampled, 80, 48), noise(1, 80, 48))[0], atol=1e-6
    )


def test_a_fixed_batch_of_several_is_made_free(freed):
    file = File(*OWN, batch=10)
    file.add("Transpose", ["maps"], "a", perm=[0, 2, 3, 1])
    file.reshape("a", [10, -1, 2], "out")

    (found,) = run(freed(file.bytes()), noise(3, 48, 32))

    np.testing.assert_allclose(
        found, [run(made(sizes_in_a_reshape, 48, 32), one[None])[0][0] for one in noise(3, 48, 32)], atol=1e-6
    )


def test_what_is_free_already_keeps_its_nodes(freed):
    file = File(*OWN)
    file.as_rows("maps")

    model = onnx.load(freed(file.bytes(sides=["n", 3, "h", "w"])))

    assert [node.op_type for node in model.graph.node] == ["Conv", "Transpose", "Reshape"]


def test_what_is_drawn_at_random_is_drawn_for_each_input_anew(freed):
    file = File(*OWN)
    file.add("RandomNormal", [], "noise", shape=[1, 1, 1, 1], seed=7.0)
    file.add("Add", ["maps", "noise"], "a")
    file.as_rows("a")

    session = runtime.InferenceSession(freed(file.bytes()), providers=["CPUExecutionProvider"])
    (first,), (second,) = (session.run(None, {"image": noise(1, 32, 32)}) for _ in range(2))

    off = second - first
    assert abs(off[0, 0, 0]) > 0.01
    np.testing.assert_allclose(off, off[0, 0, 0], rtol=0, atol=1e-5)


def two_outputs(names):
    file = File(*OWN)
    file.as_rows("maps", names[0])
    file.add("Transpose", ["maps"], "last", perm=[0, 2, 3, 1])
    file.reshape("last", [0, -1, 4], names[1])
    return file


BOTH = attrs.evolve(
    DETECTOR,
    outputs=(TensorSpec(name="scores", dims=("n", "p", 2)), TensorSpec(name="maps", dims=("n", "q", 4))),
)


def test_outputs_are_found_by_their_names_in_whatever_order(freed):
    named = two_outputs(["scores", "boxes"])
    detector = attrs.evolve(
        DETECTOR,
        outputs=(TensorSpec(name="boxes", dims=("n", "q", 4)), TensorSpec(name="scores", dims=("n", "p", 2))),
    )

    boxes, scores = run(freed(named.bytes(outputs=["scores", "boxes"]), detector), noise(1, 32, 32))

    assert (boxes.shape, scores.shape) == ((1, 16, 4), (1, 32, 2))


def test_outputs_of_other_names_are_taken_in_their_order_whatever_else_is_called_so(freed):
    # "maps" is a tensor within the file, and what the record calls its second output.
    scores, maps = run(freed(two_outputs(["443", "446"]).bytes(outputs=["443", "446"]), BOTH), noise(1, 32, 32))

    assert (scores.shape, maps.shape) == ((1, 32, 2), (1, 16, 4))


def levels(*outputs, without_batch=False):
    """A score and a box of each cell of strides 8, 16 and 32, in files that list them as s8, s16, s32, b8, b16, b32."""
    file = File(64, 128)
    file.add("ReduceMean", ["maps"], "mean", axes=[1], keepdims=1)
    for stride, side in ((8, 1), (16, 2), (32, 4)):
        for kind, source, width in (("s", "mean", 1), ("b", "maps", 4)):
            name = f"{kind}{stride}"
            file.add("AveragePool", [source], f"{name} cells", kernel_shape=[side, side], strides=[side, side])
            file.add(
                "Transpose", [f"{name} cells"], f"{name} last", perm=[2, 3, 0, 1] if without_batch else [0, 2, 3, 1]
            )
            file.reshape(f"{name} last", [-1, width] if without_batch else [1, -1, width], name)
    return file.bytes(outputs=outputs)


LEVELS = attrs.evolve(
    DETECTOR,
    outputs=[
        TensorSpec(name=f"{kind}_{stride}", dims=("n", f"p{stride}", width))
        for kind, width in (("score", 1), ("box", 4))
        for stride in (8, 16)
    ],
)


@pytest.mark.parametrize("without_batch", [False, True])
@pytest.mark.parametrize(
    "outputs", [("s8", "s16", "b8", "b16"), ("s16", "s8", "b16", "b8"), ("b16", "s8", "s16", "b8")], ids=" ".join
)
def test_levels_are_told_by_their_rows_in_whatever_order_the_file_has_them(freed, outputs, without_batch):
    path = freed(levels(*outputs, without_batch=without_batch), LEVELS)

    # 96x64 pixels are 12x8 cells of stride 8, and 6x4 of stride 16.
    assert [array.shape for array in run(path, noise(1, 96, 64))] == [(1, 96, 1), (1, 24, 1), (1, 96, 4), (1, 24, 4)]


@pytest.mark.parametrize(
    ("outputs", "why"),
    [
        (("s8", "s16", "b16", "b32"), r"s8 \(1, 128, 1\) and b16 \(1, 32, 4\), taken for box_8, are of one level"),
        (("s8", "s8 cells", "b8", "b16"), r"2 are wanted like score_8 \(n, p8, 1\), score_16 .*, and there is s8 "),
    ],
)
def test_levels_of_other_rows_are_refused_with_those_of_each_output(freed, outputs, why):
    with pytest.raises(ContractError, match=why) as caught:
        freed(levels(*outputs), LEVELS)
    assert "for an input of 1x3x64x128 it gives s8 (1, 128, 1), " in caught.value.why[1]


def test_the_same_file_gives_the_same_small_bytes(freed):
    content = made(channels_shuffled, *OWN)

    assert (first := freed(content).read_bytes()) == freed(content).read_bytes()
    assert len(first) < len(content) + 1000


def test_what_the_record_fixes_need_not_be_free(freed):
    fixed = attrs.evolve(DETECTOR, input=TensorSpec(name="image", dims=("n", 3, *OWN)))

    (found,) = run(freed(made(takes_the_upper_half, *OWN), fixed), noise(3, *OWN))

    wanted = [run(made(takes_the_upper_half, *OWN), one[None])[0][0] for one in noise(3, *OWN)]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


def branches(file):
    part = helper.make_graph([], "part", [], [helper.make_tensor_value_info("maps", TensorProto.FLOAT, None)])
    file.add("If", [file.constant("yes", True, np.bool_)], "out", then_branch=part, else_branch=part)


def adds_anchors(file):
    sizes_in_a_reshape(file)
    file.nodes[-1].output[0] = "b"
    file.add("Add", ["b", file.constant("anchors", np.ones((1, 2 * file.cells, 2)), np.float32)], "out")


def takes_the_upper_half(file):
    half = file.rows // 2
    file.add("Slice", ["maps", file.constant("0", [0]), file.constant("half", [half]), file.constant("2", [2])], "a")
    file.as_rows("a")


def resizes_to_odd_sides(file):
    file.add("Resize", ["maps", "", "", file.constant("sizes", [1, 4, 7, 7])], "a")
    file.as_rows("a")


def averages_the_batch(file):
    file.add("ReduceMean", ["maps"], "a", axes=[0], keepdims=1)
    file.as_rows("a")


def subtracts_the_mean_of_the_batch(file):
    file.add("ReduceMean", ["maps"], "a", axes=[0], keepdims=1)
    file.add("Sub", ["maps", "a"], "b")
    file.as_rows("b")


def asks_for_a_shape_without_a_batch(file):
    file.add("Squeeze", ["maps", file.constant("axes", [0])], "a")
    file.add("Shape", ["a"], "shape")
    file.add("Reshape", ["a", "shape"], "b")
    file.add("Unsqueeze", ["b", "axes"], "c")
    file.as_rows("c")


def adds_itself_without_a_batch(file):
    file.add("Squeeze", ["maps", file.constant("axes", [0])], "a")
    file.add("Add", ["maps", "a"], "b")
    file.as_rows("b")


def pools_without_a_batch(file):
    file.add("Squeeze", ["maps", file.constant("axes", [0])], "a")
    file.add("MaxPool", ["a"], "b", kernel_shape=[2])
    file.reshape("b", [1, -1, 2], "out")


def likens_images(file):
    file.add("Softmax", ["maps"], "a", axis=0)
    file.as_rows("a")


def likens_cells_with_the_without_batch(file):
    file.add("Transpose", ["maps"], "a", perm=[2, 3, 0, 1])
    file.add("Softmax", ["a"], "b", axis=1)
    file.reshape("b", [1, -1, 2], "out")


def pools_all_of_one_size(file):
    file.add("AveragePool", ["maps"], "a", kernel_shape=[file.rows, file.columns])
    file.reshape("a", [1, 2, 2], "out")


def takes_three_cells_at_once(file):
    file.reshape("maps", [1, 4, file.cells // 3, 3], "a")
    file.as_rows("a")


def makes_channels_of_cells(file):
    rows, columns = file.rows // 2, file.columns // 2
    file.reshape("maps", [1, 4, rows, 2, columns, 2], "a")
    file.add("Transpose", ["a"], "b", perm=[0, 1, 3, 5, 2, 4])
    file.reshape("b", [1, 16, rows, columns], "c")
    file.as_rows("c")


def repeats_the_image(file):
    file.add("Expand", ["maps", file.constant("size", [2, 1, 4, file.rows, file.columns])], "a")
    file.reshape("a", [1, -1, 2], "out")


def adds_anchors_to_maps(file):
    file.add("Add", ["maps", file.constant("anchors", np.ones((1, 4, file.rows, file.columns)), np.float32)], "a")
    file.as_rows("a")


def has_an_operator_of_its_own(file):
    file.add("Magic", ["maps"], "a", domain="com.acme")
    file.as_rows("a")


def has_an_operator_of_one_runtime(file):
    """ONNX Runtime knows it among the standard's, and no other runtime does."""
    file.add("Transpose", ["maps"], "a", perm=[0, 2, 3, 1])
    file.add("SimplifiedLayerNormalization", ["a", file.constant("scale", np.ones(4), np.float32)], "b")
    file.reshape("b", [1, -1, 2], "out")


def gives_other_widths(file):
    file.add("Transpose", ["maps"], "a", perm=[0, 2, 3, 1])
    file.reshape("a", [1, -1, 4], "out")


def gives_other_widths_by_its_name(file):
    file.add("Transpose", ["maps"], "a", perm=[0, 2, 3, 1])
    file.reshape("a", [1, -1, 4], "scores")


@pytest.mark.parametrize(
    ("ending", "why"),
    [
        (branches, "the If 'out' branches or repeats a part of the graph"),
        (adds_anchors, r"the free graph does not run on an input of 2x3x128x160: numbers for one size .* \(Add: [A-Z]"),
        (takes_the_upper_half, "the Slice 'a' takes 0 to 4 of 8, which depends on the image's size"),
        (resizes_to_odd_sides, "the Resize 'a' makes 7 of 8, which is no whole multiple or part"),
        (averages_the_batch, r"'scores' is float32 \(1, 640, 2\) for an input of 2x3x128x160; declared: \(n, p, 2\)"),
        (subtracts_the_mean_of_the_batch, r"'scores' is off by [\d.e+]+ from what the same image by itself gives"),
        (asks_for_a_shape_without_a_batch, "the Shape 'shape' asks for the shape of what has lost its batch axis"),
        (adds_itself_without_a_batch, "the Add 'b' joins tensors that have their batch axis in different places"),
        (pools_without_a_batch, "the MaxPool 'b' works on what has no batch axis in front"),
        (likens_images, "the Softmax 'a' works along the batch axis, or where it is not in front"),
        (
            likens_cells_with_the_without_batch,
            "the Softmax 'b' works along the batch axis, or where it is not in front",
        ),
        (pools_all_of_one_size, "the Reshape 'scores' has a side of 1 that grows with the image"),
        (takes_three_cells_at_once, "the Reshape 'a' splits what depends on the image's size in an unknown way"),
        (
            makes_channels_of_cells,
            "the Reshape 'a' has several sides that depend on the image's size, and none of them alone",
        ),
        (repeats_the_image, "the Expand 'a' adds axes in front of the batch"),
        (adds_anchors_to_maps, r"it does not run on an input of 2x3x128x160: numbers for one size .* \(Add: [A-Z]"),
        (has_an_operator_of_its_own, "it does not run on an input of 1x3x64x96: .*Magic"),
        (has_an_operator_of_one_runtime, "the free graph is not valid: .*SimplifiedLayerNormalization"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_made_free_is_refused_with_the_reason(freed, ending, why):
    with pytest.raises(ContractError, match=why) as caught:
        freed(made(ending, *OWN))
    assert "published.onnx cannot become a graph of 'tiny' for any batch and size." in caught.value.what
    assert "free batch, height and width" in str(caught.value.fix)
    assert not re.search("/onnxruntime|was false|Status Message", str(caught.value))


FAILED = "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running "


@pytest.mark.parametrize(
    ("said", "short"),
    [
        (
            f"{FAILED}Mul node. Name:'' Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/math/ops.h:583 "
            "void onnxruntime::BroadcastIterator::Append(ptrdiff_t, ptrdiff_t) axis == 1 || axis == largest was false. "
            "Attempting to broadcast an axis by a dimension other than 1. 2820 by 4420\n",
            "Mul: Attempting to broadcast an axis by a dimension other than 1. 2820 by 4420",
        ),
        (
            f"{FAILED}Gather node. Name:'/a' Status Message: /b/gather.cc:9 onnxruntime::common::Status "
            "onnxruntime::Gather::Go(int) indices too large",
            "Gather: indices too large",
        ),
        (
            f"{FAILED}Conv node. Name:'first' Status Message: Input channels C is not equal to kernel channels.",
            "Conv: Input channels C is not equal to kernel channels.",
        ),
        ("Load model failed", "RuntimeError: Load model failed"),
    ],
)
def test_of_a_node_that_fails_only_what_it_met_is_said(said, short):
    assert failure(RuntimeError(said)) == short


def takes_one_image(file):
    file.add("Gather", ["maps", file.constant("index", 1)], "a")
    file.reshape("a", [1, -1, 2], "out")


def joins_the_rows_of_all_images(file):
    file.reshape("maps", [1, -1, 2], "out")


@pytest.mark.parametrize(
    ("ending", "why"),
    [
        (takes_one_image, "the Gather 'a' takes images out of the batch"),
        (joins_the_rows_of_all_images, "the Reshape 'scores' mixes the images of a batch"),
    ],
)
def test_a_file_of_several_images_that_are_no_longer_apart_is_refused(freed, ending, why):
    with pytest.raises(ContractError, match=why):
        freed(made(ending, *OWN, batch=2))


def test_a_file_that_takes_any_size_is_compared_at_another_one_as_well(freed):
    def resized_to_one_size(file):
        file.add("Resize", ["maps", "", "", file.constant("sizes", [1, 4, 20, 20])], "a", mode="nearest")
        file.as_rows("a")

    # Maps of 40x40 become 20x20, and so do those of 12x16, of which the free graph makes half as well.
    with pytest.raises(ContractError, match="'scores' has 192 numbers, and the original gives 1600"):
        freed(made(resized_to_one_size, *OWN, sides=[1, 3, "h", "w"]))


def test_an_output_that_no_image_changes_is_refused(freed):
    file = File(*OWN)
    file.as_rows("maps")
    file.add("Constant", [], "anchors", value=numpy_helper.from_array(np.ones((1, 3, 4), np.float32)))

    with pytest.raises(ContractError, match="the output 'maps' does not depend on the image"):
        freed(file.bytes(outputs=["out", "anchors"]), BOTH)


def test_weights_in_another_file_are_refused(freed):
    model = onnx.load_from_string(made(sizes_in_a_reshape, *OWN))
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL

    with pytest.raises(ContractError, match="it keeps its weights in another file"):
        freed(model.SerializeToString())


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (made(sizes_in_a_reshape, *OWN, sides=[1, 64, 96, 3]), r"it takes FLOAT \[1, 64, 96, 3\], and one input"),
        (made(sizes_in_a_reshape, *OWN, outputs=["out", "a"]), r"none is wanted like a \(1, 8, 12, 4\)"),
        (
            made(gives_other_widths_by_its_name, *OWN, outputs=["scores"]),
            r"'scores' is float32 \(1, 96, 4\) for an input of 1x3x64x96; declared: \(n, p, 2\)",
        ),
        (made(gives_other_widths, *OWN), r"1 is wanted like scores \(n, p, 2\), and there are none"),
    ],
    ids=["channels last", "another number of outputs", "another width of the same name", "another width"],
)
def test_what_is_another_network_is_refused_and_may_be_a_detector_of_its_own(tmp_path, content, why):
    path = tmp_path / "published.onnx"
    path.write_bytes(content)
    graph = Graph(kind="onnx-file", source=path, detector=DETECTOR, trusted=False)
    with pytest.raises(ContractError, match=why) as caught:
        write(graph, tmp_path)
    assert caught.value.what == f"{path} does not hold a network like that of 'tiny'."
    assert caught.value.fix.settings == {"detector": str(path)}
    with pytest.raises(ContractError) as caught:
        write(attrs.evolve(graph, trusted=True), tmp_path)
    assert not caught.value.fix


def test_a_damaged_file_is_refused(freed):
    with pytest.raises(ContractError, match="it cannot be read"):
        freed(b"\x08\x08 no graph")


@pytest.fixture
def graph(tmp_path):
    path = tmp_path / "published.onnx"
    path.write_bytes(made(batch_moved_and_left_out, *OWN))
    return Graph(kind="onnx-file", source=path, detector=DETECTOR)


def test_a_process_of_its_own_reads_it_and_nothing_of_it_shows_here(graph, freed, tmp_path, capfd):
    path = OnnxFileConverter().convert(graph, tmp_path)

    assert path == tmp_path / "tiny.onnx"
    assert path.read_bytes() == freed(graph.source.read_bytes()).read_bytes()
    assert capfd.readouterr() == ("", "")


def test_a_refusal_crosses_from_that_process(graph, tmp_path):
    graph.source.write_bytes(b"")
    with pytest.raises(ContractError, match="it takes nothing, and one input FLOAT"):
        OnnxFileConverter().convert(graph, tmp_path)


def test_a_file_that_crashes_or_hangs_its_process_is_refused(graph, tmp_path, monkeypatch):
    def crash(*_, **__):
        raise NotDoneError("its process ended with signal 11, SIGSEGV")

    monkeypatch.setattr(onnx_file, "call", crash)
    with pytest.raises(ContractError, match="in a process of its own, its process ended with signal 11"):
        OnnxFileConverter().convert(graph, tmp_path)


def test_without_such_a_process_only_a_file_of_the_record_is_read(graph, tmp_path, monkeypatch):
    def nowhere(*_, **__):
        raise NotBegunError("this program is no Python interpreter")

    monkeypatch.setattr(onnx_file, "call", nowhere)
    assert OnnxFileConverter().convert(graph, tmp_path).is_file()
    with pytest.raises(ContractError, match="no process of its own can be started to read a stranger's file"):
        OnnxFileConverter().convert(attrs.evolve(graph, trusted=False), tmp_path)
