"""The pipeline, with a network made of NumPy: what goes in, what comes out, and in which order.

The network here reads its answer off the image: see toy_network.py.
"""

from __future__ import annotations

import io
import weakref
from pathlib import Path

import attrs
import numpy as np
import pytest
from PIL import Image

from polyface.errors import (
    BackendUnavailableError,
    ClosedError,
    ContractError,
    ImageError,
)
from polyface.plugins.records import (
    DetectDefaults,
    Preprocess,
)
from polyface.results import Detections
from toy_network import BareHead, Head, faces, make_image, one_face, shapes


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
        assert str(caught.value.fix) == "choose other weights"


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
        apart = [(20 * n, 0, 20 * n + 10, 10, 0.9) for n in range(1000)]
        found = make(faces(*apart)).detect(make_image(0))
        assert (len(found), found.truncated) == (1000, False)

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

    def test_a_detector_without_landmarks_gives_none(self, make, detector_spec):
        bare = make(head=BareHead(), spec=attrs.evolve(detector_spec, landmarks=()))
        assert bare.detect(make_image(5)).landmarks is None
        assert bare.detect(make_image(5, score=0)).landmarks is None

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
        assert caught.value.what == (
            "'toy' gave float32 (1, 2) as scores for 1 images and 3 anchors of a network input of 32x32."
        )


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
        assert str(caught.value.fix) == "(image * 255).round().astype('uint8') for values in 0-1"
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
        assert str(caught.value.fix) == "detector.detect(image) for one"


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


class TestClose:
    def test_a_closed_detector_says_so(self, make):
        detector = make()
        detector.close()
        detector.close()
        with pytest.raises(ClosedError, match="closed"):
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
