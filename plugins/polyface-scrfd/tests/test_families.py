"""The family ``scrfd``: a file that the user has gives what the detector gives, whatever its outputs are called."""

from __future__ import annotations

import numpy as np
import pytest

import polyface
from polyface.errors import ContractError
from polyface.graphs.families import find_detector
from polyface.plugins.manager import installed_plugins
from polyface.settings.config import Config


@pytest.mark.parametrize(("name", "options"), [("scrfd-500m", {}), ("scrfd-2.5g", {"free": True})])
def test_it_gives_what_the_detector_gives(require, published, pytestconfig, name, options):
    require("onnxruntime", "onnx")
    path = str(published(name))
    [image, *_] = sorted((pytestconfig.rootpath / "examples").glob("*.jpg"))
    with polyface.create_detector(name, weights=path, backend="onnxruntime") as detector:
        wanted = detector.detect(image)
    with polyface.create_detector(path, family="scrfd", family_options=options, backend="onnxruntime") as detector:
        found = detector.detect(image)
    assert len(wanted)
    np.testing.assert_allclose(found.boxes, wanted.boxes, atol=1e-2)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)
    np.testing.assert_allclose(found.landmarks, wanted.landmarks, atol=1e-2)


def test_a_file_of_a_fixed_size_runs_as_it_is_without_the_converter(require, published, pytestconfig):
    require("onnxruntime")
    path = str(published("scrfd-2.5g"))
    spec, _ = find_detector(Config(detector=path, family="scrfd"), installed_plugins())
    assert (spec.graphs[0].kind, spec.fixed_size, spec.fixed_batch) == ("onnx", (640, 640), 1)
    with polyface.create_detector(path, family="scrfd", backend="onnxruntime") as detector:
        for image in sorted((pytestconfig.rootpath / "examples").glob("*.jpg")):
            assert len(detector.detect(image))


@pytest.mark.parametrize("free", [False, True], ids=["fixed rows", "free rows"])
@pytest.mark.parametrize(
    "order", [(2, 1, 0, 5, 4, 3, 8, 7, 6), (0, 1, 2, 5, 4, 3, 8, 7, 6)], ids=["all", "all but one"]
)
def test_levels_in_another_order_give_the_same_faces_or_an_error(
    require, published, pytestconfig, tmp_path, order, free
):
    require("onnxruntime", "onnx")
    import onnx

    path = str(published("scrfd-2.5g"))
    model = onnx.load(path)
    outputs = [model.graph.output[at] for at in order]
    for output in outputs if free else ():
        output.type.tensor_type.shape.dim[-2].dim_param = f"rows of {output.name}"
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    onnx.save(model, tmp_path / "mine.onnx")
    [image, *_] = sorted((pytestconfig.rootpath / "examples").glob("*.jpg"))
    with polyface.create_detector(path, family="scrfd", backend="onnxruntime") as detector:
        wanted = detector.detect(image)
    with polyface.create_detector(str(tmp_path / "mine.onnx"), family="scrfd", backend="onnxruntime") as detector:
        if free:
            with pytest.raises(ContractError, match="since the levels go from the finest to the coarsest"):
                detector.detect(image)
        else:
            assert detector.detect(image) == wanted
