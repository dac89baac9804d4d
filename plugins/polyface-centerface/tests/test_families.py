"""The family ``centerface``: a user's own file gives what the detector gives, whatever its outputs are called."""

from __future__ import annotations

import numpy as np
import pytest

import polyface
from polyface.errors import ConfigError
from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import DetectorSpec

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


def test_another_network_is_refused(tmp_path):
    value, floats = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [], "other", [value("image", floats, [1, 3, 32, 32])], [value("heat", floats, [1, 1, 8, 8])]
    )
    onnx.save(onnx.helper.make_model(graph), tmp_path / "mine.onnx")
    with pytest.raises(ConfigError, match=r"wants outputs like heatmap \(n, 1, rows, columns\), "):
        polyface.create_detector(str(tmp_path / "mine.onnx"), family="centerface")
