"""The pipeline, with a network made of NumPy: what goes in, what comes out, and in which order.

The network here reads its answer off the image. An image of one colour ``(red, score, 0)`` has one face: a box of
side 10 at (red, red), with the score ``score / 255``, and two landmarks on the box's upper corners.
"""

from __future__ import annotations

import io
import pickle
import sys
import threading
import time
import types
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import numpy as np
import pytest
from PIL import Image

from polyface.building import build, check_infer_size, check_options, create_detector, plan, rebuild, resolve
from polyface.errors import (
    ArtifactError,
    BackendUnavailableError,
    ConfigError,
    ContractError,
    ImageError,
    PluginError,
    UnknownNameError,
    UnsupportedError,
    WeightsMismatchError,
)
from polyface.graphs.artifacts import ArtifactKey
from polyface.graphs.resolve import load_graph
from polyface.machine import gate
from polyface.pipeline import timing
from polyface.pipeline.detector import FaceDetector
from polyface.pipeline.presets import select_strategy
from polyface.pipeline.stages import Network
from polyface.plugins.hookspecs import hookimpl
from polyface.plugins.manager import PluginManager
from polyface.plugins.protocols import Candidates, CompileRequest, DeviceReport, Execution
from polyface.plugins.records import (
    Capability,
    ConverterSpec,
    DetectDefaults,
    FileRef,
    GraphSource,
    OptionSpec,
    Preprocess,
    Ref,
)
from polyface.results import Detections
from polyface.settings.config import Config
from polyface.storage.files import sha256_of


def make_image(red, score=255, *, height=20, width=20):
    return np.broadcast_to(np.array([red, score, 0], np.uint8), (height, width, 3)).copy()


def one_face(batch):
    """``heads (N, 1, 5)``: box and score, as the colour of the first pixel says."""
    red, score = batch[:, 0, 0, 0], batch[:, 1, 0, 0] / 255
    return {"heads": np.stack([red, red, red + 10, red + 10, score], axis=1)[:, None]}


def faces(*rows):
    """A network that finds these faces ``(x1, y1, x2, y2, score)`` in every image."""

    def network(batch):
        return {"heads": np.array([rows] * len(batch), np.float32).reshape(len(batch), -1, 5)}

    network.anchors = len(rows)
    return network


class Head:
    def __init__(self, anchors=1):
        self.anchors = anchors
        self.asked = []

    def priors(self, height, width):
        self.asked.append((height, width))
        return np.zeros((self.anchors, 4), np.float32)

    def scores(self, outputs):
        return outputs["heads"][:, :, 4]

    def decode(self, outputs, priors, index, keep):  # noqa: ARG002
        boxes = outputs["heads"][index, keep, :4]
        return Candidates(boxes, np.stack([boxes[:, [0, 1]], boxes[:, [2, 1]]], axis=1))


class BareHead(Head):
    """A head without landmarks."""

    def decode(self, outputs, priors, index, keep):  # noqa: ARG002
        return Candidates(outputs["heads"][index, keep, :4], None)


class Session:
    def __init__(self, network=one_face, device="cpu", precision="fp32", threads=None):
        self.network = network
        self.execution = Execution(device=device, precision=precision, threads=threads)
        self.shapes = []
        self.closed = 0

    def run(self, inputs):
        if self.closed:
            raise BackendUnavailableError("The session is closed.")
        [batch] = inputs.values()
        self.shapes.append(batch.shape)
        return self.network(batch)

    def close(self):
        self.closed += 1


@pytest.fixture
def make(detector_spec, backend_spec):
    """Build a FaceDetector around a network, without a plugin."""

    def make(network=one_face, *, head=None, spec=detector_spec, on=(), **settings):
        config, head = Config(**settings), head or Head(getattr(network, "anchors", 1))
        session = Session(network, *on)
        network = Network(spec=spec, backend=backend_spec, head=head, session=session)
        return FaceDetector(config, network, select_strategy(config, spec), route="onnx", rebuild=rebuild)

    return make


def select(config, plugins):
    return plan(resolve(config, plugins)).first


def shapes(detector):
    return detector._network.session.shapes


class TestRawHeads:
    def test_they_are_what_the_network_gave_for_each_image_in_one_run(self, make):
        detector = make()
        heads = detector.raw_heads([make_image(5), make_image(7, score=51)])
        assert heads.keys() == {"heads"}
        np.testing.assert_allclose(heads["heads"], [[[5, 5, 15, 15, 1]], [[7, 7, 17, 17, 0.2]]])
        assert shapes(detector) == [(2, 3, 32, 32)]

    def test_sizes_of_one_padded_shape_go_together(self, make):
        detector = make()
        detector.raw_heads([make_image(1, height=20, width=33), make_image(1, height=32, width=64)])
        assert shapes(detector) == [(2, 3, 32, 64)]

    def test_the_image_is_shrunk_and_seen_once_whatever_the_views_are_for_detecting(self, make):
        detector = make(max_side=64, scales=(0.5, 2), flip=True)
        detector.raw_heads([make_image(1, height=96, width=128)])
        assert shapes(detector) == [(1, 3, 64, 64)]

    @pytest.mark.parametrize(
        ("images", "message"),
        [
            ([make_image(1), make_image(1, width=40)], "of one padded shape, not 32x32, 64x32"),
            ([], "of one padded shape, not none"),
            ([make_image(1), "missing.png"], "Image 1 of the batch: 'missing.png' does not exist"),
        ],
    )
    def test_what_makes_no_batch_is_refused(self, make, images, message):
        with pytest.raises(ImageError, match=message):
            make().raw_heads(images)

    def test_numbers_that_are_not_finite_are_refused_with_the_remedy(self, make):
        with pytest.raises(BackendUnavailableError, match="not finite") as caught:
            make(faces((0, 0, np.inf, 1, 1))).raw_heads([make_image(1)])
        assert caught.value.fix == "choose other --weights"


class TestOneImage:
    def test_the_face_of_an_image_comes_back_in_its_pixels(self, make):
        found = make().detect(make_image(5))
        expected = Detections(boxes=[[5, 5, 15, 15]], scores=[1], landmarks=[[[5, 5], [15, 5]]])
        assert found == expected

    def test_a_shrunk_image_has_its_faces_in_full_size(self, make):
        detector = make(max_side=50)
        found = detector.detect(make_image(5, height=100, width=200))
        # 200x100 is shrunk to 50x25: 4 pixels to one, both ways.
        assert found.boxes.tolist() == [[20, 20, 60, 60]]
        assert found.landmarks.tolist() == [[[20, 20], [60, 20]]]
        assert shapes(detector) == [(1, 3, 32, 64)]

    @pytest.mark.parametrize(
        ("fit", "box", "marks"),
        [
            # The face lies at (5, 5) to (15, 15) in the network. 200x100 to 100x50: 2 pixels to one, both ways.
            ("letterbox", [10, 10, 30, 30], [[10, 10], [30, 10]]),
            # To 100x100: 2 across, 1 down.
            ("stretch", [10, 5, 30, 15], [[10, 5], [30, 5]]),
        ],
    )
    def test_at_a_fixed_size_faces_stay_in_pixels_of_the_image(self, make, fit, box, marks):
        detector = make(infer_size=(100, 100), fit=fit)
        found = detector.detect(make_image(5, height=100, width=200))
        assert (found.boxes.tolist(), found.landmarks.tolist()) == ([box], [marks])
        assert shapes(detector) == [(1, 3, 100, 100)]

    def test_at_a_fixed_size_images_of_all_sizes_share_a_batch(self, make):
        detector = make(infer_size=(64, 96))
        detector.detect_batch([make_image(1, height=h, width=w) for h, w in ((20, 20), (500, 30), (64, 96))])
        assert shapes(detector) == [(3, 3, 64, 96)]

    @pytest.mark.parametrize("kind", ["array", "pil", "path", "text", "bytes"])
    def test_every_kind_of_image_gives_the_same(self, make, tmp_path, kind):
        path = tmp_path / "image.png"
        Image.fromarray(make_image(5)).save(path)
        source = {
            "array": make_image(5),
            "pil": Image.fromarray(make_image(5)),
            "path": path,
            "text": str(path),
            "bytes": path.read_bytes(),
        }[kind]
        assert make().detect(source).boxes.tolist() == [[5, 5, 15, 15]]

    def test_faces_are_ordered_by_score_and_the_earlier_of_equals_first(self, make):
        rows = [(0, 0, 5, 5, 0.7), (10, 0, 15, 5, 0.9), (0, 10, 5, 15, 0.7), (10, 10, 15, 15, 0.95)]
        found = make(faces(*rows)).detect(make_image(0))
        np.testing.assert_array_equal(found.to_array(), np.array([rows[3], rows[1], rows[0], rows[2]], np.float32))

    def test_a_score_of_exactly_the_threshold_is_a_face(self, make):
        network = faces((0, 0, 5, 5, 0.5), (10, 0, 15, 5, 0.4999))
        assert make(network).detect(make_image(0)).scores.tolist() == [0.5]
        assert len(make(network, score_threshold=0.25).detect(make_image(0))) == 2

    def test_thresholds_come_from_the_detector_unless_given(self, make, detector_spec):
        defaults = DetectDefaults(score_threshold=0.125, iou_threshold=0.75)
        spec = attrs.evolve(detector_spec, defaults=defaults)
        detector = make(spec=spec)
        assert (detector.score_threshold, detector.iou_threshold) == (0.125, 0.75)
        detector = make(spec=spec, score_threshold=0.0, iou_threshold=0.0)
        assert (detector.score_threshold, detector.iou_threshold) == (0.0, 0.0)

    def test_every_face_of_a_crowd_comes_back(self, make):
        apart = [(20 * n, 0, 20 * n + 10, 10, 0.9) for n in range(800)]
        found = make(faces(*apart)).detect(make_image(0))
        assert (len(found), found.truncated) == (800, False)

    def test_a_preset_limits_the_faces_and_says_that_there_were_more(self, make):
        apart = [(20 * n, 0, 20 * n + 10, 10, 0.9) for n in range(751)]
        for count, truncated in ((750, False), (751, True)):
            found = make(faces(*apart[:count]), preset="widerface-original").detect(make_image(0))
            assert (len(found), found.truncated) == (750, truncated)

    def test_overlapping_faces_lose_to_the_better_one(self, make):
        # 10x10 boxes shifted by 5: IoU 1/3.
        network = faces((0, 0, 10, 10, 0.6), (5, 0, 15, 10, 0.9))
        assert make(network, iou_threshold=0.3).detect(make_image(0)).boxes.tolist() == [[5, 0, 15, 10]]
        assert len(make(network, iou_threshold=0.4).detect(make_image(0))) == 2

    def test_a_face_keeps_its_own_score_and_landmarks_when_one_before_it_is_dropped(self, make):
        rows = [(0, 0, 10, 10, 0.875), (1, 0, 11, 10, 0.75), (40, 0, 50, 10, 0.625)]
        found = make(faces(*rows)).detect(make_image(0))
        assert found.to_array().tolist() == [list(rows[0]), list(rows[2])]
        assert found.landmarks.tolist() == [[[0, 0], [10, 0]], [[40, 0], [50, 0]]]

    def test_only_the_best_go_into_nms_and_only_the_best_come_out(self, make, detector_spec):
        rows = [(20 * i, 0, 20 * i + 10, 10, 0.9 - 0.1 * i) for i in range(4)]
        for limits, count in (({"pre_nms_top_k": 3}, 3), ({"post_nms_top_k": 2}, 2)):
            spec = attrs.evolve(detector_spec, defaults=DetectDefaults(**limits))
            found = make(faces(*rows), spec=spec).detect(make_image(0))
            np.testing.assert_array_equal(found.to_array(), np.array(rows[:count], np.float32))
            assert found.truncated

    def test_what_is_under_the_threshold_is_not_cut_off(self, make, detector_spec):
        rows = [(20 * i, 0, 20 * i + 10, 10, 0.9 - 0.3 * i) for i in range(3)]  # 0.9, 0.6, 0.3
        spec = attrs.evolve(detector_spec, defaults=DetectDefaults(pre_nms_top_k=2, post_nms_top_k=2))
        assert not make(faces(*rows), spec=spec).detect(make_image(0)).truncated

    def test_only_what_passes_the_threshold_is_decoded(self, make):
        decoded = []

        class Watching(Head):
            def decode(self, outputs, priors, index, keep):
                decoded.append(keep.tolist())
                return super().decode(outputs, priors, index, keep)

        network = faces((0, 0, 5, 5, 0.1), (9, 0, 12, 5, 0.8), (20, 0, 25, 5, 0.2), (30, 0, 35, 5, 0.9))
        make(network, head=Watching(4)).detect(make_image(0))
        assert decoded == [[3, 1]]

    def test_boxes_reach_beyond_the_image_unless_clipped(self, make):
        network = faces((-5, -5, 30, 30, 0.9))
        assert make(network).detect(make_image(0)).boxes.tolist() == [[-5, -5, 30, 30]]
        clipped = make(network, clip=True).detect(make_image(0))
        assert clipped.boxes.tolist() == [[0, 0, 20, 20]]
        assert clipped.landmarks.tolist() == [[[0, 0], [20, 0]]]

    def test_no_faces_still_have_the_shape_of_landmarks(self, make):
        found = make().detect(make_image(5, score=0))
        assert (found.boxes.shape, found.scores.shape, found.landmarks.shape) == ((0, 4), (0,), (0, 2, 2))

    def test_a_detector_without_landmarks_gives_none(self, make):
        assert make(head=BareHead()).detect(make_image(5)).landmarks is None
        assert make(head=BareHead()).detect(make_image(5, score=0)).landmarks is None

    def test_the_image_is_prepared_as_the_detector_says(self, make, detector_spec):
        batches = []

        def network(batch):
            batches.append(batch.copy())
            return one_face(batch)

        record = Preprocess(channels="bgr", mean=(1, 2, 3), stride=16)
        spec = attrs.evolve(detector_spec, preprocess=record, min_side=40)
        make(network, spec=spec, pad_to=1).detect(make_image(5, 7))
        [batch] = batches
        assert (batch.shape, batch.dtype, batch.flags.c_contiguous) == ((1, 3, 48, 48), np.float32, True)
        assert batch[0, :, 0, 0].tolist() == [0 - 1, 7 - 2, 5 - 3]
        assert batch[0, :, 20, 20].tolist() == [0, 0, 0]

    def test_a_head_with_another_number_of_scores_than_anchors_is_refused(self, make):
        network = faces((0, 0, 5, 5, 0.9), (9, 0, 12, 5, 0.8))
        with pytest.raises(ContractError) as caught:
            make(network, head=Head(3)).detect(make_image(0))
        assert caught.value.what == ("'toy' gave scores (1, 2) for 1 images and 3 anchors of a network input of 32x32.")


class TestBatch:
    def test_results_are_in_the_order_of_the_images_whatever_their_sizes(self, make):
        sizes = [(20, 20), (40, 20), (20, 20), (70, 90), (40, 20), (20, 20)]
        images = [make_image(index, height=h, width=w) for index, (h, w) in enumerate(sizes)]
        detector = make()
        together = detector.detect_batch(images)
        assert [found.boxes[0, 0] for found in together] == [0, 1, 2, 3, 4, 5]
        assert together == [detector.detect(one) for one in images]

    def test_images_of_one_padded_shape_go_together(self, make):
        detector = make()
        sizes = [(20, 20), (40, 20), (31, 32), (33, 5)]
        detector.detect_batch([make_image(1, height=h, width=w) for h, w in sizes])
        assert shapes(detector) == [(2, 3, 32, 32), (2, 3, 64, 32)]

    def test_at_most_batch_size_images_go_together(self, make):
        detector = make(batch_size=2)
        found = detector.detect_batch([make_image(index) for index in range(5)])
        assert [shape[0] for shape in shapes(detector)] == [2, 2, 1]
        assert [one.boxes[0, 0] for one in found] == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize(("pixels", "runs"), [(3 * 32 * 32, [3, 2]), (3 * 32 * 32 - 1, [2, 2, 1]), (1, [1] * 5)])
    def test_at_most_so_many_pixels_go_together_but_always_one_image(self, make, pixels, runs):
        detector = make()
        detector.strategy = attrs.evolve(detector.strategy, run_pixels=pixels)
        detector.detect_batch([make_image(index) for index in range(5)])
        assert [shape[0] for shape in shapes(detector)] == runs

    def test_an_array_of_four_axes_is_a_batch(self, make):
        found = make().detect_batch(np.stack([make_image(3), make_image(4)]))
        assert [one.boxes[0, 0] for one in found] == [3, 4]

    def test_an_iterator_of_images_is_a_batch(self, make):
        assert len(make().detect_batch(make_image(index) for index in range(3))) == 3

    def test_no_images_give_no_results(self, make):
        detector = make()
        assert detector.detect_batch([]) == []
        assert shapes(detector) == []

    def test_no_more_images_are_held_than_memory_is_meant_to_hold(self, make, monkeypatch):
        monkeypatch.setattr("polyface.pipeline.batching.HELD_PIXELS", 2 * 20 * 20)
        detector, held = make(), []

        def images():
            for index in range(5):
                held.append(len(shapes(detector)))
                yield make_image(index, height=20, width=20)

        found = detector.detect_batch(images())
        assert held == [0, 0, 1, 1, 2]  # two are read, then run, before the next
        assert [shape[0] for shape in shapes(detector)] == [2, 2, 1]
        assert [one.boxes[0, 0] for one in found] == [0, 1, 2, 3, 4]

    def test_a_bad_image_is_named_by_its_place_and_nothing_is_run(self, make):
        detector = make()
        with pytest.raises(ImageError) as caught:
            detector.detect_batch([make_image(0), make_image(1), np.zeros((4, 4, 3))])
        assert caught.value.what.startswith("Image 2 of the batch: Got an array of shape (4, 4, 3) and dtype float64")
        assert caught.value.fix == "(image * 255).round().astype('uint8') for values in 0-1"
        assert shapes(detector) == []

    @pytest.mark.parametrize(
        "single",
        [
            "a.jpg",
            b"\xff\xd8",
            bytearray(2),
            memoryview(b"12"),
            Path("a.jpg"),
            Image.new("RGB", (4, 4)),
            make_image(0),
            None,
        ],
        ids=lambda single: type(single).__name__,
    )
    def test_one_image_is_no_batch(self, make, single):
        with pytest.raises(ImageError) as caught:
            make().detect_batch(single)
        assert caught.value.what == "detect_batch wants a sequence of images."
        assert caught.value.fix == "detector.detect(image) for one"


def by_colour(batch):
    """A network that finds one face a channel, the rectangle that is bright there; without one, a score of 0."""
    heads = np.zeros((len(batch), 3, 5), np.float32)
    for image, planes in enumerate(batch):
        for channel, plane in enumerate(planes):
            y, x = np.nonzero(plane > 128)
            if len(x):
                heads[image, channel] = x.min(), y.min(), x.max() + 1, y.max() + 1, 0.9 - channel / 10
    return {"heads": heads}


by_colour.anchors = 3


def coloured(*boxes, height=200, width=300):
    """A black image with these boxes, the first red, the second green, the third blue."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for channel, (x1, y1, x2, y2) in enumerate(boxes):
        pixels[y1:y2, x1:x2, channel] = 255
    return pixels


class TestStrategies:
    # On the borders of tiles of 100 pixels, and one that no such tile holds.
    BOXES = ((88, 40, 108, 60), (150, 90, 170, 112), (180, 120, 290, 190))

    @pytest.mark.parametrize("merge", ["nms", "vote"])
    def test_flipped_and_unflipped_agree_on_boxes_and_landmarks(self, make, merge):
        plain = make(by_colour).detect(coloured(*self.BOXES))
        assert plain.boxes.tolist() == [list(box) for box in self.BOXES]
        detector = make(by_colour, flip=True, merge=merge)
        assert detector.detect(coloured(*self.BOXES)) == plain
        assert shapes(detector) == [(2, 3, 224, 320)]

    @pytest.mark.parametrize("flip", [False, True])
    def test_tiles_of_an_image_give_the_faces_of_the_whole(self, make, flip):
        found = make(by_colour, tile=100, tile_overlap=0.4, flip=flip).detect(coloured(*self.BOXES))
        # The small ones come from a tile that holds them whole, and exactly; the large one from the image shrunk to
        # a third, within a pixel of that.
        assert found.boxes[:2].tolist() == [list(box) for box in self.BOXES[:2]]
        np.testing.assert_allclose(found.boxes[2:], [self.BOXES[2]], atol=3)

    def test_the_views_of_a_scale_are_found_at_that_scale(self, make):
        detector = make(by_colour, scales=(0.5, 1, 2), pad_to=1)
        found = detector.detect(coloured(*self.BOXES))
        assert shapes(detector) == [(1, 3, 100, 150), (1, 3, 200, 300), (1, 3, 400, 600)]
        np.testing.assert_allclose(found.boxes, self.BOXES, atol=1)

    def test_voting_over_scales_takes_the_mean(self, make):
        # One colour all over: the face lies at (8, 8) to (18, 18) of every network input. In the image that is
        # (8, 8, 18, 18) at scale 1 and (4, 4, 9, 9) at scale 2, which overlap by 1 of 124; scores are equal.
        found = make(scales=(1, 2), merge="vote", iou_threshold=0.0).detect(make_image(8))
        assert found == Detections(boxes=[[6, 6, 13.5, 13.5]], scores=[1], landmarks=[[[6, 6], [13.5, 6]]])

    @pytest.mark.parametrize("preset", [None, "dsfd-multiscale", "widerface-1600"])
    def test_what_is_found_in_an_image_never_depends_on_its_neighbours(self, make, preset):
        own = {"preset": preset} if preset else {"scales": (0.5, 1), "flip": True, "tile": 100, "merge": "vote"}
        detector = make(by_colour, batch_size=3, **own)
        images = [
            coloured(*self.BOXES),
            coloured((5, 5, 60, 60), height=80, width=70),
            coloured(height=200, width=300),
            coloured((100, 30, 130, 70), self.BOXES[1]),
        ]
        together = detector.detect_batch(images)
        assert together == [detector.detect(one) for one in images]
        assert [len(found) for found in together] == [3, 1, 0, 2]

    def test_thresholds_come_from_the_user_then_the_preset_then_the_detector(self, make):
        detector = make(preset="widerface-1600")
        assert (detector.score_threshold, detector.iou_threshold) == (0.02, 0.4)
        detector = make(preset="dsfd-multiscale", score_threshold=0.25)
        assert (detector.score_threshold, detector.iou_threshold) == (0.25, 0.3)

    def test_tiles_of_a_fixed_size_go_into_one_batch(self, make):
        detector = make(by_colour, tile=100, infer_size=(128, 128))
        detector.detect(coloured(*self.BOXES))
        # 3 starts down by 4 across at the default overlap of a quarter, and the whole.
        assert [shape[1:] for shape in shapes(detector)] == [(3, 128, 128)] * 2
        assert sum(shape[0] for shape in shapes(detector)) == 3 * 4 + 1


class TestDrafts:
    def jpeg(self, image):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=100)
        return stream.getvalue()

    @pytest.mark.parametrize(
        ("views", "side"),
        [
            ({"max_side": 100}, 200),
            ({"max_side": 101}, 400),
            ({"max_side": 50, "flip": True}, 100),
            ({"max_side": 100, "scales": (0.25, 0.5)}, 100),
            ({"max_side": 100, "scales": (0.25, 2)}, 400),
            ({"infer_size": (100, 50)}, 400 // 4),  # by letterbox 50x50
            ({"infer_size": (100, 50), "fit": "stretch"}, 200),
            ({"max_side": 100, "tile": 64}, 400),  # its crops are of the whole image
            ({}, 400),
        ],
    )
    def test_a_jpeg_is_read_at_twice_the_largest_that_a_view_shows_and_boxes_are_of_the_whole(self, make, views, side):
        data = self.jpeg(make_image(10, height=400, width=400))
        draft, whole = make(draft=True, **views), make(**views)
        assert (draft.read(data).pixels.shape, draft.read(data).shape) == ((side, side, 3), (400, 400))
        assert whole.read(data).whole
        assert draft.detect(data) == whole.detect(data)
        assert draft.detect(draft.read(data)) == draft.detect_batch([data])[0] == whole.detect(data)

    def test_clipping_is_to_the_whole(self, make):
        data = self.jpeg(make_image(0, height=400, width=400))
        found = make(faces((80, 90, 120, 95, 0.9)), draft=True, max_side=100, clip=True).detect(data)
        assert found.boxes.tolist() == [[320, 360, 400, 380]]

    def test_raw_heads_are_of_the_whole(self, make):
        def corner(batch):
            return {"heads": batch[:, :1, 0, :5].copy()}

        data = self.jpeg(np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8))
        expected = make(corner, max_side=100).raw_heads([data])["heads"]
        actual = make(corner, max_side=100, draft=True).raw_heads([data])["heads"]
        np.testing.assert_array_equal(actual, expected)

    def test_what_is_wrong_with_an_image_of_a_batch_is_said_with_its_number(self, make):
        with pytest.raises(ImageError, match=r"^Image 1 of the batch: the file of 2 bytes"):
            make(draft=True, max_side=9).detect_batch([make_image(0), b"12"])


class TestTiming:
    """On a clock that is a second later each time one looks: a stage takes as many seconds as it has laps."""

    @pytest.fixture
    def looks(self, monkeypatch):
        """The times at which anyone looked at the clock."""
        looks = []

        def perf_counter():
            looks.append(len(looks))
            return float(looks[-1])

        monkeypatch.setattr(timing, "time", types.SimpleNamespace(perf_counter=perf_counter))
        return looks

    def test_unless_asked_for_there_is_none_and_nobody_looks_at_the_clock(self, make, looks):
        detector = make()
        assert detector.detect(make_image(5)).timing is None
        assert [found.timing for found in detector.detect_batch([make_image(5)] * 2)] == [None, None]
        assert looks == []

    def test_the_stages_of_one_image_add_up_to_the_call(self, make, looks):
        found = make(timing=True).detect(make_image(5))
        # Scores are made before candidates are decoded; a view's own NMS comes before that of the image.
        assert found.timing == {"read": 1, "prepare": 1, "network": 1, "trim": 0, "decode": 2, "nms": 2}
        assert list(found.timing) == list(timing.STAGES)
        assert sum(found.timing.values()) == len(looks) / 2

    def test_images_that_share_a_run_of_the_network_share_its_seconds(self, make, looks):
        found = make(timing=True).detect_batch([make_image(5), make_image(6), make_image(7, height=90)])
        shared = {"read": 1, "prepare": 0.5, "network": 0.5, "trim": 0, "decode": 1.5, "nms": 2}
        alone = {"read": 1, "prepare": 1, "network": 1, "trim": 0, "decode": 2, "nms": 2}
        assert [faces.timing for faces in found] == [shared, shared, alone]
        assert sum(sum(faces.timing.values()) for faces in found) == len(looks) / 2

    @pytest.mark.usefixtures("looks")
    def test_the_views_of_an_image_add_up_to_its_seconds(self, make):
        # Both views go through the network together; a run of the next shape is another.
        found = make(timing=True, flip=True, clip=True).detect(make_image(5))
        assert found.timing == {"read": 1, "prepare": 1, "network": 1, "trim": 0, "decode": 3, "nms": 3}
        found = make(timing=True, scales=(1, 4)).detect(make_image(5))
        assert found.timing == {"read": 1, "prepare": 2, "network": 2, "trim": 0, "decode": 4, "nms": 3}

    def test_what_is_found_is_the_same(self, make):
        assert make(timing=True).detect(make_image(5)) == make().detect(make_image(5))

    def test_calls_in_threads_do_not_count_each_others_seconds(self, make):
        detector = make(timing=True)

        def call(_):
            started = time.perf_counter()
            faces = detector.detect(make_image(5))
            return sum(faces.timing.values()), time.perf_counter() - started

        with ThreadPoolExecutor(4) as pool:
            for counted, passed in pool.map(call, range(40)):
                assert 0 < counted <= passed


class TestPriors:
    def test_priors_are_made_once_a_shape(self, make):
        head = Head()
        detector = make(head=head)
        for height in (20, 25, 40, 20, 60):
            detector.detect(make_image(1, height=height))
        assert head.asked == [(32, 32), (64, 32)]


def test_a_network_input_that_no_memory_holds_is_an_error_of_that_image(make, monkeypatch):
    detector = make()

    def no_memory(shape):
        raise MemoryError

    monkeypatch.setattr(detector._network.buffers, "lease", no_memory)
    with pytest.raises(ImageError, match="network inputs of 32x32 pixels do not fit into memory") as caught:
        detector.detect(make_image(1))
    assert caught.value.fix == "lower run_pixels, scales, infer_size, max_side, pad_to or batch_size"


class TestBounds:
    @pytest.mark.parametrize(
        ("settings", "side", "pixels"),
        [
            ({"scales": 65536}, 400, "687,194,767,360,000"),  # 400 * 65536 squared
            ({"scales": 65536, "view": "plain"}, 400, "687,194,767,360,000"),
            ({"infer_size": (40_000, 40_000)}, 400, "1,600,000,000"),
            ({"view": "plain"}, 40_000, "1,600,000,000"),
        ],
    )
    def test_more_pixels_than_any_image_needs_are_refused_with_the_settings_that_ask_for_them(
        self, make, settings, side, pixels
    ):
        endless = np.broadcast_to(np.uint8(0), (side, side, 3))
        with pytest.raises(ImageError) as caught:
            make(**settings).detect(endless)
        assert caught.value.what == (
            f"The views of the image have {pixels} pixels; at most 1,073,741,824 go through the network."
        )
        assert caught.value.fix == "lower scales, tile_overlap, pad_to, infer_size or max_side"

    @pytest.mark.parametrize("view", ["auto", "plain"])
    @pytest.mark.parametrize(
        ("height", "width", "pad_to", "padded"),
        [(1, 16_000_000, 32, "16000000x32"), (16_000_000, 1, 32, "32x16000000"), (400, 400, 65536, "65536x65536")],
    )
    def test_an_image_that_is_mostly_padding_is_refused(self, make, height, width, pad_to, padded, view):
        thin = np.broadcast_to(np.uint8(0), (height, width, 3))
        with pytest.raises(ImageError) as caught:
            make(view=view, pad_to=pad_to).detect(thin)
        assert caught.value.what == f"The image, {width}x{height} pixels for the network, would be padded to {padded}."

    def test_more_tiles_than_any_image_needs_are_refused(self, make):
        with pytest.raises(ImageError) as caught:
            make(tile=10, tile_overlap=0.9).detect(make_image(1, height=200, width=200))
        # Steps of a pixel: 191 places down, 191 across.
        assert caught.value.what == "The image would be seen in 36,481 tiles; at most 4,096 are taken."
        assert caught.value.fix == "raise tile, or lower tile_overlap, scales or max_side"

    def test_no_run_has_more_pixels_than_it_may(self, make):
        detector = make(run_pixels=256 * 256)
        detector.detect(make_image(1, height=1000, width=1500))
        assert len(shapes(detector)) > 1
        assert all(n * height * width <= 256 * 256 for n, _, height, width in shapes(detector))

    def test_a_plain_view_is_one_run_whatever_its_size(self, make):
        detector = make(run_pixels=256 * 256, view="plain")
        detector.detect(make_image(1, height=960, width=1504))
        assert shapes(detector) == [(1, 3, 960, 1504)]

    def test_a_fixed_size_is_one_run_whatever_its_size(self, make):
        detector = make(run_pixels=256 * 256, infer_size=(960, 1504))
        detector.detect(make_image(1, height=40, width=40))
        assert shapes(detector) == [(1, 3, 960, 1504)]

    @pytest.mark.parametrize("far", [2e9, -2e9, 3e38])
    def test_a_box_farther_away_than_any_image_is_not_finite(self, make, far):
        # 3e38 times the 4 pixels that one of the network stands for would be infinite.
        with pytest.raises(BackendUnavailableError, match="not finite, or far too large"):
            make(faces((0, 0, far, 1, 1)), max_side=50).detect(make_image(0, height=100, width=200))


def test_the_padding_shows_nothing_of_the_image_before(make):
    def brightest(batch):
        place = batch.max(axis=(1, 2, 3))
        return {"heads": np.stack([place, place, place + 1, place + 1, place * 0 + 1], axis=1)[:, None]}

    detector = make(brightest)
    found = [detector.detect(make_image(red, 0, height=side, width=side)) for red, side in ((200, 30), (9, 20), (7, 5))]
    assert [faces.boxes[0, 0] for faces in found] == [200, 9, 7]
    assert len(set(shapes(detector))) == 1


class TestBadOutputs:
    def test_memory_of_the_input_is_no_output(self, make):
        detector = make(lambda batch: {"heads": batch[:, 0, :1, :5]})
        for run in (detector.detect, lambda image: detector.raw_heads([image])):
            with pytest.raises(ContractError, match="gave memory of its input for the output 'heads'"):
                run(make_image(0))

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    @pytest.mark.parametrize("place", [0, 4], ids=["box", "score"])
    def test_numbers_that_are_not_finite_are_an_error_not_a_missing_face(self, make, place, bad):
        row = [0, 0, 5, 5, 0.9]
        row[place] = bad
        with pytest.raises(BackendUnavailableError) as caught:
            make(faces(row)).detect(make_image(0))
        assert caught.value.what == "'toy' on 'fast' gave numbers that are not finite, or far too large."
        assert (caught.value.why, caught.value.fix) == (("the weights may be damaged",), "choose other --weights")

    def test_numbers_that_are_not_finite_in_half_precision_suggest_full_precision(self, make):
        detector = make(faces([0, 0, 5, 5, np.nan]), on=("cuda:0", "fp16"))
        with pytest.raises(BackendUnavailableError) as caught:
            detector.detect(make_image(0))
        assert (caught.value.why, caught.value.fix) == (
            ("precision fp16 on cuda:0 may be too narrow for these weights",),
            "--precision fp32",
        )

    def test_a_box_below_the_threshold_may_hold_anything(self, make):
        assert len(make(faces((np.nan, 0, 5, 5, 0.1))).detect(make_image(0))) == 0

    @pytest.mark.parametrize(
        ("outputs", "got"),
        [
            ({}, "nothing"),
            ({"other": np.zeros((1, 1, 5), np.float32)}, "nothing"),
            ({"heads": np.zeros((1, 1, 5), np.float64)}, "float64 (1, 1, 5)"),
            ({"heads": np.zeros((1, 1, 5), np.float16)}, "float16 (1, 1, 5)"),
            ({"heads": np.zeros((2, 1, 5), np.float32)}, "float32 (2, 1, 5)"),
            ({"heads": np.zeros((), np.float32)}, "float32 ()"),
            ({"heads": [[[0.0] * 5]]}, "a list"),
        ],
    )
    def test_outputs_other_than_declared_are_the_backends_breach(self, make, outputs, got):
        with pytest.raises(ContractError) as caught:
            make(lambda _: outputs).detect(make_image(0))
        assert caught.value.what == (
            f"The backend 'fast' gave {got} for the output 'heads' of 'toy'; wanted: float32 with 1 rows."
        )

    def test_an_error_that_a_backend_does_not_make_its_own_is_named_as_its(self, make):
        def broken(_):
            raise KeyError("conv1")

        with pytest.raises(PluginError) as caught:
            make(broken).detect(make_image(0))
        assert caught.value.what == "The backend 'fast' failed while it ran 'toy'."
        assert caught.value.why == ("KeyError: 'conv1'",)
        assert isinstance(caught.value.__cause__, KeyError)

    @pytest.mark.parametrize("method", ["priors", "scores", "decode"])
    def test_so_is_one_of_a_head(self, make, method):
        class Broken(Head):
            pass

        def fail(*_):
            raise ZeroDivisionError("no anchors")

        setattr(Broken, method, fail)
        with pytest.raises(PluginError) as caught:
            make(head=Broken()).detect(make_image(0))
        assert caught.value.what == "The head of 'toy' failed."
        assert caught.value.why == ("ZeroDivisionError: no anchors",)


class TestClose:
    def test_a_closed_detector_says_so(self, make):
        detector = make()
        detector.close()
        detector.close()
        with pytest.raises(BackendUnavailableError, match="closed"):
            detector.detect(make_image(0))

    def test_a_with_block_closes_even_after_an_error(self, make):
        with pytest.raises(ImageError), make() as detector:
            detector.detect(None)
        assert detector._network.session.closed == 1

    def test_closing_frees_the_memory_of_the_inputs(self, make):
        owners = []

        def network(batch):
            owner = batch
            while owner.base is not None:
                owner = owner.base
            owners.append(weakref.ref(owner))
            return {"heads": np.zeros((1, 1, 5), np.float32)}

        detector = make(network)
        detector.detect(make_image(0))
        (owner,) = owners
        assert owner() is not None
        detector.close()
        assert owner() is None


def test_repr_says_what_runs_on_what(make):
    assert repr(make()) == "<FaceDetector toy on fast, cpu, fp32>"


class TestBuild:
    """From names to a detector, with records, head and backend in a module of the test's."""

    @pytest.fixture
    def world(self, monkeypatch, tmp_path, detector_spec, backend_spec):
        """What the plugin is made of, open to change until ``world.plugins()`` is called."""

        compiled, converted = [], []

        class Backend:
            found = (
                DeviceReport(device="cpu", precisions=("fp32",)),
                DeviceReport(device="cuda:0", precisions=("fp32", "fp16")),
            )

            def probe(self):
                return self.found

            def compile(self, graph, request):
                compiled.append((graph, request))
                return Session(device=request.device, precision=request.precision)

        class Converter:
            def convert(self, graph, directory):
                converted.append(graph)
                (directory / "toy.onnx").write_bytes(b"converted")
                return directory / "toy.onnx"

            def provenance(self):
                return {"toy": "1"}

        fake = types.ModuleType("toy_faces")
        fake.__path__ = [str(tmp_path / "toy_faces")]
        fake.Head, fake.Backend, fake.Converter = Head, Backend, Converter
        monkeypatch.setitem(sys.modules, "toy_faces", fake)
        monkeypatch.setitem(sys.modules, "fast_faces", fake)
        world = types.SimpleNamespace(
            module=fake,
            backend=Backend,
            compiled=compiled,
            converted=converted,
            detector=attrs.evolve(
                detector_spec, graphs=[attrs.evolve(detector_spec.graphs[0], kind="onnx", requires=())]
            ),
            backends=[attrs.evolve(backend_spec, requires=())],
            converters=[],
        )

        def plugins():
            plugin = types.ModuleType("plugin")
            plugin.polyface_detectors = hookimpl(lambda: [world.detector])
            plugin.polyface_backends = hookimpl(lambda: world.backends)
            plugin.polyface_converters = hookimpl(lambda: world.converters)
            manager = PluginManager()
            manager.register(plugin, name="world")
            return manager

        world.plugins = plugins
        return world

    def test_names_become_a_detector_that_runs(self, world):
        with create_detector("toy", config=Config(backend="fast", device="cpu"), plugins=world.plugins()) as detector:
            assert detector.detect(make_image(7)).boxes.tolist() == [[7, 7, 17, 17]]
        [(graph, request)] = world.compiled
        assert (graph.kind, graph.source, graph.weights, graph.detector) == (
            "onnx",
            world.detector.graphs[0].ref,
            None,
            world.detector,
        )
        assert request == CompileRequest(device="cpu", precision="fp32", options={})

    def test_the_backend_is_told_how_many_threads_or_else_of_the_cores_there_are(self, world, monkeypatch):
        monkeypatch.setattr("polyface.building.default_threads", lambda: 7)
        build(Config(detector="toy", threads=3), world.plugins())
        build(Config(detector="toy"), world.plugins())
        assert [request.threads for _, request in world.compiled] == [3, 7]

    def test_threads_that_are_set_are_had_or_refused_and_others_never_fail(self, world):
        sessions = []

        class Two(world.backend):
            def compile(self, graph, request):  # noqa: ARG002
                sessions.append(Session(device=request.device, precision=request.precision, threads=2))
                return sessions[-1]

        world.module.Backend = Two
        plugins = world.plugins()
        assert build(Config(detector="toy", threads=2), plugins).execution.threads == 2
        assert build(Config(detector="toy"), plugins).execution.threads == 2
        with pytest.raises(BackendUnavailableError) as caught:
            build(Config(detector="toy", threads=3), plugins)
        assert caught.value.what == "The backend 'fast' was asked for 3 threads; it runs on 2."
        assert caught.value.fix == "--threads 2, or leave it to polyface"
        assert [session.closed for session in sessions] == [0, 0, 1]

    def test_the_backend_is_told_of_a_fixed_size_and_of_no_other(self, world):
        build(Config(detector="toy", device="cpu", infer_size=(64, 96)), world.plugins())
        build(Config(detector="toy", device="cpu", max_side=96), world.plugins())
        assert [request.infer_size for _, request in world.compiled] == [(64, 96), None]

    def test_keywords_are_stronger_than_the_config(self, world):
        config = Config(detector="other", backend="fast", device="cpu")
        detector = create_detector("toy", config=config, plugins=world.plugins(), device="cuda", precision="fp16")
        assert (detector.execution.device, detector.execution.precision) == ("cuda:0", "fp16")
        assert detector.config.detector == "toy"

    def test_a_config_file_can_be_named(self, world, tmp_path):
        path = tmp_path / "mine.toml"
        path.write_text('detector = "toy"\nbackend = "fast"\nscore_threshold = 0.125\n')
        assert create_detector(config=path, plugins=world.plugins()).score_threshold == 0.125

    @pytest.mark.parametrize(("device", "precision"), [("cuda:0", "fp32"), ("cpu", "bf16")])
    def test_a_session_on_anything_else_than_asked_is_refused_and_closed(self, world, monkeypatch, device, precision):
        session = Session(device=device, precision=precision)
        monkeypatch.setattr(world.backend, "compile", lambda *_: session)
        with pytest.raises(ContractError) as caught:
            build(Config(detector="toy", device="cpu"), world.plugins())
        assert caught.value.what == (
            f"The backend 'fast' runs on {device} in {precision}; it was asked for cpu in fp32."
        )
        assert session.closed == 1

    def test_whatever_a_backend_raises_while_it_loads_a_network_is_named_as_its(self, world, monkeypatch):
        def fail(*_):
            raise KeyError("conv1")

        monkeypatch.setattr(world.backend, "compile", fail)
        with pytest.raises(PluginError) as caught:
            build(Config(detector="toy", device="cpu"), world.plugins())
        assert caught.value.what == "The backend 'fast' failed to load 'toy'."
        assert caught.value.why == ("KeyError: 'conv1'",)

    def test_an_unknown_preset_is_refused_before_anything_is_compiled(self, world):
        with pytest.raises(ConfigError, match="There is no preset 'none'"):
            build(Config(detector="toy", preset="none"), world.plugins())
        assert world.compiled == []

    def test_an_illegal_fixed_size_is_refused_before_anything_is_compiled(self, world):
        with pytest.raises(ConfigError, match="cannot run at infer_size 16x640"):
            build(Config(detector="toy", infer_size=(16, 640)), world.plugins())
        assert world.compiled == []

    def test_a_device_that_is_not_there_is_refused_before_anything_is_compiled(self, world):
        with pytest.raises(BackendUnavailableError, match="cannot run on device 'cuda:1' in 'fp32'"):
            build(Config(detector="toy", device="cuda:1"), world.plugins())
        assert world.compiled == []

    def test_a_class_that_lacks_methods_is_named_with_them(self, world):
        world.module.Head = types.SimpleNamespace
        with pytest.raises(ContractError) as caught:
            build(Config(detector="toy"), world.plugins())
        assert caught.value.what == "'toy_faces:Head' gives no Head: it lacks priors, scores, decode."

    def test_an_unknown_detector_or_backend_offers_the_nearest(self, world):
        with pytest.raises(UnknownNameError, match="no detector named 'toyy'; did you mean 'toy'"):
            build(Config(detector="toyy"), world.plugins())
        with pytest.raises(UnknownNameError, match="no backend named 'fats'; did you mean 'fast'"):
            build(Config(detector="toy", backend="fats"), world.plugins())

    def test_auto_takes_the_preferred_backend_that_has_a_route(self, world):
        [fast] = world.backends
        slow = attrs.evolve(fast, name="slow", preference=-1)
        engine = attrs.evolve(fast, name="engine", preference=9, accepts=["engine"])
        world.backends = [slow, fast, engine]
        assert select(Config(detector="toy"), world.plugins()).backend == fast
        assert select(Config(detector="toy", backend="slow"), world.plugins()).backend == slow

    def test_neither_a_fork_nor_the_end_of_the_process_comes_in_the_middle_of_loading_compiling_or_running(self, world):
        seen = {}

        def note(place, kept):
            def noting(*arguments):
                seen[place] = threading.get_ident() in gate.runs._inside
                return kept(*arguments)

            return noting

        world.backend.__init__ = note("load", object.__init__)
        world.backend.probe = note("probe", world.backend.probe)
        compile_ = world.backend.compile

        def compiled(self, graph, request):
            seen["compile"] = threading.get_ident() in gate.runs._inside
            session = compile_(self, graph, request)
            session.run = note("run", session.run)
            return session

        world.backend.compile = compiled
        detector = create_detector("toy", config=Config(backend="fast", device="cpu"), plugins=world.plugins())
        detector.detect(make_image(7))
        assert seen == {"load": True, "probe": True, "compile": True, "run": True}
        assert not gate.runs._inside

    def test_a_backend_sees_the_standard_output_of_the_process(self, world):
        seen = []
        world.backend.probe = lambda self: seen.append(sys.stdout) or self.found
        create_detector("toy", config=Config(backend="fast", device="cpu"), plugins=world.plugins())
        assert seen == [sys.stdout]

    @pytest.fixture
    def gpu_machine(self, world, monkeypatch):
        """A machine with a GPU's driver, on which the preferred backend has the processor alone."""
        [fast] = world.backends
        claims = [Capability(device="cuda", driver=("libcuda.so.1",)), Capability(device="cpu")]

        class ProcessorOnly(world.backend):
            found = (DeviceReport(device="cpu", precisions=("fp32",)),)

        world.module.ProcessorOnly = ProcessorOnly
        ours = Ref("toy_faces:ProcessorOnly")
        world.backends = [
            attrs.evolve(fast, name="both", preference=1, capabilities=claims),
            attrs.evolve(fast, name="wheel-without-gpu", preference=9, capabilities=claims, factory=ours),
        ]
        world.drivers = {"libcuda.so.1"}
        monkeypatch.setattr("polyface.building.has_driver", lambda libraries: bool({*libraries} & world.drivers))
        return world

    def test_with_everything_on_auto_a_gpu_is_looked_for_on_every_backend(self, gpu_machine):
        detector = build(Config(detector="toy"), gpu_machine.plugins())
        assert (detector.backend.name, detector.execution.device) == ("both", "cuda:0")
        assert detector.config.device == "auto"

    def test_without_a_driver_the_preferred_backend_is_taken_and_no_other_is_loaded(self, gpu_machine, monkeypatch):
        gpu_machine.drivers = set()
        monkeypatch.setattr(gpu_machine.backend, "__init__", lambda _: pytest.fail("loaded"))
        monkeypatch.setattr(gpu_machine.module.ProcessorOnly, "__init__", lambda _: None)
        detector = build(Config(detector="toy"), gpu_machine.plugins())
        assert (detector.backend.name, detector.execution.device) == ("wheel-without-gpu", "cpu")

    def test_a_driver_without_its_device_leaves_the_processor(self, gpu_machine, monkeypatch):
        monkeypatch.setattr(gpu_machine.backend, "found", (DeviceReport(device="cpu", precisions=("fp32",)),))
        detector = build(Config(detector="toy"), gpu_machine.plugins())
        assert (detector.backend.name, detector.execution.device) == ("wheel-without-gpu", "cpu")

    def test_a_backend_or_device_that_is_named_is_taken_whatever_drivers_there_are(self, gpu_machine):
        detector = build(Config(detector="toy", device="cpu"), gpu_machine.plugins())
        assert (detector.backend.name, detector.execution.device) == ("wheel-without-gpu", "cpu")
        detector = build(Config(detector="toy", backend="wheel-without-gpu"), gpu_machine.plugins())
        assert detector.execution.device == "cpu"

    def test_auto_takes_the_first_by_name_among_equals(self, world):
        [fast] = world.backends
        world.backends = [fast, attrs.evolve(fast, name="also-fast")]
        assert select(Config(detector="toy"), world.plugins()).backend.name == "also-fast"

    @pytest.mark.parametrize("fault", ["factory", "probe"])
    def test_auto_passes_over_a_backend_whose_own_code_fails(self, world, fault):
        class Broken(world.backend):
            def __init__(self):
                if fault == "factory":
                    raise OSError("libruntime.so: cannot open")

            def probe(self):
                raise OSError("libruntime.so: cannot open")

        world.module.Broken = Broken
        broken = attrs.evolve(world.backends[0], name="broken", preference=9, factory=Ref("toy_faces:Broken"))
        world.backends.append(broken)
        with create_detector("toy", config=Config(detector="toy"), plugins=world.plugins()) as detector:
            assert detector.backend.name == "fast"
        with pytest.raises(PluginError) as caught:
            create_detector("toy", config=Config(backend="broken"), plugins=world.plugins())
        assert caught.value.what == "The backend 'broken' does not load."
        assert caught.value.why == ("OSError: libruntime.so: cannot open",)

    def test_a_home_that_cannot_be_written_to_is_named(self, world, monkeypatch, tmp_path):
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("POLYFACE_HOME", str(tmp_path / "file"))
        world.detector = attrs.evolve(
            world.detector, graphs=[attrs.evolve(world.detector.graphs[0], kind="torch-module")]
        )
        world.converters = [ConverterSpec(source="torch-module", target="onnx", factory=Ref("toy_faces:Converter"))]
        with pytest.raises(ArtifactError) as caught:
            create_detector("toy", config=Config(), plugins=world.plugins())
        assert (
            caught.value.what == f"The exported graph of 'toy' cannot be stored in {tmp_path / 'file' / 'artifacts'}."
        )
        assert "POLYFACE_HOME" in caught.value.fix

    def test_auto_skips_a_backend_that_does_not_claim_the_device(self, world):
        [fast] = world.backends
        tpu = attrs.evolve(fast, name="tpu", preference=-5, capabilities=[Capability(device="tpu")])
        world.backends = [fast, tpu]
        assert select(Config(detector="toy", device="tpu"), world.plugins()).backend == tpu

    def test_without_any_route_the_reasons_of_every_backend_are_told(self, world):
        [fast] = world.backends
        world.backends = [attrs.evolve(fast, name=name, accepts=[name]) for name in ("one", "two")]
        with pytest.raises(UnsupportedError) as caught:
            select(Config(detector="toy"), world.plugins())
        assert caught.value.what == "No installed backend can run 'toy' as asked."
        assert {reason.subject for reason in caught.value.reasons} == {"one artifact", "two artifact", "converters"}

    def test_without_any_backend_one_is_recommended(self, world):
        world.backends = []
        with pytest.raises(UnsupportedError) as caught:
            select(Config(detector="toy"), world.plugins())
        assert [reason.why for reason in caught.value.reasons] == ["none is installed"]
        assert "pip install" in caught.value.fix

    def test_a_conversion_is_stored_and_found_the_next_time(self, world, converter_spec, detector_spec, home):
        world.detector = attrs.evolve(detector_spec, graphs=[attrs.evolve(detector_spec.graphs[0], requires=())])
        world.converters = [attrs.evolve(converter_spec, requires=())]
        first = select(Config(detector="toy"), world.plugins())
        assert first.route.description == "torch-module, converted to onnx"
        graph = load_graph(first.route, first.detector, first.weights)
        assert (graph.kind, graph.source.read_bytes()) == ("onnx", b"converted")
        assert graph.source.is_relative_to(home / "artifacts")
        second = select(Config(detector="toy"), world.plugins())
        assert second.route.artifact == graph.source
        assert load_graph(second.route, second.detector, second.weights) == graph
        assert len(world.converted) == 1

    def test_a_folder_of_artifacts_that_is_not_there_is_refused_with_the_command_that_makes_it(self, world, tmp_path):
        folder = tmp_path / "nowhere"
        with pytest.raises(ConfigError, match="artifacts must name a folder that exists") as caught:
            select(Config(detector="toy", artifacts=str(folder)), world.plugins())
        assert caught.value.fix == f"polyface export toy --output {folder}"
        with pytest.raises(ConfigError) as caught:
            select(Config(detector="toy", weights="my.pth", artifacts=str(folder)), world.plugins())
        assert caught.value.fix == f"polyface export toy --weights my.pth --output {folder}"

    def test_a_damaged_artifact_in_a_named_folder_ends_the_search_for_a_backend(
        self, world, converter_spec, detector_spec, tmp_path
    ):
        world.detector = attrs.evolve(detector_spec, graphs=[attrs.evolve(detector_spec.graphs[0], requires=())])
        world.converters = [attrs.evolve(converter_spec, requires=())]
        folder = tmp_path / ArtifactKey.of(world.detector, "", "onnx").digest
        folder.mkdir()
        with pytest.raises(ArtifactError, match="FileNotFoundError"):
            build(Config(detector="toy", artifacts=str(tmp_path)), world.plugins())
        assert world.converted == []

    def test_what_mends_a_damaged_artifact_names_the_checkpoint_it_was_made_from(self, world, detector_spec, tmp_path):
        world.detector = attrs.evolve(detector_spec, graphs=[attrs.evolve(detector_spec.graphs[0], requires=())])
        own = tmp_path / "my.pth"
        own.write_bytes(b"mine")
        folder = tmp_path / ArtifactKey.of(world.detector, sha256_of(own), "onnx").digest
        folder.mkdir()
        with pytest.raises(ArtifactError) as caught:
            build(Config(detector="toy", weights=str(own), artifacts=str(tmp_path)), world.plugins())
        export = f"polyface export toy --to onnx --weights {own} --output {tmp_path}"
        assert caught.value.fix == f"rm -r {folder} && {export}"

    def test_a_packaged_graph_is_verified_before_it_is_used(self, world, tmp_path, monkeypatch):
        monkeypatch.delitem(sys.modules, "toy_faces")
        folder = tmp_path / "toy_graphs"
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / "toy.onnx").write_bytes(b"graph")
        monkeypatch.syspath_prepend(tmp_path)
        packaged = GraphSource(kind="onnx", ref=FileRef("toy_graphs:toy.onnx"), sha256=sha256_of(folder / "toy.onnx"))
        world.detector = attrs.evolve(world.detector, graphs=[packaged])
        selection = select(Config(detector="toy"), world.plugins())
        assert load_graph(selection.route, selection.detector, selection.weights).source == folder / "toy.onnx"
        (folder / "toy.onnx").write_bytes(b"grape")
        with pytest.raises(WeightsMismatchError):
            load_graph(selection.route, selection.detector, selection.weights)
        sys.modules.pop("toy_graphs", None)

    def test_the_backend_gets_every_option_checked_and_filled_in(self, world):
        threads = OptionSpec(name="threads", type="int", help="Threads.", default=1, minimum=1)
        arena = OptionSpec(name="arena", type="bool", help="Arena.")
        world.backends = [attrs.evolve(world.backends[0], options=[threads, arena])]
        build(Config(detector="toy", backend_options={"threads": 4}), world.plugins())
        assert dict(world.compiled[0][1].options) == {"threads": 4, "arena": None}

    def test_a_pickled_detector_is_built_again_from_its_config(self, world, monkeypatch):
        manager = world.plugins()
        monkeypatch.setattr("polyface.building.installed_plugins", lambda: manager)
        detector = build(Config(detector="toy", score_threshold=0.25), manager)
        again = pickle.loads(pickle.dumps(detector))  # noqa: S301
        assert again.config == detector.config
        assert again.detect(make_image(3)) == detector.detect(make_image(3))


class TestInferSize:
    @pytest.mark.parametrize(
        ("size", "legal"),
        [
            ((470, 640), "464x640"),  # 29 * 16 = 464 is nearer than 480
            ((472, 649), "480x656"),  # halfway: the larger; 649 is nearer to 656 than to 640
            ((16, 640), "48x640"),  # under 40, of which 48 is the next multiple
        ],
    )
    def test_a_size_the_network_cannot_take_is_refused_with_the_nearest_it_can(self, detector_spec, size, legal):
        spec = attrs.evolve(
            detector_spec, preprocess=Preprocess(channels="rgb", mean=(0, 0, 0), stride=16), min_side=40
        )
        with pytest.raises(ConfigError) as caught:
            check_infer_size(Config(infer_size=size), spec)
        assert caught.value.what == f"'toy' cannot run at infer_size {size[0]}x{size[1]}."
        assert caught.value.why == ("its sides must be multiples of 16 and at least 40",)
        assert caught.value.fix == f"--infer-size {legal}"
        check_infer_size(Config(infer_size=legal), spec)
        check_infer_size(Config(), spec)


class TestOptions:
    @pytest.fixture
    def backend(self, backend_spec):
        return attrs.evolve(
            backend_spec,
            options=[
                OptionSpec(name="threads", type="int", help="How many threads.", default=2, minimum=1),
                OptionSpec(name="mode", type="str", help="How to run.", choices=("fast", "exact")),
            ],
        )

    def test_defaults_fill_in_what_is_not_given(self, backend):
        assert check_options(backend, {"mode": "fast"}) == {"threads": 2, "mode": "fast"}
        assert check_options(backend, {}) == {"threads": 2, "mode": None}

    def test_an_unknown_option_offers_the_nearest_and_lists_them(self, backend, backend_spec):
        with pytest.raises(ConfigError) as caught:
            check_options(backend, {"thread": 2})
        assert caught.value.what == "The backend 'fast' has no option 'thread'; did you mean 'threads'?"
        assert caught.value.why == ("its options: threads, mode",)
        assert not caught.value.fix
        with pytest.raises(ConfigError) as caught:
            check_options(backend_spec, {"thread": 2})
        assert caught.value.why == ("its options: none",)

    def test_a_setting_among_the_options_is_told_its_place(self, backend_spec):
        with pytest.raises(ConfigError) as caught:
            check_options(backend_spec, {"batch_size": 2})
        assert caught.value.fix == "set it by itself, for every backend: --batch-size"

    @pytest.mark.parametrize(
        ("options", "message", "why"),
        [
            ({"threads": 0}, "backend_options: threads must be at least 1, not 0.", "How many threads."),
            ({"threads": "2"}, "backend_options: threads must be of type int, not '2'.", "How many threads."),
            ({"mode": "x"}, "backend_options: mode must be one of 'fast', 'exact', not 'x'.", "How to run."),
        ],
    )
    def test_a_wrong_value_says_what_the_option_is_for(self, backend, options, message, why):
        with pytest.raises(ConfigError) as caught:
            check_options(backend, options)
        assert (caught.value.what, caught.value.why) == (message, (why,))
