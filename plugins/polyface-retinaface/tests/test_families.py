"""Users' own ONNX files: what the families read from them, and the faces that are found with known numbers."""

from __future__ import annotations

import json
import multiprocessing
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import polyface
from polyface.errors import ConfigError, ContractError, WeightsMismatchError
from polyface.graphs.families import find_detector
from polyface.plugins.manager import installed_plugins
from polyface.plugins.protocols import GraphTensor, Interface
from polyface.plugins.records import FamilySpec, WeightsFile
from polyface.settings.config import Config
from polyface_retinaface.head import Head

pytest.importorskip("onnx", reason="the files are written with onnx: pip install onnx")
from onnx_files import RETINAFACE, make_image, write_ssd

SCORE = 1 / (1 + np.exp(-8.0))
"""Of the red cell, whose pixels are 1 after mean and standard deviation."""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def describe(path, family, **options):
    spec, _ = find_detector(Config(detector=str(path), family=family, family_options=options), installed_plugins())
    return spec


def found(path, image, **settings):
    with polyface.create_detector(str(path), backend="onnxruntime", **settings) as detector:
        return detector.detect(image)


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ({}, {}),
        ({"decoded": False}, {}),
        ({"logits": True}, {}),
        ({"decoded": False, "logits": True}, {"clip": False}),
        ({"decoded": False, "size": (480, 640)}, {}),
        ({"decoded": False, "size": None}, {}),
    ],
    ids=str,
)
def test_a_file_like_ultraface_finds_the_face_where_it_is(require, file, options):
    require("onnxruntime")
    size = file.get("size", (240, 320)) or (256, 320)
    faces = found(write_ssd("mine.onnx", **file), make_image(*size), family="ssd", family_options=options)
    np.testing.assert_allclose(faces.boxes, [[39, 79, 49, 89]], atol=1e-3)
    np.testing.assert_allclose(faces.scores, [SCORE], rtol=1e-5)


def test_an_image_of_another_size_is_brought_to_a_fixed_one(require):
    require("onnxruntime")
    faces = found(write_ssd("mine.onnx"), np.repeat(np.repeat(make_image(), 2, 0), 2, 1), family="ssd")
    np.testing.assert_allclose(faces.boxes, [[78, 158, 98, 178]], atol=2e-3)


def test_a_batch_goes_one_by_one_through_a_file_of_batch_one(require):
    require("onnxruntime")
    images = [make_image(column=column) for column in (3, 5, 9)]
    with polyface.create_detector(str(write_ssd("mine.onnx")), family="ssd", backend="onnxruntime") as detector:
        left = [faces.boxes[0, 0] for faces in detector.detect_batch(images)]
    np.testing.assert_allclose(left, [23, 39, 71], atol=1e-3)


def test_a_fixed_batch_of_more_pixels_than_the_usual_run_is_kept_to(require):
    require("onnxruntime")
    path = write_ssd("mine.onnx", batch=64)  # 64 x 240 x 320 is more than 2048 x 2048
    assert describe(path, "ssd").run_pixels == 4_915_200
    np.testing.assert_allclose(found(path, make_image(), family="ssd").boxes, [[39, 79, 49, 89]], atol=1e-3)


def test_what_the_options_say_is_what_is_done(require):
    require("onnxruntime")
    path = write_ssd("mine.onnx", logits=True, decoded=False)
    blue = make_image()[..., ::-1]
    options = {"channels": "bgr", "mean": [0, 0, 0], "std": [255, 255, 255], "scores": "logits", "boxes": "offsets"}
    faces = found(path, np.ascontiguousarray(blue), family="ssd", family_options=options)
    np.testing.assert_allclose(faces.boxes, [[39, 79, 49, 89]], atol=1e-3)
    assert not len(found(path, make_image(), family="ssd", family_options=options))


def test_a_file_like_retinaface_has_landmarks(require):
    require("onnxruntime")
    path = write_ssd("mine.onnx", levels=RETINAFACE, size=None, decoded=False, landmarks=True)
    options = {"channels": "rgb", "mean": [127, 127, 127], "std": [128, 128, 128]}
    faces = found(path, make_image(256, 320), family="retinaface", family_options=options)
    np.testing.assert_allclose(faces.boxes, [[36, 76, 52, 92]], atol=1e-3)
    np.testing.assert_allclose(faces.landmarks, [[[44, 84]] * 5], atol=1e-3)


@pytest.mark.parametrize("boxes", ["auto", "corners"])
def test_a_file_like_retinaface_may_decode_boxes_and_landmarks_itself(require, boxes):
    require("onnxruntime")
    path = write_ssd("mine.onnx", levels=RETINAFACE, landmarks=True)
    options = {"channels": "rgb", "mean": [127, 127, 127], "std": [128, 128, 128], "boxes": boxes}
    faces = found(path, make_image(), family="retinaface", family_options=options)
    np.testing.assert_allclose(faces.boxes, [[36, 76, 52, 92]], atol=1e-3)
    np.testing.assert_allclose(faces.landmarks, [[[44, 84]] * 5], atol=1e-3)


def test_landmarks_that_are_offsets_do_not_go_with_boxes_that_are_corners():
    path = write_ssd("mine.onnx", levels=RETINAFACE, decoded=False, landmarks=True)
    with pytest.raises(ConfigError, match=r"(?s)not of the family 'retinaface'\..*places where boxes are corners"):
        describe(path, "retinaface", boxes="corners")


def test_the_graph_is_freed_first_where_that_is_asked_for(require):
    require("onnxruntime", "onnx")
    path = write_ssd("mine.onnx", decoded=False)
    image = make_image(256, 448, column=50)
    faces = found(path, image, family="ssd", family_options={"free": True})
    np.testing.assert_allclose(faces.boxes, [[399, 79, 409, 89]], atol=1e-3)


@pytest.mark.parametrize("tail", ["Clip", "Div"])
def test_scores_of_which_the_file_does_not_tell_what_they_are_are_asked_for(require, tail):
    require("onnxruntime")
    path = write_ssd("mine.onnx", tail=tail)
    with pytest.raises(ConfigError) as caught:
        describe(path, "ssd")
    assert caught.value.what.endswith("scores (1, 4420, 2) holds logits or probabilities.")
    assert caught.value.why == (f"it is computed by '{tail}'",)
    assert str(caught.value.fix) == "give scores=logits or scores=probabilities by family_options"
    faces = found(path, make_image(), family="ssd", family_options={"scores": "probabilities"})
    np.testing.assert_allclose(faces.scores, [SCORE], rtol=1e-5)
    with pytest.raises(ConfigError, match="by its shapes it may be of: ssd"):
        describe(path, None)


def test_logits_are_not_taken_for_probabilities_in_silence(require):
    require("onnxruntime")
    path = write_ssd("mine.onnx", logits=True)
    with pytest.raises(ContractError, match=r"gave scores from -20 to 8; wanted: from 0 to 1\."):
        found(path, make_image(), family="ssd", family_options={"scores": "probabilities"})


def _detect(detector):
    return detector.detect(make_image()).boxes.tolist()


def test_a_detector_of_a_file_is_sent_to_a_process_in_another_folder(require, folder, monkeypatch):
    require("onnxruntime")
    write_ssd(folder / "mine.onnx")
    (folder / "mine.toml").write_text('family = "ssd"\n[family_options]\nscores = "probabilities"\n')
    with polyface.create_detector("./mine.onnx", backend="onnxruntime") as detector:
        here = _detect(detector)
        sent = pickle.dumps(detector)
        (folder / "mine.toml").unlink()
        (folder / "below").mkdir()
        monkeypatch.chdir(folder / "below")
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.map(_detect, [detector]) == [here]
    with pickle.loads(sent) as again:  # noqa: S301 - our own
        assert again.spec == detector.spec
    assert (here, detector.spec.name) == ([pytest.approx([39, 79, 49, 89], abs=1e-3)], "mine")


class TestRecord:
    def test_a_fixed_file_is_a_graph_as_it_is_with_its_size_and_batch(self):
        spec = describe(write_ssd("Slim 320!.onnx"), "ssd")
        assert spec.name == "slim-320"
        assert spec.summary == "Slim 320!.onnx, of the family ssd"
        assert spec.input.dims == (1, 3, 240, 320)
        assert [(output.name, output.dims) for output in spec.outputs] == [
            ("scores", (1, 4420, 2)),
            ("boxes", (1, 4420, 4)),
        ]
        assert [(graph.kind, graph.weights) for graph in spec.graphs] == [("onnx", "slim-320")]
        assert spec.preprocess.mean == (127, 127, 127)
        assert dict(spec.head_options)["head"] == "polyface_retinaface.head:CornerHead"
        json.dumps(polyface.plugins.records.as_json(spec))
        assert {spec} == {pickle.loads(pickle.dumps(spec))}  # noqa: S301 - our own

    def test_a_free_file_is_padded_to_its_largest_stride(self):
        spec = describe(write_ssd("mine.onnx", size=None, decoded=False), "ssd")
        assert spec.input.dims == ("n", 3, "h", "w")
        assert (spec.preprocess.stride, spec.face_sizes) == (64, (20, 256))
        assert dict(spec.head_options)["head"] == "polyface_retinaface.head:Head"

    def test_what_is_made_free_is_another_kind_of_graph(self):
        spec = describe(write_ssd("mine.onnx", decoded=False), "ssd", free=True)
        assert spec.input.dims == ("n", 3, "h", "w")
        assert spec.outputs[0].dims == ("n", "p0", 2)
        assert spec.graphs[0].kind == "onnx-file"

    @pytest.mark.parametrize(
        ("family", "options", "message"),
        [
            ("retinaface", {}, r"mine.onnx is not of the family 'retinaface'.*wants the outputs \(n, p, 4\), "),
            ("ssd", {"strides": [8, 16]}, "No priors can be made: there must be a list of anchors for each stride"),
            ("ssd", {"strides": [8, 16, 32, 0.5]}, "strides must be whole numbers from 1 to 1024"),
            ("ssd", {"strides": [8, 16, 32, 1e30]}, "strides must be whole numbers from 1 to 1024"),
            ("ssd", {"variances": [0.1]}, r"variances must be two numbers above 0\..*variances \[0.1\]"),
            ("ssd", {"variances": [0.1, 0]}, "variances must be two numbers above 0"),
            ("ssd", {"anchors": [[10, 16, 24], [32, 48], [64, 96], [1, 2, -3]]}, "anchors must be above 0, and at"),
            ("ssd", {"anchors": [[10, 16, 24], [32, 48], [64, 96], [1, 2, 1e9]]}, "anchors must be above 0, and at"),
            ("ssd", {"strides": [8, 16, 32, 60]}, r"boxes \(1, 4420, 4\) has 4420 rows, and 4432 priors come of"),
            ("ssd", {"mean": [1, 2]}, r"makes no detector of mine.onnx with these options.*three finite numbers"),
            ("ssd", {"means": [1, 2, 3]}, "The family 'ssd' has no option 'means'; did you mean 'mean'"),
            ("ssd", {"anchors": [1, 2, 3]}, r"family_options: anchors must be lists of numbers, not \(1, 2, 3\)"),
            ("ssd", {"scores": "odds"}, "family_options: scores must be one of 'auto', 'logits', 'probabilities'"),
        ],
    )
    def test_what_does_not_fit_is_refused_and_says_why(self, family, options, message):
        with pytest.raises(ConfigError, match=f"(?s){message}"):
            describe(write_ssd("mine.onnx", decoded=False), family, **options)

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"strides": [8, 16, 32, 60]}, "strides"),
            ({"strides": [4, 8, 16, 32], "anchors": [[5], [6], [7], [8]]}, "strides and anchors"),
            ({"variances": [0.2, 0.2], "clip": False}, "variances and clip"),
        ],
        ids=str,
    )
    def test_what_a_file_that_decodes_its_own_boxes_makes_no_use_of_is_refused(self, options, named):
        with pytest.raises(ConfigError) as caught:
            describe(write_ssd("mine.onnx"), "ssd", **options)
        assert caught.value.what == f"mine.onnx decodes its own boxes: {named} would do nothing."
        assert str(caught.value.fix) == f"leave {named} out of family_options"

    def test_the_sizes_of_faces_are_not_known_of_a_file_that_decodes_boxes_of_other_anchors(self):
        usual = {"strides": [8, 16, 32, 64], "anchors": [[10, 16, 24], [32, 48], [64, 96], [128, 192, 256]]}
        assert describe(write_ssd("mine.onnx"), "ssd", **usual).face_sizes == (20, 256)
        assert describe(write_ssd("other.onnx", levels={8: (10, 16), 16: (300,)}), "ssd").face_sizes is None

    def test_what_is_no_onnx_file_is_refused(self, folder):
        (folder / "mine.onnx").write_bytes(b"\x80\x02}q\x00.")
        with pytest.raises(WeightsMismatchError, match=r"mine.onnx is not a whole ONNX file"):
            describe("mine.onnx", "ssd")


def test_by_its_shapes_a_file_may_be_of_a_family_and_the_error_says_so(folder):
    write_ssd(folder / "mine.onnx")
    with pytest.raises(ConfigError) as caught:
        describe("mine.onnx", None)
    assert caught.value.what == "It is not known of which family the network in mine.onnx is."
    assert caught.value.why[:2] == (
        "mine.onnx has the inputs input (1, 3, 240, 320)",
        "mine.onnx has the outputs scores (1, 4420, 2), boxes (1, 4420, 4)",
    )
    assert "by its shapes it may be of: ssd" in caught.value.why
    assert str(caught.value.fix).startswith('family="ssd"; or: ')
    assert f'write family = "ssd" into {folder / "mine.toml"}' in str(caught.value.fix)


DIMS = st.lists(st.integers(1, 9) | st.sampled_from([10, 320, 4420, 1 << 62, "n", "?"]), max_size=5).map(tuple)
TENSORS = st.lists(st.tuples(st.text(max_size=3), DIMS, st.sampled_from(["Conv", "Sub", ""])), max_size=4)


@pytest.mark.parametrize(
    ("operation", "head"), [("Conv", "Head"), ("Sub", "CornerHead"), ("Mul", None), ("ScatterND", None), ("", None)]
)
@pytest.mark.parametrize(("family", "rows"), [("ssd", 4420), ("retinaface", 3160)])
def test_boxes_of_which_the_file_does_not_tell_what_they_are_are_asked_for(operation, head, family, rows):
    boxes = GraphTensor(name="boxes", dims=(1, rows, 4), operation=operation)
    scores = GraphTensor(name="scores", dims=(1, rows, 2), operation="Softmax")
    points = (GraphTensor(name="points", dims=(1, rows, 10), operation="Conv" if head == "Head" else "Add"),)
    outputs = (boxes, scores, *(points if family == "retinaface" else ()))
    weights = WeightsFile(name="mine", filename="m.onnx", sha256="0" * 64, size=1, license="mine", urls=["file:///m"])
    inputs = (GraphTensor(name="x", dims=(1, 3, 240, 320)),)
    file = Interface(family=family, name="mine", weights=weights, inputs=inputs, outputs=outputs, opset=11)
    record = installed_plugins().get(FamilySpec, family)
    options = {option.name: option.default for option in record.parameters}
    if head:
        spec = record.describe.load()(file, **options)
        assert dict(spec.head_options)["head"] == f"polyface_retinaface.head:{head}"
        return
    with pytest.raises(ConfigError, match="give boxes=offsets or boxes=corners by family_options"):
        record.describe.load()(file, **options)


@given(TENSORS, DIMS, st.sampled_from(["ssd", "retinaface"]), st.booleans())
def test_whatever_a_file_claims_is_described_or_refused(outputs, image, family, free):
    weights = WeightsFile(name="mine", filename="m.onnx", sha256="0" * 64, size=1, license="mine", urls=["file:///m"])
    inputs = (GraphTensor(name="x", dims=image),)
    tensors = tuple(GraphTensor(name=name, dims=dims, operation=operation) for name, dims, operation in outputs)
    file = Interface(family=family, name="mine", weights=weights, inputs=inputs, outputs=tensors, opset=11)
    record = installed_plugins().get(FamilySpec, family)
    options = {option.name: option.default for option in record.parameters}
    try:
        spec = record.describe.load()(file, **{**options, "free": free})
    except (ConfigError, ContractError):
        return
    head = spec.make_head()
    if spec.fixed_size and "Corner" in dict(spec.head_options)["head"]:
        assert head.priors(*spec.fixed_size).shape == (spec.outputs[0].dims[1], 4)


def test_priors_that_are_clipped_end_at_the_input():
    priors = Head(strides=[64], anchors=[[256]], clip=True).priors(240, 320)
    assert priors.shape == (20, 4)
    assert priors[-1].tolist() == [288, 224, 256, 240]
