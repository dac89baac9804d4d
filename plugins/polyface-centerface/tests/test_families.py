"""The family ``centerface``: a user's own file gives what the detector gives, whatever its outputs are called."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import polyface
from polyface.errors import ConfigError, ContractError
from polyface.graphs import resolve
from polyface.graphs.families import find_detector
from polyface.pipeline.calibration import Calibration
from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import DetectorSpec
from polyface.settings.config import Config

onnx = pytest.importorskip("onnx", reason="the file is written with onnx: pip install onnx")


@pytest.fixture
def own(tmp_path):
    """The packaged graph with the names of the published one."""
    spec = installed_plugins().get(DetectorSpec, "centerface")
    model = onnx.load(spec.weights[0].ref.path())
    names = {output.name: str(537 + index) for index, output in enumerate(spec.outputs)}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in model.graph.output:
        value.name = names[value.name]
    path = tmp_path / "mine.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("free", [False, True])
def test_it_gives_what_the_detector_gives(require, own, pytestconfig, free):
    require("onnxruntime")
    [image, *_] = sorted((pytestconfig.rootpath / "examples").glob("*.jpg"))
    with polyface.create_detector("centerface", backend="onnxruntime") as detector:
        wanted = detector.detect(image)
    options = {"family": "centerface", "family_options": {"free": free}}
    with polyface.create_detector(str(own), backend="onnxruntime", **options) as detector:
        found = detector.detect(image)
        assert detector.spec.landmarks
    assert len(wanted)
    np.testing.assert_allclose(found.boxes, wanted.boxes, atol=1e-2)
    np.testing.assert_allclose(found.landmarks, wanted.landmarks, atol=1e-2)


def test_8_bits_are_for_all_layers_of_a_file_and_layers_of_the_detector_are_not_looked_for_in_it(
    require, own, tmp_path
):
    require("onnxruntime")
    pytest.importorskip("polyface_onnxruntime.quantize")
    names = [output.name for output in installed_plugins().get(DetectorSpec, "centerface").outputs]
    value, floats = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    weights = {name: np.ones((width, 3, 4, 4), np.float32) for name, width in zip(names, (1, 2, 2, 10), strict=True)}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["image", f"{name}.w"], [name], strides=[4, 4]) for name in names],
        "layers with other names",
        [value("image", floats, ["n", 3, "h", "w"])],
        [value(name, floats, ["n", len(weight), "rows", "columns"]) for name, weight in weights.items()],
        [onnx.numpy_helper.from_array(weight, f"{name}.w") for name, weight in weights.items()],
    )
    path = tmp_path / "other.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8), path)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")

    def quantized(**settings):
        config = Config(**settings)
        calibration = Calibration(config, find_detector(config, installed_plugins())[0], [tmp_path / "a.png"])
        return resolve.quantize(config, installed_plugins(), calibration, "onnx-int8", tmp_path / "stored")

    with pytest.raises(ContractError, match=r"no weight of a Conv matches 'head\.\*', '542'") as caught:
        quantized(detector="centerface", weights=str(path))
    assert caught.value.fix.settings == {"detector": str(path), "family": "centerface"}
    made = onnx.load(quantized(**caught.value.fix.settings, family_options={"free": False}).path)
    # The image goes to 8 bits once, and so does what each of the four layers gives.
    assert [node.op_type for node in made.graph.node].count("QuantizeLinear") == 1 + 4


def test_another_network_is_refused(tmp_path):
    value, floats = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [], "other", [value("image", floats, [1, 3, 32, 32])], [value("heat", floats, [1, 1, 8, 8])]
    )
    onnx.save(onnx.helper.make_model(graph), tmp_path / "mine.onnx")
    with pytest.raises(ConfigError, match=r"wants outputs like heatmap \(n, 1, rows, columns\), "):
        polyface.create_detector(str(tmp_path / "mine.onnx"), family="centerface")
