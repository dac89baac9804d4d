"""One run of the network: its bounds, its memory, and outputs that are not what was declared.

The network here reads its answer off the image: see toy_network.py.
"""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from polyface.errors import (
    ContractError,
    ImageError,
    NumericalError,
    PluginError,
)
from polyface.plugins.protocols import Candidates
from polyface.plugins.records import Preprocess
from toy_network import Head, PixelSession, faces, make_image, shapes


class TestPriors:
    def test_priors_are_made_once_a_shape(self, make):
        head = Head()
        detector = make(head=head)
        for height in (20, 25, 40, 20, 60):
            detector.detect(make_image(1, height=height))
        assert head.asked == [(32, 32), (64, 32)]


class TestPixels:
    def test_a_session_that_takes_them_gets_the_images_with_their_padding_as_they_are(self, make, detector_spec):
        spec = attrs.evolve(detector_spec, preprocess=Preprocess(channels="bgr", mean=(1, 2, 3), stride=32))
        detector = make(session=PixelSession, spec=spec)
        first, second = detector.detect_batch([make_image(9, 255), make_image(3, 51, height=10, width=7)])
        assert first.boxes.tolist() == [[9, 9, 19, 19]]
        assert (second.boxes.tolist(), second.scores.tolist()) == ([], [])  # 51 / 255 is under the threshold
        seen = detector._network.session.seen
        assert (seen.dtype, seen.shape, seen.flags.c_contiguous) == (np.uint8, (2, 32, 32, 3), True)
        assert seen[1, :10, :7].reshape(-1, 3).tolist() == [[3, 51, 0]] * 70
        assert {*map(tuple, seen[1, 10:].reshape(-1, 3)), *map(tuple, seen[1, :10, 7:].reshape(-1, 3))} == {(3, 2, 1)}

    def test_padding_that_no_pixel_shows_is_prepared_in_floats(self, make, detector_spec):
        half = Preprocess(channels="rgb", mean=(0, 0, 0), stride=32, pad_value=0.5)
        detector = make(session=PixelSession, spec=attrs.evolve(detector_spec, preprocess=half))
        assert detector.detect(make_image(9)).boxes.tolist() == [[9, 9, 19, 19]]
        assert not hasattr(detector._network.session, "seen")


def test_a_network_input_that_no_memory_holds_is_an_error_of_that_image(make, monkeypatch):
    detector = make()

    def no_memory(shape):
        raise MemoryError

    monkeypatch.setattr(detector._network.buffers, "lease", no_memory)
    with pytest.raises(ImageError, match="network inputs of 32x32 pixels do not fit into memory") as caught:
        detector.detect(make_image(1))
    assert str(caught.value.fix) == "lower run_pixels, scales, infer_size, max_side, pad_to or batch_size"


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
        assert str(caught.value.fix) == "lower scales, tile_overlap, pad_to, infer_size or max_side"

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
        assert str(caught.value.fix) == "raise tile; or: lower tile_overlap, scales or max_side"

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
        with pytest.raises(NumericalError, match="not finite, or far too large"):
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
        with pytest.raises(NumericalError) as caught:
            make(faces(row)).detect(make_image(0))
        assert caught.value.what == "'toy' on 'fast' gave numbers that are not finite, or far too large."
        assert (caught.value.why, str(caught.value.fix)) == (("the weights may be damaged",), "choose other weights")

    def test_of_a_file_they_may_come_of_wrong_options(self, make):
        for detect in ("detect", "raw_heads"):
            detector = make(faces([np.inf, 0, 5, 5, 0.9]), family="ssd")
            with pytest.raises(NumericalError) as caught:
                getattr(detector, detect)(make_image(0) if detect == "detect" else [make_image(0)])
            assert caught.value.why == (
                "options such as mean and std may be others than the network was trained with, or the file is damaged",
            )
            assert str(caught.value.fix) == "change family_options; or: get the file again"

    def test_numbers_that_are_not_finite_in_half_precision_suggest_full_precision(self, make):
        detector = make(faces([0, 0, 5, 5, np.nan]), on=("cuda:0", "fp16"))
        with pytest.raises(NumericalError) as caught:
            detector.detect(make_image(0))
        assert (caught.value.why, str(caught.value.fix)) == (
            ("precision fp16 on cuda:0 may be too narrow for these weights",),
            'precision="fp32"',
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
            ({"heads": np.zeros((1, 5), np.float32)}, "float32 (1, 5)"),
            ({"heads": np.zeros((1, 1, 6), np.float32)}, "float32 (1, 1, 6)"),
            ({"heads": [[[0.0] * 5]]}, "a list"),
        ],
    )
    def test_outputs_other_than_declared_are_the_backends_breach(self, make, outputs, got):
        with pytest.raises(ContractError) as caught:
            make(lambda _: outputs).detect(make_image(0))
        assert caught.value.what == (
            f"The backend 'fast' gave {got} for the output 'heads' of 'toy'; wanted: float32 (1, p, 5)."
        )
        assert caught.value.why == ("the record is that of toy-faces",)
        assert str(caught.value.fix) == (
            "mend its installation; or: choose another backend; or: mend toy-faces; or: choose another detector"
        )

    def test_an_error_that_a_backend_does_not_make_its_own_is_named_as_its(self, make):
        def broken(_):
            raise KeyError("conv1")

        with pytest.raises(PluginError) as caught:
            make(broken).detect(make_image(0))
        assert caught.value.what == "The backend 'fast' failed while it ran 'toy'."
        assert caught.value.why == ("KeyError: 'conv1'",)
        assert isinstance(caught.value.__cause__, KeyError)

    def test_what_half_precision_rounds_beyond_0_and_1_is_a_score_all_the_same(self, make):
        above = float(np.nextafter(np.float16(1), np.float16(2)))  # 1.0009766, where a half's sigmoid may end
        network = faces((5, 5, 15, 15, above), (50, 50, 60, 60, 0.75), (80, 80, 90, 90, 1 - above))
        detector = make(network, score_threshold=0)
        assert detector.detect(make_image(1, height=96)).scores.tolist() == [1, 0.75, 0]

    def test_what_is_farther_outside_is_no_rounding(self, make):
        twice = float(np.float16(1) + 2 * np.finfo(np.float16).eps)
        with pytest.raises(ContractError, match=r"gave scores from 0 to 1\.00195; wanted: from 0 to 1\."):
            make(faces((5, 5, 15, 15, twice))).detect(make_image(1))

    @pytest.mark.parametrize(
        ("method", "gives", "said"),
        [
            ("priors", None, "gave nothing for the priors of 32x32 pixels."),
            ("priors", [[0, 0, 5, 5]], "gave a list for the priors of 32x32 pixels."),
            (
                "priors",
                np.zeros((2, 4), np.float32),
                "gave float32 (1, 1) as scores for 1 images and 2 anchors of a network input of 32x32.",
            ),
            ("scores", None, "gave nothing as scores for 1 images and 1 anchors of a network input of 32x32."),
            *(
                ("scores", np.float32([[score]]), f"gave scores from {least} to {most}; wanted: from 0 to 1.")
                for score, least, most in ((1.5, "0", "1.5"), (-4, "-4", "1"), (np.nan, "nan", "nan"))
            ),
            ("priors", np.float32(1)[...], "gave float32 () for the priors of 32x32 pixels."),
            *(
                ("scores", np.array([[1]], dtype), f"gave {dtype} (1, 1) as scores; wanted: float32.")
                for dtype in ("complex128", "int64", "object", "<U1", "bool")
            ),
            *(
                (
                    "decode",
                    Candidates(np.zeros((1, 4), boxes), np.zeros((1, 2, 2), marks)),
                    f"decoded anchors into {what} of {dtype} {shape}; wanted: float32.",
                )
                for boxes, marks, what, dtype, shape in (
                    ("complex64", "float32", "boxes", "complex64", (1, 4)),
                    ("object", "float32", "boxes", "object", (1, 4)),
                    ("float32", "int64", "landmarks", "int64", (1, 2, 2)),
                )
            ),
            *(
                (
                    "decode",
                    Candidates(np.zeros(boxes, np.float32), None if marks is None else np.zeros(marks, np.float32)),
                    f"decoded 1 anchors into boxes {boxes} and landmarks {marks}; wanted: (1, 4) and (1, 2, 2).",
                )
                for boxes, marks in (
                    ((1, 5), (1, 2, 2)),
                    ((2, 4), (1, 2, 2)),
                    ((1, 4), (1, 5, 2)),
                    ((1, 4), (1, 4)),
                    ((1, 4), None),
                )
            ),
        ],
    )
    def test_what_no_head_may_give_names_the_detector(self, make, method, gives, said):
        wrong = type("Wrong", (Head,), {method: lambda *_: gives})
        with pytest.raises(ContractError) as caught:
            make(head=wrong()).detect(make_image(0))
        assert (caught.value.what, caught.value.why) == (f"'toy' {said}", ("its head is that of toy-faces",))
        assert str(caught.value.fix) == "mend toy-faces; or: choose another detector"

    def test_nor_that_of_a_family_which_may_have_wrong_options(self, make):
        with pytest.raises(ContractError, match=r"gave scores from 0 to 2; wanted") as caught:
            make(faces((5, 5, 15, 15, 2)), family="ssd").detect(make_image(0))
        assert caught.value.why == ("its head is that of the family 'ssd' of toy-faces",)
        options = "change family_options or family"
        assert str(caught.value.fix) == f"{options}; or: mend the family 'ssd' of toy-faces"

    @pytest.mark.parametrize(
        ("family", "fix"),
        [
            (None, "mend toy-faces; or: choose another detector"),
            ("ssd", "change family_options or family; or: mend the family 'ssd' of toy-faces"),
        ],
    )
    def test_numbers_that_only_the_head_made_infinite_are_its_affair(self, make, family, fix):
        wrong = type("Wrong", (Head,), {"decode": lambda *_: (np.full((1, 4), np.nan), np.zeros((1, 2, 2)))})
        with pytest.raises(NumericalError) as caught:
            make(faces((5, 5, 15, 15, 1)), head=wrong(), family=family).detect(make_image(0))
        maker = "toy-faces" if family is None else "the family 'ssd' of toy-faces"
        assert caught.value.why == (f"the network's own are finite, and the head of {maker} makes these of them",)
        assert str(caught.value.fix) == fix

    def test_nor_landmarks_that_the_record_does_not_declare(self, make, detector_spec):
        bare = attrs.evolve(detector_spec, landmarks=())
        with pytest.raises(ContractError, match=r"landmarks \(1, 2, 2\); wanted: \(1, 4\) and None"):
            make(spec=bare).detect(make_image(0))

    @pytest.mark.parametrize("gives", [None, (1, 2, 3), 7])
    def test_nor_anything_but_boxes_and_landmarks(self, make, gives):
        wrong = type("Wrong", (Head,), {"decode": lambda *_: gives})
        with pytest.raises(PluginError, match=r"^The head of 'toy' failed\."):
            make(head=wrong()).detect(make_image(0))

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
