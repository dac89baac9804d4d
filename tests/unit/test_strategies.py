"""Test-time strategies: which views are taken, how faces come back from them, and how they are merged."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyface.errors import ConfigError, ContractError
from polyface.images.geometry import Placement, place_image
from polyface.pipeline.merging import (
    MOST_MERGED,
    clip,
    drop_pieces,
    filter_by_size,
    keep_confirmed,
    merge_faces,
    mirrored_order,
    to_image,
)
from polyface.pipeline.presets import PRESETS, select_strategy
from polyface.pipeline.views import EDGE, NetworkView, View, crop, make_views, tiles
from polyface.plugins.protocols import Candidates
from polyface.plugins.records import DetectorSpec, GraphSource, Preprocess, Ref, TensorSpec
from polyface.results import Detections
from polyface.settings.config import Config
from polyface.settings.loading import load_config

NAMES = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


def faces(*rows, marks=None):
    """Detections from rows ``(x1, y1, x2, y2, score)``."""
    array = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(boxes=array[:, :4], scores=array[:, 4], landmarks=marks)


def shapes_of(views):
    return [(view.crop, view.scale, view.flip) for view in views]


class TestViews:
    def test_the_plain_call_is_one_view_of_the_whole_image(self):
        assert shapes_of(make_views(100, 200)) == [((0, 0, 200, 100), 1.0, False)]

    def test_max_side_shrinks_before_the_scales_and_never_enlarges(self):
        views = make_views(100, 200, max_side=50, scales=(1, 2))
        assert [view.scale for view in views] == [0.25, 0.5]
        assert [view.scale for view in make_views(10, 20, max_side=50)] == [1.0]

    def test_flip_adds_the_mirrored_look_of_every_view(self):
        whole = (0, 0, 20, 10)
        assert shapes_of(make_views(10, 20, scales=(1, 2), flip=True)) == [
            (whole, 1, False),
            (whole, 2, False),
            (whole, 1, True),
            (whole, 2, True),
        ]

    def test_a_large_image_is_seen_in_tiles_and_once_as_a_whole(self):
        # Tiles of 100 that share 20 advance by at most 80: from 0 to 150 in two steps of 75.
        assert shapes_of(make_views(60, 250, tile=100, tile_overlap=0.2)) == [
            ((0, 0, 100, 60), 1.0, False),
            ((75, 0, 175, 60), 1.0, False),
            ((150, 0, 250, 60), 1.0, False),
            ((0, 0, 250, 60), 0.4, False),
        ]

    def test_tiles_are_measured_after_scaling(self):
        # Twice as large, 60x50 is 120x100: tiles of 100 are 50 pixels of the image.
        assert shapes_of(make_views(60, 50, scales=(2,), tile=100)) == [
            ((0, 0, 50, 50), 2, False),
            ((0, 10, 50, 60), 2, False),
            ((0, 0, 50, 60), 100 / 60, False),
        ]

    def test_what_fits_into_a_tile_is_not_cut(self):
        assert shapes_of(make_views(100, 100, tile=100)) == [((0, 0, 100, 100), 1.0, False)]

    def test_no_view_is_taken_twice(self):
        # The whole image, shrunk to a tile, is the same view for both scales.
        views = make_views(100, 200, scales=(1, 2, 1), tile=100)
        assert len(set(views)) == len(views)
        assert [view.scale for view in views if view.crop == (0, 0, 200, 100)] == [0.5]

    def test_a_view_is_cut_out_and_mirrored_without_copying(self):
        image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
        part = crop(image, View(crop=(1, 2, 4, 4), flip=True))
        np.testing.assert_array_equal(part, image[2:4, [3, 2, 1]])
        assert np.shares_memory(part, image)


@settings(deadline=None)
@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 50), st.floats(0, 0.9))
def test_tiles_cover_every_pixel_and_neighbours_share_what_they_must(height, width, side, overlap):
    crops = tiles(height, width, side, overlap)
    for low, high, length in ((0, 2, width), (1, 3, height)):
        spans = sorted({(crop[low], crop[high]) for crop in crops})
        assert (spans[0][0], spans[-1][1]) == (0, length)
        assert all(end - start == min(side, length) for start, end in spans)
        for (_, end), (start, _) in itertools.pairwise(spans):
            assert end - start > overlap * side - 1
    across, down = (len({crop[axis] for crop in crops}) for axis in (0, 1))
    assert len(crops) == across * down


RANGED = DetectorSpec(
    name="ranged",
    summary="Sees faces of 32 to 512 pixels",
    graph_version=1,
    input=TensorSpec(name="image", dims=("n", 3, "h", "w")),
    outputs=[TensorSpec(name="heads", dims=("n", "p", 5))],
    preprocess=Preprocess(channels="rgb", mean=(0, 0, 0)),
    head=Ref("toy_faces:Head"),
    graphs=[GraphSource(kind="onnx", ref=Ref("toy_faces.net:build"))],
    face_sizes=(32, 512),
    run_pixels=4096 * 2048,
)


def planned(height, width, *, spec=RANGED, **settings):
    return select_strategy(Config(**settings), spec).views(height, width)


def limits_of(views):
    return [(view.scale, view.larger_than, view.smaller_than, view.confirmed_over) for view in views]


def input_of(view, spec=RANGED, pad_to=32):
    frame = place_image(*view.size, spec.preprocess, min_side=spec.min_side, pad_to=pad_to, scale=view.scale)
    return math.prod(frame.shape)


INF = math.inf


class TestPlans:
    """By hand: the network sees 32 to 512 pixels, so that views meet at 512 / 4 = 128 and 512 * 5 / 16 = 160."""

    @pytest.mark.parametrize(("height", "width"), [(512, 4000), (480, 640), (500, 341), (1, 1)])
    def test_an_image_whose_largest_face_the_network_sees_costs_no_more_than_a_plain_view(self, height, width):
        assert planned(height, width) == (View(crop=(0, 0, width, height)),)

    def test_a_larger_face_takes_a_view_of_half_the_sides(self):
        # 687 is over 512, its half is not. What is over 64 is over 32 in the half.
        assert limits_of(planned(687, 1024)) == [(1, -INF, 160, 64), (0.5, 128, INF, INF)]

    def test_each_view_counts_the_faces_of_its_range(self):
        # 2400 is over 512 four times over: 1200, 600, 300.
        assert limits_of(planned(2400, 2048)) == [
            (1, -INF, 160, 64),
            (0.5, 128, 320, 128),
            (0.25, 256, 640, 256),
            (0.125, 512, INF, INF),
        ]

    def test_a_face_is_no_higher_than_half_as_much_again_as_the_image_is_wide(self):
        assert len(planned(4000, 341)) == 1  # 511.5
        assert len(planned(4000, 342)) == 2  # 513

    def test_max_side_comes_first(self):
        assert limits_of(planned(2400, 2048, max_side=600)) == [(0.25, -INF, 640, 256), (0.125, 512, INF, INF)]

    def test_scales_get_the_same_limits_and_only_the_views_they_lack(self):
        assert limits_of(planned(1200, 1024, scales=(0.5, 1, 2))) == [
            (0.5, -INF, 320, 128),
            (1, -INF, 160, 64),
            (2, -INF, 80, 32),
            (0.25, 256, INF, INF),  # the half still has faces of 600
        ]

    def test_between_scales_far_apart_views_are_put_in(self):
        assert [scale for scale, *_ in limits_of(planned(1200, 1024, scales=(1, 0.1)))] == [1, 0.1, 0.5, 0.25]

    def test_scales_of_a_small_image_have_no_limits(self):
        assert limits_of(planned(100, 100, scales=(1, 2))) == [(1, -INF, INF, INF), (2, -INF, INF, INF)]

    def test_every_view_is_mirrored_where_flip_is_set(self):
        views = planned(687, 1024, flip=True)
        assert [(view.scale, view.flip) for view in views] == [(1, False), (0.5, False), (1, True), (0.5, True)]

    def test_a_view_of_more_pixels_than_a_run_may_have_is_cut_into_the_fewest(self):
        # At full scale tiles share 160 + 2 * 4. In three columns of 2112 (5832 / 3 + 168) fit rows of 3084: 6.5 million
        # pixels. At half, they share 320 + 8 of the image: two columns of 3164 by all 6000, 1600x3008 in the network.
        views = planned(6000, 6000)
        crops = {scale: [view.crop for view in views if view.scale == scale] for scale in (1, 0.5, 0.25, 0.125, 0.0625)}
        assert crops[1] == [
            (0, 0, 2112, 3084),
            (1944, 0, 4056, 3084),
            (3888, 0, 6000, 3084),
            (0, 2916, 2112, 6000),
            (1944, 2916, 4056, 6000),
            (3888, 2916, 6000, 6000),
        ]
        assert crops[0.5] == [(0, 0, 3164, 6000), (2836, 0, 6000, 6000)]
        assert crops[0.25] == crops[0.125] == crops[0.0625] == [(0, 0, 6000, 6000)]

    def test_a_network_without_a_range_gets_other_views_only_where_tiles_would_hide_large_faces(self):
        spec = attrs.evolve(RANGED, face_sizes=None, run_pixels=1024 * 1024)
        assert limits_of(planned(1024, 1024, spec=spec)) == [(1, -INF, INF, INF)]
        # As if it saw up to a quarter of 1024: seams at 64 and 80; 1100, 550, 275, 137.5.
        views = planned(1100, 1100, spec=spec)
        assert {view.scale for view in views} == {1, 0.5, 0.25, 0.125}
        assert sum(view.scale == 1 for view in views) == 2

    @pytest.mark.parametrize("settings", [{"view": "plain"}, {"infer_size": (640, 640)}])
    def test_a_plain_view_is_what_it_was(self, settings):
        assert planned(6000, 6000, **settings) == (View(crop=(0, 0, 6000, 6000)),)

    def test_run_pixels_that_hold_no_face_of_the_range_are_refused_with_the_least(self):
        # Two tiles share 1.25 * 512 + 16 = 656: 1312 is a multiple of 32.
        with pytest.raises(ConfigError) as caught:
            planned(1, 1, run_pixels=1312 * 1312 - 1)
        assert caught.value.what == "run_pixels must be at least 1721344 for 'ranged', not 1721343."
        assert caught.value.fix == "--run-pixels 1721344, or --view plain"
        assert planned(1, 1, run_pixels=1312 * 1312)

    @given(st.integers(513, 2880), st.integers(513, 2880))
    def test_all_shrunken_views_together_are_at_most_a_third_of_the_plain_one(self, height, width):
        scales = [view.scale for view in planned(height, width)]
        assert scales[0] == 1
        assert sum(scale**2 for scale in scales) < 4 / 3

    @settings(max_examples=300)
    @given(st.data(), st.integers(1, 6000), st.integers(1, 6000), st.sampled_from([1312**2, 2048**2, 4096 * 2048]))
    def test_every_face_is_whole_and_well_seen_in_a_view_that_counts_it(self, data, height, width, run_pixels):
        views = planned(height, width, run_pixels=run_pixels)
        assert all(input_of(view) <= run_pixels for view in views)
        aspect = data.draw(st.floats(1, 1.5))
        high = data.draw(st.floats(1, min(height, aspect * width)))
        wide = high / aspect
        left, top = data.draw(st.floats(0, width - wide)), data.draw(st.floats(0, height - high))

        def seen(view):
            x1, y1, x2, y2 = view.crop
            whole = (
                (x1 == 0 or left >= x1 + EDGE)
                and (y1 == 0 or top >= y1 + EDGE)
                and (x2 == width or left + wide <= x2 - EDGE)
                and (y2 == height or top + high <= y2 - EDGE)
            )
            least = min(32, high)  # no view enlarges
            return whole and least <= high * view.scale <= 512 and high > view.larger_than and wide < view.smaller_than

        assert any(map(seen, views))

    def test_the_views_of_the_largest_image_that_is_read_stay_within_bounds(self):
        views = planned(13_000, 13_700)  # 178 megapixels
        assert sum(map(input_of, views)) < 1.6 * 13_000 * 13_700
        assert len(views) < 60


class TestConfirming:
    """A view counts what is over 64 pixels only where the next coarser one shows it, too."""

    VIEW = View(crop=(0, 0, 999, 999), confirmed_over=64)

    def test_a_face_that_the_coarser_view_does_not_show_is_none(self):
        found = faces((0, 0, 65, 65, 0.75), (200, 0, 265, 60, 0.5))
        assert keep_confirmed(found, self.VIEW, [faces((200, 0, 262, 60, 0.125))]) == faces((200, 0, 265, 60, 0.5))

    def test_one_that_is_too_small_for_it_needs_no_confirmation(self):
        found = faces((0, 0, 64, 64, 0.75))
        assert keep_confirmed(found, self.VIEW, [faces()]) == found

    @pytest.mark.parametrize(("score", "stays"), [(0.03, True), (0.02, False)])  # a 25th of 0.75 is 0.03
    def test_a_25th_of_its_score_is_enough(self, score, stays):
        found = faces((0, 0, 100, 100, 0.75))
        assert len(keep_confirmed(found, self.VIEW, [faces(), faces((0, 0, 100, 100, score))])) == stays

    @pytest.mark.parametrize(("height", "stays"), [(40, True), (39, False)])
    def test_what_confirms_has_an_iou_of_two_fifths(self, height, stays):
        found = faces((0, 0, 100, 100, 0.75))
        assert len(keep_confirmed(found, self.VIEW, [faces((0, 0, 100, height, 0.75))])) == stays


class TestPieces:
    LARGE = faces((0, 0, 200, 200, 0.75))

    @pytest.mark.parametrize(
        ("box", "piece"),
        [
            ((10, 10, 110, 110, 0.75), True),  # half as long
            ((10, 10, 111, 110, 0.75), False),
            ((10, 10, 60, 60, 0.8), False),  # it scores more
            ((160, 0, 210, 50, 0.5), True),  # 40 of 50 columns lie within
            ((161, 0, 211, 50, 0.5), False),
        ],
    )
    def test_a_piece_lies_within_a_face_twice_as_long_that_scores_no_less(self, box, piece):
        assert len(drop_pieces(faces(box), self.LARGE)) == (not piece)

    def test_without_a_larger_face_there_are_no_pieces(self):
        found = faces((0, 0, 10, 10, 0.5))
        assert drop_pieces(found, faces()) == found


class TestPresets:
    @pytest.mark.parametrize(
        ("height", "width", "scale"),
        [
            (600, 800, 1600 / 600),  # the short side to 1600: the long one comes to 2133
            (1000, 2000, 2150 / 2000),  # it would come to 3200
            (3200, 3200, 0.5),
        ],
    )
    def test_widerface_1600_brings_the_short_side_to_1600_and_the_long_one_to_2150_at_most(self, height, width, scale):
        assert shapes_of(PRESETS["widerface-1600"].views(height, width)) == [((0, 0, width, height), scale, False)]

    def test_widerface_original_is_the_image_as_it_is(self):
        assert PRESETS["widerface-original"].views(60, 80) == make_views(60, 80)

    # By hand from widerface_val.py: "+" counts faces over 30 pixels (of its inclusive sides), "-" those under 100.
    @pytest.mark.parametrize(
        ("height", "width", "largest", "expected"),
        [
            (768, 1024, 3, "1 1f 0.5+ 0.75+ 2- 1.5- 3- 0.25+ 1.25- 1.75- 2.25-"),  # 3.695, cut to 3
            (2560, 2912, 1.2001465, "1 1f 0.5+ 0.75+ 1.2001465- 0.25+"),
            (3200, 3200, 1.0239999, "1 1f 0.5+ 0.75+ 1.0239999- 0.25+"),
            (4000, 3500, 0.8757614, "0.8757614 0.8757614f 0.5+ 0.75+ 0.6878807+ 0.25+"),
            (6400, 6711, 0.4999958, "0.4999958 0.4999958f 0.2499979+ 0.3749968+ 0.25+"),
        ],
    )
    def test_dsfd_multiscale_takes_the_scales_and_size_filters_of_tencent(self, height, width, largest, expected):
        views = PRESETS["dsfd-multiscale"].views(height, width)
        assert min(3, math.sqrt(2147483647 / 200 / (height * width))) == pytest.approx(largest, abs=1e-6)
        limits = {(-math.inf, math.inf): "", (29, math.inf): "+", (-math.inf, 99): "-"}
        for view, text in zip(views, expected.split(), strict=True):
            number = text.rstrip("f+-")
            assert view.crop == (0, 0, width, height)
            assert view.scale == pytest.approx(float(number), abs=1e-6)
            assert "f" * view.flip + limits[view.larger_than, view.smaller_than] == text[len(number) :]

    def test_dsfd_multiscale_votes_at_an_iou_of_030_and_keeps_750_confirmed_faces(self):
        preset = PRESETS["dsfd-multiscale"]
        assert (preset.merge, preset.iou_threshold, preset.limit, preset.min_votes) == ("vote", 0.3, 750, 2)

    @pytest.mark.parametrize(
        ("name", "threshold"), [("widerface-original", 0.02), ("widerface-1600", 0.02), ("dsfd-multiscale", 0.01)]
    )
    def test_a_preset_brings_the_published_score_threshold(self, name, threshold):
        assert PRESETS[name].score_threshold == threshold

    def test_an_unknown_preset_offers_the_nearest_and_lists_them(self, detector_spec):
        with pytest.raises(ConfigError) as caught:
            select_strategy(Config(preset="widerface-160"), detector_spec)
        assert caught.value.what.startswith("There is no preset 'widerface-160'; did you mean 'widerface-1600'")
        assert caught.value.why == ("the presets: widerface-original, widerface-1600, dsfd-multiscale",)

    @pytest.mark.parametrize(
        ("preset", "setting", "value"),
        [
            ("dsfd-multiscale", "merge", "nms"),
            ("dsfd-multiscale", "flip", False),
            ("dsfd-multiscale", "scales", (1.0,)),
            ("widerface-1600", "scales", (1.0,)),
        ],
    )
    def test_a_default_that_was_asked_for_is_refused_where_the_preset_does_otherwise(
        self, preset, setting, value, detector_spec
    ):
        config = load_config(environ={}, source="option", preset=preset, **{setting: value})
        with pytest.raises(ConfigError) as caught:
            select_strategy(config, detector_spec)
        assert caught.value.what == f"preset and {setting} contradict each other."
        assert caught.value.why == (f"the preset '{preset}' sets {setting} by itself", f"{setting} is set (option)")

    def test_a_default_that_was_asked_for_is_no_matter_where_the_preset_does_the_same(self, detector_spec):
        config = load_config(environ={}, preset="widerface-original", merge="nms", flip=False, scales=(1.0,))
        assert select_strategy(config, detector_spec).views is PRESETS["widerface-original"].views

    def test_the_settings_are_the_strategy_where_there_is_no_preset(self, detector_spec):
        config = Config(scales=(1, 2), flip=True, tile=40, tile_overlap=0.5, max_side=50, merge="vote", view="plain")
        strategy = select_strategy(config, attrs.evolve(detector_spec, face_sizes=(4, 32)))
        assert strategy.merge == "vote"
        assert strategy.views(60, 100) == make_views(
            60, 100, scales=(1, 2), flip=True, tile=40, tile_overlap=0.5, max_side=50
        )


def shown(*rows, marks=None):
    """What a head decodes, and the scores."""
    found = faces(*rows, marks=marks)
    return Candidates(found.boxes, found.landmarks), found.scores


def frame(height, width, scale=1):
    return Placement(
        image_height=height,
        image_width=width,
        height=height * scale,
        width=width * scale,
        net_height=512,
        net_width=512,
    )


class TestInImage:
    def test_a_crop_is_scaled_back_and_moved_to_its_place(self):
        view = View(crop=(10, 20, 110, 80), scale=2)
        found = to_image(
            *shown((20, 10, 60, 50, 0.5), marks=[[[30, 20]] * 5]),
            NetworkView(0, (80, 110), view, frame(60, 100, 2)),
            NAMES,
        )
        assert found == faces((20, 25, 40, 45, 0.5), marks=[[[25, 30]] * 5])

    def test_flipping_mirrors_the_box_and_swaps_left_and_right(self):
        # In the mirrored crop of 100x60 at scale 2: the box from 10 to 30, the left eye at 15, the right at 25.
        marks = [[[30, 20], [50, 20], [40, 30], [32, 40], [48, 40]]]
        view = View(crop=(10, 20, 110, 80), scale=2, flip=True)
        found = to_image(
            *shown((20, 10, 60, 50, 0.5), marks=marks), NetworkView(0, (80, 110), view, frame(60, 100, 2)), NAMES
        )
        # Mirrored back, the box is at 70 to 90 of the crop, the eyes at 85 and 75: the left one is now the other.
        expected = [[[85, 30], [95, 30], [90, 35], [86, 40], [94, 40]]]
        assert found == faces((80, 25, 100, 45, 0.5), marks=expected)

    def test_a_detector_without_landmarks_can_be_flipped(self):
        view = View(crop=(0, 0, 100, 60), flip=True)
        found = to_image(*shown((10, 0, 30, 20, 0.5)), NetworkView(0, (60, 100), view, frame(60, 100)), ())
        assert found == faces((70, 0, 90, 20, 0.5))

    def test_landmarks_without_names_cannot_be_flipped(self):
        view = View(crop=(0, 0, 100, 60), flip=True)
        with pytest.raises(ContractError, match="gave 5 landmarks and names 0"):
            to_image(
                *shown((1, 1, 2, 2, 0.5), marks=[[[0, 0]] * 5]), NetworkView(0, (60, 100), view, frame(60, 100)), ()
            )

    def test_a_box_at_an_edge_along_which_a_tile_was_cut_is_dropped(self):
        # Of an image of 300x200, a tile at the top: its other three edges were cut.
        view = View(crop=(100, 0, 200, 100))
        near, far = EDGE - 1, EDGE
        rows = {
            (near, 50, 30, 80): False,
            (far, 50, 30, 80): True,
            (50, -9, 80, 30): True,
            (70, 50, 100 - near, 80): False,
            (70, 50, 100 - far, 80): True,
            (50, 70, 80, 100 - near): False,
            (50, 70, 80, 100 - far): True,
        }
        found = to_image(
            *shown(*[(*row, 0.5) for row in rows]), NetworkView(0, (200, 300), view, frame(100, 100)), NAMES
        )
        expected = [[row[0] + 100, row[1], row[2] + 100, row[3]] for row, whole in rows.items() if whole]
        assert found.boxes.tolist() == expected

    def test_a_box_beyond_the_image_stays_in_a_view_of_all_of_it(self):
        found = to_image(
            *shown((-5, -5, 130, 90, 0.5)), NetworkView(0, (60, 100), View(crop=(0, 0, 100, 60)), frame(60, 100)), NAMES
        )
        assert found == faces((-5, -5, 130, 90, 0.5))


class TestCounting:
    @pytest.mark.parametrize("merge", ["nms", "vote"])
    @pytest.mark.parametrize(
        ("limits", "kept"),
        [
            ({}, [0, 1, 2, 3]),
            ({"larger_than": 29}, [1, 2]),  # by the longer side: 29 is not enough
            ({"smaller_than": 99}, [0, 1, 3]),  # by the shorter side: 99 is too much
        ],
    )
    def test_sizes_are_measured_in_pixels_of_the_image(self, limits, kept, merge):
        sizes = [(29, 10), (10, 100), (99, 100), (5, 29)]
        rows = [(200 * place, 0, 200 * place + width, height, 0.5) for place, (width, height) in enumerate(sizes)]
        view = View(crop=(0, 0, 800, 200), scale=2, **limits)
        assert filter_by_size(faces(*rows), view, merge=merge, iou_threshold=0.3) == faces(
            *(rows[place] for place in kept)
        )

    def test_what_a_face_beyond_the_limits_drops_does_not_count_in_its_place_where_it_is_left_to_another_view(self):
        found = faces((100, 100, 210, 210, 0.875), (100, 100, 195, 195, 0.75), (0, 0, 50, 50, 0.5))
        view = View(crop=(0, 0, 400, 400), smaller_than=99)
        assert filter_by_size(found, view, merge="nms", iou_threshold=0.3) == faces((0, 0, 50, 50, 0.5))

    def test_a_view_votes_once_for_a_face(self):
        found = faces((0, 0, 10, 10, 0.5), (0, 0, 10, 12, 0.5))  # 100 of 120 shared
        view = View(crop=(0, 0, 50, 50))
        assert filter_by_size(found, view, merge="vote", iou_threshold=0.5) == faces((0, 0, 10, 10, 0.5))
        assert filter_by_size(found, view, merge="nms", iou_threshold=0.5) == found

    def test_a_face_beyond_the_limits_still_drops_what_overlaps_it(self):
        # In widerface_val.py the NMS inside detect_face comes before the size filters: 9025 of 12100 shared.
        found = faces((100, 100, 210, 210, 0.875), (100, 100, 195, 195, 0.75), (0, 0, 50, 50, 0.5))
        view = View(crop=(0, 0, 400, 400), smaller_than=99)
        assert filter_by_size(found, view, merge="vote", iou_threshold=0.3) == faces((0, 0, 50, 50, 0.5))


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (NAMES, (1, 0, 2, 4, 3)),
        (("left", "right"), (1, 0)),
        (("left_eye_left_corner", "right_eye_right_corner", "chin"), (1, 0, 2)),
        (("left_eye", "nose"), (0, 1)),
        (("cleft", "bright"), (0, 1)),
        ((), ()),
    ],
)
def test_left_and_right_are_told_by_the_words_of_the_names(names, order):
    assert mirrored_order(names) == order


class TestMerging:
    def test_nms_keeps_the_best_of_all_views(self):
        # The first two share 80 of 120, an IoU of 2/3.
        found = [faces((0, 0, 10, 10, 0.75), (40, 0, 50, 10, 0.25)), faces((0, 2, 10, 12, 0.875))]
        result = merge_faces(found, merge="nms", iou_threshold=0.5, limit=9)
        assert result == faces((0, 2, 10, 12, 0.875), (40, 0, 50, 10, 0.25))
        assert len(merge_faces(found, merge="nms", iou_threshold=0.7, limit=9)) == 3
        assert len(merge_faces(found, merge="nms", iou_threshold=0.5, limit=1)) == 1

    @pytest.mark.parametrize("merge", ["nms", "vote"])
    def test_what_a_limit_cut_off_is_said(self, merge):
        found = [faces((0, 0, 10, 10, 0.75)), faces((40, 0, 50, 10, 0.25))]
        assert not merge_faces(found, merge=merge, iou_threshold=0.5, limit=2).truncated
        assert not merge_faces(found, merge=merge, iou_threshold=0.5, limit=None).truncated
        assert merge_faces(found, merge=merge, iou_threshold=0.5, limit=1).truncated
        found[1] = attrs.evolve(found[1], truncated=True)
        assert merge_faces(found, merge=merge, iou_threshold=0.5, limit=None).truncated

    def test_the_boxes_of_very_many_views_are_cut_and_that_is_said(self):
        count = MOST_MERGED // 2 + 1
        one = Detections(boxes=np.zeros((count, 4)), scores=np.full(count, 0.5))
        assert merge_faces([one], merge="nms", iou_threshold=0.5, limit=1).truncated
        result = merge_faces([one, one], merge="vote", iou_threshold=0, limit=None)
        assert result.truncated

    def test_voting_takes_the_mean_weighted_by_score_and_the_best_score(self):
        # 100 of 140 shared; weights 3 to 1: (3 * 10 + 14) / 4 = 11.
        found = [
            faces((0, 0, 10, 10, 0.75), marks=[[[0, 4], [8, 8]]]),
            faces((0, 0, 14, 10, 0.25), marks=[[[4, 4], [8, 0]]]),
        ]
        result = merge_faces(found, merge="vote", iou_threshold=0.5, limit=9)
        assert result == faces((0, 0, 11, 10, 0.75), marks=[[[1, 4], [8, 6]]])

    def test_an_iou_of_exactly_the_threshold_joins(self):
        found = [faces((0, 0, 10, 10, 0.5)), faces((0, 0, 5, 10, 0.5))]
        assert merge_faces(found, merge="vote", iou_threshold=0.5, limit=9) == faces((0, 0, 7.5, 10, 0.5))
        assert len(merge_faces(found, merge="vote", iou_threshold=0.51, limit=9)) == 2

    def test_a_face_that_too_few_views_confirm_is_dropped(self):
        found = [faces((0, 0, 9, 9, 0.75), (50, 0, 59, 9, 0.875)), faces((0, 0, 9, 9, 0.25))]
        result = merge_faces(found, merge="vote", iou_threshold=0.3, limit=9, min_votes=2)
        assert result == faces((0, 0, 9, 9, 0.75))

    def test_the_limit_counts_the_faces_that_are_left(self):
        found = [faces((50, 0, 59, 9, 0.875), (0, 0, 9, 9, 0.75), (0, 50, 9, 59, 0.5)), faces((0, 0, 9, 9, 0.25))]
        assert len(merge_faces(found, merge="vote", iou_threshold=0.3, limit=2)) == 2
        result = merge_faces(found, merge="vote", iou_threshold=0.3, limit=1, min_votes=2)
        assert result == faces((0, 0, 9, 9, 0.75))

    def test_scores_of_zero_weigh_alike(self):
        found = [faces((0, 0, 10, 10, 0)), faces((0, 0, 12, 10, 0))]
        assert merge_faces(found, merge="vote", iou_threshold=0.5, limit=9) == faces((0, 0, 11, 10, 0))

    def test_a_box_without_area_stands_alone(self):
        found = [faces((3, 3, 3, 3, 0.5)), faces((3, 3, 3, 3, 0.25))]
        assert merge_faces(found, merge="vote", iou_threshold=0.5, limit=9).scores.tolist() == [0.5, 0.25]

    @pytest.mark.parametrize("merge", ["nms", "vote"])
    def test_nothing_found_keeps_the_shape_of_landmarks(self, merge):
        nothing = faces(marks=np.empty((0, 5, 2)))
        result = merge_faces([nothing, nothing], merge=merge, iou_threshold=0.5, limit=9)
        assert (result.boxes.shape, result.scores.shape, result.landmarks.shape) == ((0, 4), (0,), (0, 5, 2))
        assert merge_faces([faces()], merge=merge, iou_threshold=0.5, limit=9).landmarks is None


def exact_iou(a, b):
    def area(box):
        return max(0, box[2] - box[0]) * max(0, box[3] - box[1])

    shared = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    union = area(a) + area(b) - shared
    return Fraction(shared, union) if union else Fraction(0)


def voted_by_hand(views, threshold, limit, min_votes):
    """Voting as its definition reads, in exact arithmetic: rows are four whole numbers and a score."""
    cast = []
    for rows in views:
        own = []
        for row in rows:
            if all(exact_iou(kept, row) <= threshold for kept in own):
                own.append(row)
        cast += own
    cast.sort(key=lambda row: -row[4])
    results = []
    while cast:
        group = [cast[0], *(row for row in cast[1:] if exact_iou(cast[0], row) >= threshold)]
        cast = [row for row in cast[1:] if exact_iou(group[0], row) < threshold]
        if len(group) >= min_votes:
            total = sum(row[4] for row in group)
            results.append([sum(row[axis] * row[4] for row in group) / total for axis in range(4)] + [group[0][4]])
    return results[:limit]


sides = st.integers(0, 12)
rows = st.builds(
    lambda x, y, width, height, eighths: (x, y, x + width, y + height, Fraction(eighths, 8)),
    sides,
    sides,
    sides,
    sides,
    st.integers(1, 8),
)
seen = st.lists(rows, max_size=8).map(lambda found: sorted(found, key=lambda row: -row[4]))


@settings(deadline=None)
@given(st.lists(seen, min_size=1, max_size=4), st.sampled_from([0.0, 0.25, 0.5, 0.75]), sides, st.integers(1, 3))
def test_voting_equals_brute_force_in_exact_arithmetic(views, threshold, limit, min_votes):
    expected = voted_by_hand(views, Fraction(threshold), limit, min_votes)
    found = [faces(*[[float(value) for value in row] for row in view]) for view in views]
    whole = View(crop=(0, 0, 24, 24))
    found = [filter_by_size(view, whole, merge="vote", iou_threshold=threshold) for view in found]
    result = merge_faces(found, merge="vote", iou_threshold=threshold, limit=limit, min_votes=min_votes)
    assert len(result) == len(expected)
    wanted = np.array([[float(value) for value in row] for row in expected]).reshape(-1, 5)
    np.testing.assert_allclose(result.to_array(), wanted, atol=1e-5)


def test_clipping_moves_what_lies_outside_to_the_edge_and_leaves_the_input_alone():
    found = faces((-5, -5, 130, 90, 0.5), marks=[[[-1, 61], [50, 30]]])
    assert clip(found, 60, 100) == faces((0, 0, 100, 60, 0.5), marks=[[[0, 60], [50, 30]]])
    assert found.boxes.tolist() == [[-5, -5, 130, 90]]
