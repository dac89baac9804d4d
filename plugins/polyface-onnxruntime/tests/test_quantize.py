"""The quantizer, on networks small enough to say by hand how far 8 bits may be from float."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import attrs
import numpy as np
import pytest

from polyface.errors import ContractError, ImageError
from polyface.pipeline.calibration import Calibration
from polyface.plugins.protocols import CompileRequest, Graph, Quantizer
from polyface.plugins.records import DetectorSpec, GraphSource, Preprocess, Ref, TensorSpec
from polyface.settings.config import Config
from polyface_onnxruntime.plugin import polyface_converters

onnx = pytest.importorskip("onnx", reason="graphs are written with onnx: pip install 'polyface-onnxruntime[quantize]'")
pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'polyface-onnxruntime[cpu]'")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - only once onnx is known to be there

from polyface_onnxruntime import quantize  # noqa: E402
from polyface_onnxruntime.backend import OnnxRuntimeBackend  # noqa: E402
from polyface_onnxruntime.quantize import Int8Quantizer, quantized_nodes  # noqa: E402

# The second output channel is a hundred times smaller: with one scale for all it would be lost.
FIRST = np.array([[100, -50, 25], [1, -0.5, 0.75]], np.float32)
SECOND = np.array([[1, -2], [0.5, 0.25]], np.float32)
WEIGHTS = {"body.0.weight": FIRST, "body.1.weight": SECOND, "head.weight": SECOND.T}

DETECTOR = DetectorSpec(
    name="tiny",
    summary="three 1x1 convolutions",
    graph_version=1,
    input=TensorSpec(name="image", dims=("n", 3, "h", "w")),
    outputs=(TensorSpec(name="maps", dims=("n", 2, "h", "w")),),
    preprocess=Preprocess(channels="rgb", mean=(0, 0, 0)),
    head=Ref("tiny:Head"),
    graphs=(GraphSource(kind="numpy", ref=Ref("tiny:build")),),
)


def images(*, seed=0, count=3, reach=1.0):
    """Noise from -``reach`` to ``reach``, of several sizes; what drives ``FIRST`` furthest is in each."""
    draw = np.random.default_rng(seed)
    made = [draw.uniform(-reach, reach, (1, 3, 8 + 4 * n, 12)).astype(np.float32) for n in range(count)]
    for image in made:
        image[0, :, 0, :2] = np.float32([[reach, -reach], [-reach, reach], [reach, -reach]])
    return made


def conv(source, weight, target):
    return helper.make_node("Conv", [source, weight], [target], name=f"conv {weight}")


@pytest.fixture
def write(tmp_path):
    """Write a graph of these nodes, from ``image`` to ``maps``."""

    def write(*nodes, keep_float=(), opset=18):
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])],
            [helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["n", 2, "h", "w"])],
            [numpy_helper.from_array(value[:, :, None, None], name) for name, value in WEIGHTS.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        (tmp_path / "tiny.onnx").write_bytes(model.SerializeToString())
        detector = attrs.evolve(DETECTOR, keep_float=keep_float)
        return Graph(kind="onnx", source=tmp_path / "tiny.onnx", detector=detector)

    return write


@pytest.fixture
def quantized(tmp_path):
    def quantized(graph, calibration=None):
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        path = Int8Quantizer().quantize(graph, calibration or images(), folder)
        assert list(folder.iterdir()) == [path]
        return attrs.evolve(graph, kind="onnx-int8", source=path)

    return quantized


def run(graph, image, precision="int8"):
    session = OnnxRuntimeBackend().compile(graph, CompileRequest(device="cpu", precision=precision))
    outputs = session.run({graph.detector.input.name: image})
    return outputs["maps"] if set(outputs) == {"maps"} else outputs


def allowed(weight, image, outputs):
    """How far a quantized 1x1 convolution may be from float, by output channel.

    Half a step of each input by its weight, half a step of each weight by its input, and half a step of the output: 256
    steps for what lies between the least and the greatest number, 127 for weights of 7 bits with their sign.
    """
    step = (image.max() - image.min()) / 255
    weight_step = 2 * np.abs(weight).max(axis=1) / 127
    inputs = np.abs(image).max(axis=(0, 2, 3))
    output_step = (outputs.max() - outputs.min()) / 255
    return (np.abs(weight).sum(axis=1) * step + inputs.sum() * weight_step + output_step) / 2 * 1.05


def test_the_record_is_calibrated_and_gives_a_quantizer():
    [spec] = [spec for spec in polyface_converters() if spec.calibrated]
    assert (spec.source, spec.target, spec.calibrated) == ("onnx", "onnx-int8", True)
    assert isinstance(spec.factory.load()(), Quantizer)


@pytest.mark.parametrize("shape", [(1, 3, 8, 12), (2, 3, 5, 31)])
def test_each_channel_is_as_near_to_float_as_its_own_steps_allow(write, quantized, shape):
    image = np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)
    wanted = np.einsum("nchw,oc->nohw", image, FIRST)
    off = np.abs(run(quantized(write(conv("image", "body.0.weight", "maps"))), image) - wanted).max(axis=(0, 2, 3))
    whole = np.float32([[[[175]], [[2.25]]], [[[-175]], [[-2.25]]]])  # what 1, -1, 1 and its opposite give
    bound = allowed(FIRST, np.float32([[[[-1, 1]]] * 3]), whole)
    assert (off <= bound).all()
    # 8 bits are not float, so something of it must be seen, or nothing was quantized.
    assert off[0] > bound[0] / 100


@pytest.mark.parametrize("opset", [9, 11, 12, 13])
def test_an_old_graph_is_upgraded_and_gives_the_same(write, quantized, opset):
    image = images(seed=1, count=1)[0]
    nodes = conv("image", "body.0.weight", "a"), helper.make_node("Relu", ["a"], ["maps"], name="relu")
    old = quantized(write(*nodes, opset=opset))
    assert onnx.load(old.source).opset_import[0].version >= 13
    wanted = np.maximum(np.einsum("nchw,oc->nohw", image, FIRST), 0)
    whole = np.float32([[[[175]], [[2.25]]], [[[-175]], [[-2.25]]]])
    off = np.abs(run(old, image) - wanted).max(axis=(0, 2, 3))
    assert (off <= allowed(FIRST, np.float32([[[[-1, 1]]] * 3]), whole)).all()


def test_an_old_graph_that_cannot_be_upgraded_is_refused(write, tmp_path):
    graph = write(conv("image", "body.0.weight", "maps"), opset=11)
    model = onnx.load(graph.source)
    model.graph.node.append(helper.make_node("Nonesuch", ["maps"], ["more"]))
    with pytest.raises(ContractError, match="its opset is 11, and it cannot be converted to 13") as caught:
        quantize.upgrade(model, graph)
    assert "Nonesuch" in caught.value.why[0]
    assert "opset 13" in str(caught.value.fix)


def test_what_cannot_be_loaded_is_refused_before_it_is_kept(write, tmp_path, monkeypatch):
    def write_junk(_model, path, *_, **__):
        Path(path).write_bytes(b"junk")

    monkeypatch.setattr(quantize.quantization, "quantize_static", write_junk)
    with pytest.raises(ContractError, match="ONNX Runtime does not load what comes of it"):
        quantize.write(write(conv("image", "body.0.weight", "maps")), images(), tmp_path)


@pytest.mark.shared
def test_a_published_graph_of_opset_11_gives_faces_of_nearly_the_same_scores(quantized, shared):
    path = shared / "weights/yunet_n_dynamic.onnx"
    names = [output.name for output in onnx.load(path, load_external_data=False).graph.output]
    detector = attrs.evolve(
        DETECTOR,
        input=TensorSpec(name="input", dims=("n", 3, "h", "w")),
        outputs=[TensorSpec(name=name, dims=("n", "p", "c")) for name in names],
    )
    graph = Graph(kind="onnx", source=path, detector=detector)
    noise = [np.random.default_rng(n).uniform(0, 255, (1, 3, 64, 96)).astype(np.float32) for n in range(3)]
    wanted, got = run(graph, noise[0], "fp32"), run(quantized(graph, noise), noise[0])
    for name in names:
        if name.startswith(("cls", "obj")):
            assert np.abs(got[name] - wanted[name]).max() < 0.1


def test_weights_have_seven_bits_with_a_scale_for_each_output_channel(write, quantized):
    model = onnx.load(quantized(write(conv("image", "body.0.weight", "maps"))).source)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    [weight] = [tensor for tensor in tensors.values() if tensor.dtype == np.int8 and tensor.ndim == 4]
    # 100 is the largest of its channel and 1 of its: each is the largest number of 7 bits.
    np.testing.assert_array_equal(weight[:, 0, 0, 0], [64, 64])
    np.testing.assert_array_equal(weight[:, 1, 0, 0], [-32, -32])


def test_every_image_counts_the_last_one_too(write, quantized):
    graph = write(conv("image", "body.0.weight", "maps"))
    wide = quantized(graph, [*images(), *images(count=1, reach=4.0)])
    image = np.full((1, 3, 4, 4), 4, np.float32)
    # Had the range ended at 1, all would be cut there: a quarter of it.
    np.testing.assert_allclose(run(wide, image)[:, 0], 300, rtol=0.05)  # 4 times 100 - 50 + 25


def test_layers_to_keep_stay_as_they_are(write, quantized):
    graph = write(
        conv("image", "body.0.weight", "a"),
        conv("a", "body.1.weight", "b"),
        conv("b", "head.weight", "maps"),
        keep_float=["head.*", "body.1*"],
    )
    assert quantized_nodes(onnx.load(graph.source), graph) == ["conv body.0.weight"]
    model = onnx.load(quantized(graph).source)
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name in ("body.1.weight", "head.weight"):
        np.testing.assert_array_equal(kept[name][:, :, 0, 0], WEIGHTS[name])
    assert "body.0.weight" not in kept


def dilated(source, weight, target):
    """A 1x1 convolution that takes 3x5 zeros around its input."""
    node = conv(source, weight, target)
    sides = helper.make_attribute("pads", [1, 2, 2, 3]), helper.make_attribute("dilations", [2, 2])
    node.attribute.extend(sides)
    return node


def test_a_dilated_layer_finds_its_input_padded_and_gives_the_same(write, quantized):
    image = images(seed=1, count=1)[0]
    plain = run(quantized(write(conv("image", "body.0.weight", "a"), conv("a", "body.1.weight", "maps"))), image)
    graph = quantized(write(conv("image", "body.0.weight", "a"), dilated("a", "body.1.weight", "maps")))
    nodes = {node.name: node for node in onnx.load(graph.source).graph.node}
    assert sum(node.op_type == "Pad" for node in nodes.values()) == 1
    [pads] = [one.ints for one in nodes["conv body.1.weight"].attribute if one.name == "pads"]
    assert list(pads) == [0, 0, 0, 0]
    padded = run(graph, image)
    np.testing.assert_array_equal(padded[:, :, 1:-2, 2:-3], plain)
    border = padded.copy()
    border[:, :, 1:-2, 2:-3] = 0
    assert not border.any()


def test_layers_without_names_are_told_apart(write, quantized):
    nodes = [conv("image", "body.0.weight", "a"), conv("a", "body.1.weight", "maps")]
    for node in nodes:
        node.name = ""
    model = onnx.load(quantized(write(*nodes, keep_float=["body.1.weight"])).source)
    kept = {tensor.name for tensor in model.graph.initializer}
    assert "body.1.weight" in kept
    assert "body.0.weight" not in kept


def test_what_lies_between_two_layers_is_quantized_only_where_both_its_inputs_are(write):
    graph = write(
        conv("image", "body.0.weight", "a"),
        helper.make_node("Relu", ["a"], ["b"], name="after a quantized layer"),
        conv("b", "body.1.weight", "c"),
        helper.make_node("Add", ["b", "c"], ["d"], name="of two quantized"),
        conv("d", "head.weight", "e"),
        helper.make_node("LeakyRelu", ["e"], ["f"], name="after a layer in float"),
        helper.make_node("Concat", ["d", "f"], ["g"], axis=2, name="of one quantized and one in float"),
        helper.make_node("Sigmoid", ["g"], ["maps"], name="of another kind"),
        keep_float=["head.weight"],
    )
    assert quantized_nodes(onnx.load(graph.source), graph) == [
        "conv body.0.weight",
        "after a quantized layer",
        "conv body.1.weight",
        "of two quantized",
    ]


def test_sizes_of_a_resize_are_no_numbers_of_the_network(write):
    graph = write(
        conv("image", "body.0.weight", "a"),
        helper.make_node("Shape", ["image"], ["size"], name="size"),
        helper.make_node("Resize", ["a", "", "", "size"], ["maps"], name="resize"),
    )
    assert quantized_nodes(onnx.load(graph.source), graph) == ["conv body.0.weight", "resize"]


@pytest.mark.parametrize(
    ("keep_float", "message"),
    [
        (["body.*"], "There is nothing to quantize"),
        (["head.*"], "no weight of a Conv matches 'head.*'"),
    ],
)
def test_a_record_that_does_not_fit_the_graph_is_refused(write, keep_float, message):
    graph = write(conv("image", "body.0.weight", "maps"), keep_float=keep_float)
    with pytest.raises(ContractError) as caught:
        quantized_nodes(onnx.load(graph.source), graph)
    assert message in str(caught.value)


def test_layers_that_a_file_does_not_have_are_mended_in_the_record_or_by_a_detector_of_its_own(write):
    graph = write(conv("image", "body.0.weight", "maps"), keep_float=["546"])
    for trusted, fix in (
        (True, "correct keep_float in the detector's record"),
        (False, f'quantize all of it, as a detector of its own: detector="{graph.source}"'),
    ):
        with pytest.raises(ContractError) as caught:
            quantized_nodes(onnx.load(graph.source), attrs.evolve(graph, trusted=trusted))
        assert str(caught.value.fix) == fix


def test_the_same_images_give_the_same_bytes(write, quantized, tmp_path):
    graph = write(conv("image", "body.0.weight", "maps"))
    first = quantized(graph).source.read_bytes()
    (tmp_path / "again").mkdir()
    assert Int8Quantizer().quantize(graph, images(), tmp_path / "again").read_bytes() == first


def test_a_process_of_its_own_does_it_and_nothing_of_it_shows_here(write, quantized, tmp_path, caplog, capfd):
    graph = write(conv("image", "body.0.weight", "maps"))
    before = [*logging.root.handlers], logging.root.manager.disable
    found = quantized(graph).source.read_bytes()
    assert ([*logging.root.handlers], logging.root.manager.disable) == before
    assert (caplog.records, capfd.readouterr()) == ([], ("", ""))
    (tmp_path / "here").mkdir()
    assert quantize.write(graph, images(), tmp_path / "here").read_bytes() == found


def test_an_image_that_cannot_be_read_is_named_as_ever(write, tmp_path):
    (tmp_path / "none").mkdir()
    calibration = Calibration(Config(), DETECTOR, [tmp_path / "no.png"])
    with pytest.raises(ImageError, match=r"no\.png"):
        Int8Quantizer().quantize(write(conv("image", "body.0.weight", "maps")), calibration, tmp_path / "none")
