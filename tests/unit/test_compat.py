"""The interface of DSFD-Pytorch-Inference on the real pipeline, with detectors and backends of the test's.

The network reads its answer off the image. An image of one colour ``(red, score, 0)`` has one face: a box of side 10
at (red, red), with the score ``score / 255``, and five landmarks on the box's upper left corner.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import types

import attrs
import numpy as np
import pytest

from polyface.compat import face_detection
from polyface.errors import BackendUnavailableError, ConfigError, ImageError, UnknownNameError, UnsupportedError
from polyface.plugins.hookspecs import hookimpl
from polyface.plugins.manager import PluginManager
from polyface.plugins.protocols import Candidates, DeviceReport, Execution
from polyface.plugins.records import Capability, GraphSource, Ref
from polyface.settings.config import Config


def make_image(red, score=255, *, height=20, width=20):
    return np.broadcast_to(np.array([red, score, 0], np.uint8), (height, width, 3)).copy()


def one_face(batch):
    red, score = batch[:, 0, 2, 2], batch[:, 1, 2, 2] / 255
    return np.stack([red, red, red + 10, red + 10, score], axis=1)[:, None]


def faces(*rows):
    """A network that finds these faces ``(x1, y1, x2, y2, score)`` in every image."""
    return lambda batch: np.array([rows] * len(batch), np.float32).reshape(len(batch), -1, 5)


class Head:
    def priors(self, height, width):
        return np.zeros((Session.network(np.zeros((1, 3, height, width), np.float32)).shape[1], 4), np.float32)

    def scores(self, outputs):
        return outputs["heads"][:, :, 4]

    def decode(self, outputs, priors, index, keep):  # noqa: ARG002
        boxes = outputs["heads"][index, keep, :4]
        return Candidates(boxes, np.repeat(boxes[:, None, :2], 5, axis=1))


class BareHead(Head):
    def decode(self, outputs, priors, index, keep):  # noqa: ARG002
        return Candidates(outputs["heads"][index, keep, :4], None)


class Session:
    network = staticmethod(one_face)

    def __init__(self, graph, request):
        self.detector = graph.detector.name
        self.execution = Execution(device=request.device, precision=request.precision)
        self.shapes = []
        self.closed = False

    def run(self, inputs):
        [batch] = inputs.values()
        self.shapes.append(batch.shape)
        return {"heads": Session.network(batch).astype(np.float32)}

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def world(monkeypatch, detector_spec, backend_spec):
    """The three detectors, a backend ``fast`` on CUDA and CPU, and one named ``tensorrt``."""
    world = types.SimpleNamespace(
        sessions=[],
        found=[
            DeviceReport(device="cuda:0", precisions=("fp32", "fp16")),
            DeviceReport(device="cpu", precisions=("fp32", "fp16")),
        ],
    )

    class Backend:
        def probe(self):
            return tuple(world.found)

        def compile(self, graph, request):
            world.sessions.append(Session(graph, request))
            return world.sessions[-1]

    fake = types.ModuleType("standin_faces")
    fake.Head, fake.BareHead, fake.Backend = Head, BareHead, Backend
    monkeypatch.setitem(sys.modules, "standin_faces", fake)
    spec = attrs.evolve(
        detector_spec,
        head=Ref("standin_faces:Head"),
        graphs=[GraphSource(kind="numpy", ref=Ref("standin_faces:Head"))],
        landmarks=("left_eye", "right_eye", "nose", "mouth_left", "mouth_right"),
    )
    detectors = [
        attrs.evolve(spec, name="retinaface-resnet50"),
        attrs.evolve(spec, name="retinaface-mobilenet025"),
        attrs.evolve(spec, name="dsfd-resnet152", head=Ref("standin_faces:BareHead"), landmarks=()),
    ]
    fast = attrs.evolve(
        backend_spec,
        accepts=["numpy"],
        requires=(),
        factory=Ref("standin_faces:Backend"),
        capabilities=[Capability(device=device, precisions=("fp32", "fp16")) for device in ("cuda", "cpu")],
    )
    fake.polyface_detectors = hookimpl(lambda: detectors)
    fake.polyface_backends = hookimpl(lambda: [fast, attrs.evolve(fast, name="tensorrt", preference=-1)])
    manager = PluginManager()
    manager.register(fake, name="standin")
    fake.plugins = manager
    return world


@pytest.fixture
def finds(monkeypatch):
    """Have the network find the given faces, whatever the image."""
    return lambda *rows: monkeypatch.setattr(Session, "network", staticmethod(faces(*rows)))


def build(name="RetinaNetMobileNetV1", *arguments, make=face_detection.build_detector, **settings):
    """Build a detector from the plugins of :func:`world`."""
    return make(name, *arguments, plugins=sys.modules["standin_faces"].plugins, **settings)


def build_fixed(*arguments, **settings):
    return build(*arguments, make=face_detection.TensorRTRetinaFace, **settings)


def config_of(detector):
    """The settings that are not polyface's defaults."""
    values, defaults = detector.face_detector.config.as_dict(), Config().as_dict()
    return {name: value for name, value in values.items() if value != defaults[name]}


class TestBuildDetector:
    def test_the_detectors_are_those_of_the_original(self):
        assert face_detection.available_detectors == ["DSFDDetector", "RetinaNetResNet50", "RetinaNetMobileNetV1"]

    @pytest.mark.parametrize(
        ("name", "ours"),
        [
            ("DSFDDetector", "dsfd-resnet152"),
            ("RetinaNetResNet50", "retinaface-resnet50"),
            ("RetinaNetMobileNetV1", "retinaface-mobilenet025"),
        ],
    )
    def test_each_name_is_a_detector_of_polyface(self, name, ours, world):
        detector = build(name)
        assert detector.detect(make_image(3)).tolist() == [[3, 3, 13, 13, 1]]
        assert world.sessions[0].detector == ours

    def test_order_and_defaults_of_the_arguments_are_the_originals(self):
        parameters = inspect.signature(face_detection.build_detector).parameters.values()
        assert [(p.name, p.default) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == [
            ("name", "DSFDDetector"),
            ("confidence_threshold", 0.5),
            ("nms_iou_threshold", 0.3),
            ("device", None),
            ("max_resolution", None),
            ("fp16_inference", False),
            ("clip_boxes", False),
        ]

    def test_each_argument_arrives_where_it_belongs(self):
        detector = build("RetinaNetResNet50", 0.25, 0.75, "cuda:0", 50, True, True)
        assert config_of(detector) == {
            "detector": "retinaface-resnet50",
            "score_threshold": 0.25,
            "iou_threshold": 0.75,
            "device": "cuda:0",
            "max_side": 50,
            "precision": "fp16",
            "clip": True,
            "view": "plain",
        }

    def test_nothing_else_is_set(self):
        assert config_of(build("DSFDDetector")) == {
            "detector": "dsfd-resnet152",
            "score_threshold": 0.5,
            "iou_threshold": 0.3,
            "view": "plain",
        }

    def test_an_unknown_name_offers_the_nearest(self):
        with pytest.raises(UnknownNameError) as caught:
            face_detection.build_detector("DSFDetector")
        assert caught.value.what == "There is no detector named 'DSFDetector'; did you mean 'DSFDDetector'?"
        assert caught.value.why == ("available: DSFDDetector, RetinaNetResNet50, RetinaNetMobileNetV1",)

    def test_a_detector_that_is_not_installed_is_named(self):
        with pytest.raises(UnknownNameError, match="no detector named 'dsfd-resnet152'"):
            face_detection.build_detector(plugins=PluginManager())

    def test_a_face_scores_the_confidence_threshold_at_least(self, finds):
        finds((0, 0, 5, 5, 0.5), (10, 0, 15, 5, 0.4375), (0, 10, 5, 15, 0.25))
        assert build().detect(make_image(0))[:, 4].tolist() == [0.5]
        assert build(confidence_threshold=0.4).detect(make_image(0))[:, 4].tolist() == [0.5, 0.4375]

    def test_boxes_that_overlap_more_than_the_threshold_are_one_face(self, finds):
        # 10x10 boxes shifted by 5: IoU 1/3.
        finds((0, 0, 10, 10, 0.75), (5, 0, 15, 10, 0.875))
        assert build().detect(make_image(0)).tolist() == [[5, 0, 15, 10, 0.875]]
        assert len(build(nms_iou_threshold=0.4).detect(make_image(0))) == 2

    @pytest.mark.parametrize("as_object", [False, True])
    def test_the_device_may_be_a_text_or_what_prints_as_one(self, as_object, world):
        class Device:  # as torch.device does
            def __str__(self):
                return "cpu"

        build(device=Device() if as_object else "cpu")
        assert [session.execution.device for session in world.sessions] == ["cpu"]

    def test_without_a_device_the_backend_s_first_is_taken(self, world):
        build()
        del world.found[0]
        build()
        assert [session.execution.device for session in world.sessions] == ["cuda:0", "cpu"]

    def test_a_device_that_is_not_there_is_refused(self, world):
        del world.found[0]
        for half in (False, True):
            with pytest.raises(BackendUnavailableError, match="cannot run on device 'cuda'"):
                build(device="cuda", fp16_inference=half, backend="fast")

    @pytest.mark.parametrize(
        ("device", "there", "expected", "closed"),
        [
            ("cuda", "cuda:0", "fp16", [False]),
            ("cuda:0", "cuda:0", "fp16", [False]),
            (None, "cuda:0", "fp16", [True, False]),  # where None leads is seen on a first one
            ("auto", "cuda:0", "fp16", [True, False]),
            ("cpu", "cpu", "fp32", [False]),
            (None, "cpu", "fp32", [False]),
        ],
    )
    def test_half_precision_is_for_cuda_alone(self, device, there, expected, closed, world):
        world.found = [found for found in world.found if found.device == there]
        detector = build(device=device, fp16_inference=True)
        execution = detector.face_detector.execution
        assert (execution.device, execution.precision) == (there, expected)
        assert [session.closed for session in world.sessions] == closed
        assert build(device=device).face_detector.execution.precision == "fp32"

    def test_half_precision_that_cuda_lacks_is_refused(self, world):
        world.found = [DeviceReport(device="cuda:0", precisions=("fp32",))]
        with pytest.raises(BackendUnavailableError, match="in 'fp16'"):
            build(fp16_inference=True, backend="fast")
        assert [session.closed for session in world.sessions] == [True]

    def test_a_larger_image_is_shrunk_to_the_max_resolution(self, world):
        # 200x100 is shrunk to 50x25: 4 pixels to one, both ways.
        wide = make_image(5, height=100, width=200)
        assert build(max_resolution=50).detect(wide).tolist() == [[20, 20, 60, 60, 1]]
        assert build().detect(wide).tolist() == [[5, 5, 15, 15, 1]]
        assert [session.shapes for session in world.sessions] == [[(1, 3, 32, 64)], [(1, 3, 128, 224)]]

    def test_boxes_and_landmarks_are_clipped_on_request(self, finds):
        finds((-5, -6, 30, 7, 1))
        [boxes], [landmarks] = build().batched_detect_with_landmarks(make_image(0))
        assert (boxes.tolist(), landmarks[0, 0].tolist()) == ([[-5, -6, 30, 7, 1]], [-5, -6])
        [boxes], [landmarks] = build(clip_boxes=True).batched_detect_with_landmarks(make_image(0))
        assert (boxes.tolist(), landmarks[0, 0].tolist()) == ([[0, 0, 20, 7, 1]], [0, 0])

    def test_polyface_s_own_settings_are_taken_as_well(self, world):
        build(backend="tensorrt", pad_to=1).detect(make_image(5))
        assert world.sessions[0].shapes == [(1, 3, 32, 32)]
        build(pad_to=1).detect(make_image(5, height=40, width=50))
        assert world.sessions[1].shapes == [(1, 3, 40, 50)]
        with pytest.raises(ConfigError, match="no setting 'pad_too'"):
            build(pad_too=1)

    def test_what_is_left_out_comes_from_the_users_settings(self, monkeypatch):
        monkeypatch.setenv("POLYFACE_BACKEND", "tensorrt")
        monkeypatch.setenv("POLYFACE_MAX_SIDE", "640")
        monkeypatch.setenv("POLYFACE_SCORE_THRESHOLD", "0.125")
        assert build().face_detector.backend.name == "tensorrt"
        assert build().face_detector.config.max_side == 640
        assert build(max_resolution=320).face_detector.config.max_side == 320
        assert build().face_detector.score_threshold == 0.5


class TestDetect:
    def test_no_face_is_an_array_without_rows(self):
        found = build().detect(make_image(5, score=0))
        assert (found.shape, found.dtype) == ((0, 5), np.float32)

    @pytest.mark.parametrize(
        ("shrink", "max_resolution", "scale", "shape"),
        [
            (0.5, None, 0.5, (1, 3, 64, 128)),  # 200x100 becomes 100x50, padded to a multiple of 32
            (2, None, 2, (1, 3, 224, 416)),  # 400x200
            (2, 250, 1.25, (1, 3, 128, 256)),  # 250x125
            (0.5, 40, 0.2, (1, 3, 32, 64)),  # 40x20
            (0.5, 150, 0.5, (1, 3, 64, 128)),
        ],
    )
    def test_shrink_scales_the_image_within_the_max_resolution(self, shrink, max_resolution, scale, shape, world):
        found = build(max_resolution=max_resolution).detect(make_image(5, height=100, width=200), shrink=shrink)
        assert world.sessions[0].shapes == [shape]
        np.testing.assert_allclose(found, [[5 / scale, 5 / scale, 15 / scale, 15 / scale, 1]], rtol=1e-6)

    def test_each_side_is_restored_by_its_own_factor(self):
        # 30x21 becomes 15x10: 2 pixels to one across, 2.1 down.
        found = build().detect(make_image(5, height=21, width=30), shrink=0.5)
        np.testing.assert_allclose(found, [[10, 10.5, 30, 31.5, 1]], rtol=1e-6)

    def test_shrinking_is_anti_aliased(self):
        stripes = make_image(0, height=64, width=64)
        stripes[:, ::2, 1] = 0
        # Every other column is black: they become half of 255, rounded up. The nearest neighbour would give 0 or 255.
        found = build().detect(stripes, shrink=0.5)
        assert found[:, 4].tolist() == [np.float32(128 / 255)]

    def test_the_image_is_scaled_once(self):
        stripes = make_image(0, height=64, width=64)
        stripes[:, 1::2, 1] = 0
        # Enlarged, then shrunk again, the white columns would have taken from the black ones.
        assert build(max_resolution=64).detect(stripes, shrink=2)[:, 4].tolist() == [1]

    def test_a_shrunk_image_s_boxes_are_clipped_to_it(self, finds):
        finds((-5, -5, 40, 40, 1))
        tall = make_image(0, height=31, width=30)
        assert build(clip_boxes=True).detect(tall, shrink=0.5).tolist() == [[0, 0, 30, 31, 1]]

    @pytest.mark.parametrize("shrink", [0, -0.5, float("inf"), float("nan"), "2", None])
    def test_a_shrink_that_leaves_no_image_is_refused(self, shrink):
        with pytest.raises(ConfigError, match=r"^shrink must be a number greater than 0, not "):
            build().detect(make_image(5), shrink=shrink)

    @pytest.mark.parametrize("shrink", [1e5, 1e9, 1e300])
    def test_a_shrink_that_no_memory_holds_is_refused(self, shrink):
        with pytest.raises(ImageError, match=r"^An image of 20x20 pixels has too many once it is scaled by 1"):
            build().detect(make_image(5), shrink=shrink)

    def test_an_image_may_be_a_reversed_view(self):
        # As the README turns BGR into RGB.
        assert build().detect(make_image(5)[:, :, ::-1][:, :, ::-1], shrink=2)[:, 4].tolist() == [1]
        assert build().detect(np.array([[[0, 255, 7]] * 9] * 9, np.uint8)[:, :, ::-1]).tolist() == [[7, 7, 17, 17, 1]]

    def test_a_batch_is_not_an_image(self):
        with pytest.raises(ImageError, match=r"shape \(1, 20, 20, 3\)"):
            build().detect(make_image(5)[None])


class TestBatchedDetect:
    @pytest.mark.parametrize("shrink", [1, 0.5])
    def test_a_batch_of_n_equals_n_singles(self, shrink):
        detector = build()
        batch = np.stack([make_image(5), make_image(6, score=0), make_image(7, score=204)])
        found = detector.batched_detect(batch, shrink)
        assert [len(boxes) for boxes in found] == [1, 0, 1]
        for boxes, single in zip(found, batch, strict=True):
            np.testing.assert_array_equal(boxes, detector.detect(single, shrink))
            assert (boxes.shape[1], boxes.dtype) == (5, np.float32)

    def test_one_image_is_a_batch_of_one(self):
        assert [boxes.tolist() for boxes in build().batched_detect(make_image(5))] == [[[5, 5, 15, 15, 1]]]
        assert len(build().batched_detect_with_landmarks(make_image(5))[0]) == 1

    def test_landmarks_come_with_their_boxes(self):
        batch = np.stack([make_image(5), make_image(6, score=0), make_image(7, score=204)])
        boxes, landmarks = build().batched_detect_with_landmarks(batch)
        np.testing.assert_array_equal(boxes[2], np.array([[7, 7, 17, 17, 204 / 255]], np.float32))
        assert [array.tolist() for array in landmarks] == [[[[5, 5]] * 5], [], [[[7, 7]] * 5]]
        assert [array.shape for array in (boxes[1], landmarks[1])] == [(0, 5), (0, 5, 2)]

    def test_a_detector_without_landmarks_says_so(self):
        with pytest.raises(UnsupportedError) as caught:
            build("DSFDDetector").batched_detect_with_landmarks(make_image(5))
        assert caught.value.what == "'dsfd-resnet152' gives no landmarks."
        assert str(caught.value.fix) == "build_detector('RetinaNetResNet50')"


class TestFloatPixels:
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_whole_numbers_are_pixels(self, dtype):
        detector, batch = build(), np.stack([make_image(5), make_image(6, score=204)])
        expected = [boxes.tolist() for boxes in detector.batched_detect(batch)]
        assert [len(boxes) for boxes in expected] == [1, 1]
        assert [boxes.tolist() for boxes in detector.batched_detect(batch.astype(dtype))] == expected
        assert detector.detect(batch[1].astype(dtype)).tolist() == expected[1]
        boxes, landmarks = detector.batched_detect_with_landmarks(batch.astype(dtype))
        assert ([array.tolist() for array in boxes], len(landmarks)) == (expected, 2)

    @pytest.mark.parametrize("value", [0.5, -1, 256, float("nan"), float("inf")])
    def test_other_numbers_are_refused(self, value):
        pixels = np.zeros((2, 20, 20, 3))
        pixels[1, 3, 4, 2] = value
        detector = build()
        with pytest.raises(ImageError, match="dtype float64"):
            detector.detect(pixels[1])
        for method in (detector.batched_detect, detector.batched_detect_with_landmarks):
            with pytest.raises(ImageError, match="dtype float64"):
                method(pixels)


class TestTensorRT:
    def test_it_lies_where_the_original_has_it(self):
        module = importlib.import_module("polyface.compat.face_detection.retinaface.tensorrt_wrap")
        assert module.TensorRTRetinaFace is face_detection.TensorRTRetinaFace

    def test_it_runs_resnet50_at_a_fixed_size_in_half_precision_on_tensorrt(self, world):
        detector = build_fixed((1080, 1920), (480, 640))
        assert config_of(detector) == {
            "detector": "retinaface-resnet50",
            "infer_size": [480, 640],
            "fit": "stretch",
            "clip": True,
            "score_threshold": 0.5,
            "iou_threshold": 0.3,
            "backend": "tensorrt",
            "precision": "fp16",
        }
        detector.infer(np.zeros((1080, 1920, 3), np.uint8))
        assert world.sessions[0].shapes == [(1, 3, 480, 640)]

    def test_a_bgr_image_gives_boxes_landmarks_and_scores_in_its_pixels(self):
        detector = build_fixed([100, 200], [32, 64], backend="fast", precision="fp32", device="cpu")
        assert detector.face_detector.execution == Execution(device="cpu", precision="fp32")
        bgr = make_image(8, score=204, height=100, width=200)[:, :, ::-1]
        boxes, landmarks, scores = detector.infer(bgr)
        # 200x100 is stretched to 64x32: 3.125 pixels to one, both ways.
        assert boxes.tolist() == [[25, 25, 56.25, 56.25]]
        assert landmarks.tolist() == [[[25, 25]] * 5]
        assert scores.tolist() == [np.float32(204 / 255)]
        np.testing.assert_array_equal(detector.infer(bgr.astype(np.float32))[0], boxes)

    def test_the_sides_are_stretched_each_by_its_own_factor(self):
        detector = build_fixed((64, 96), (32, 32))
        assert detector.infer(make_image(8, height=64, width=96)[:, :, ::-1])[0].tolist() == [[24, 16, 54, 36]]

    def test_no_face_is_three_arrays_without_rows(self):
        detector = build_fixed((32, 32), (32, 32))
        found = detector.infer(np.zeros((32, 32, 3), np.uint8))
        assert [array.shape for array in found] == [(0, 4), (0, 5, 2), (0,)]
        assert [array.dtype for array in found] == [np.float32] * 3

    def test_of_overlapping_boxes_the_best_score_is_kept_and_clipped(self, finds):
        finds((-4, 0, 16, 20, 0.875), (-4, 4, 16, 24, 0.75), (20, 20, 36, 36, 0.625), (0, 25, 5, 30, 0.375))
        black = np.zeros((32, 32, 3), np.uint8)
        # The first two: IoU 2/3.
        detector = build_fixed((32, 32), (32, 32))
        boxes, _, scores = detector.infer(black)
        assert boxes.tolist() == [[0, 0, 16, 20], [20, 20, 32, 32]]
        assert scores.tolist() == [0.875, 0.625]
        detector = build_fixed((32, 32), (32, 32), 0.25, 0.75)
        assert detector.infer(black)[2].tolist() == [0.875, 0.75, 0.625, 0.375]

    @pytest.mark.parametrize("shape", [(32, 31, 3), (32, 32), (1, 32, 32, 3), (3, 32, 32)])
    def test_an_image_of_another_size_is_refused(self, shape):
        detector = build_fixed((32, 32), (32, 32))
        with pytest.raises(ImageError) as caught:
            detector.infer(np.zeros(shape, np.uint8))
        assert caught.value.what == f"Got an array of shape {shape}; wanted: BGR pixels of shape (32, 32, 3)."
