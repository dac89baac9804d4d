"""Views: which are taken of an image, how large each is shown, and what memory they ask for."""

from __future__ import annotations

import itertools
import math

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxes import faces
from polyface.errors import ConfigError
from polyface.images.geometry import place_image
from polyface.pipeline import nms
from polyface.pipeline.merging import drop_pieces, keep_confirmed
from polyface.pipeline.presets import select_strategy
from polyface.pipeline.views import EDGE, View, crop, make_views, tiles
from polyface.plugins.records import DetectorSpec, GraphSource, Preprocess, Ref, TensorSpec
from polyface.settings.config import Config


def shapes_of(views):
    return [(view.crop, view.scale, view.flip) for view in views]


class TestViews:
    def test_the_plain_call_is_one_view_of_the_whole_image(self):
        assert shapes_of(make_views(Config(), 100, 200)) == [((0, 0, 200, 100), 1.0, False)]

    def test_max_side_shrinks_before_the_scales_and_never_enlarges(self):
        views = make_views(Config(max_side=50, scales=(1, 2)), 100, 200)
        assert [view.scale for view in views] == [0.25, 0.5]
        assert [view.scale for view in make_views(Config(max_side=50), 10, 20)] == [1.0]

    def test_flip_adds_the_mirrored_look_of_every_view(self):
        whole = (0, 0, 20, 10)
        assert shapes_of(make_views(Config(scales=(1, 2), flip=True), 10, 20)) == [
            (whole, 1, False),
            (whole, 2, False),
            (whole, 1, True),
            (whole, 2, True),
        ]

    def test_a_large_image_is_seen_in_tiles_and_once_as_a_whole(self):
        # Tiles of 100 that share 20 advance by at most 80: from 0 to 150 in two steps of 75.
        assert shapes_of(make_views(Config(tile=100, tile_overlap=0.2), 60, 250)) == [
            ((0, 0, 100, 60), 1.0, False),
            ((75, 0, 175, 60), 1.0, False),
            ((150, 0, 250, 60), 1.0, False),
            ((0, 0, 250, 60), 0.4, False),
        ]

    def test_tiles_are_measured_after_scaling(self):
        # Twice as large, 60x50 is 120x100: tiles of 100 are 50 pixels of the image.
        assert shapes_of(make_views(Config(scales=(2,), tile=100), 60, 50)) == [
            ((0, 0, 50, 50), 2, False),
            ((0, 10, 50, 60), 2, False),
            ((0, 0, 50, 60), 100 / 60, False),
        ]

    def test_what_fits_into_a_tile_is_not_cut(self):
        assert shapes_of(make_views(Config(tile=100), 100, 100)) == [((0, 0, 100, 100), 1.0, False)]

    def test_no_view_is_taken_twice(self):
        # The whole image, shrunk to a tile, is the same view for both scales.
        views = make_views(Config(scales=(1, 2, 1), tile=100), 100, 200)
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
    graphs=[GraphSource(kind="numpy", ref=Ref("toy_faces.net:build"))],
    face_sizes=(32, 512),
    run_pixels=4096 * 2048,
)


def planned(height, width, *, spec=RANGED, **settings):
    return select_strategy(Config(**settings), spec).views(height, width)


def limits_of(views):
    return [(view.scale, view.larger_than, view.smaller_than, view.confirmed_over) for view in views]


def input_of(view, spec=RANGED, pad_to=32):
    placement = place_image(Config(pad_to=pad_to), spec, *view.size, view.scale)
    return math.prod(placement.shape)


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
        # pixels.
        views = planned(6000, 6000)
        assert [view.crop for view in views if view.scale == 1] == [
            (0, 0, 2112, 3084),
            (1944, 0, 4056, 3084),
            (3888, 0, 6000, 3084),
            (0, 2916, 2112, 6000),
            (1944, 2916, 4056, 6000),
            (3888, 2916, 6000, 6000),
        ]
        assert {view.crop for view in views if view.scale < 1} == {(0, 0, 6000, 6000)}

    def test_where_tiles_share_much_views_shrink_by_more_than_half_so_that_all_cost_a_third_at_most(self):
        # Six tiles of 2112x3104 are 1.09 times the image. A half, a quarter and so on, 0.33, are too many beside it;
        # 0.4, 0.16 and 0.064 of the sides are 0.19: 2400, 960 and, under 512, 384 pixels.
        assert [round(view.scale, 9) for view in planned(6000, 6000)] == [1] * 6 + [0.4, 0.16, 0.064]
        # Without tiles a half and so on cost less than a third.
        assert [view.scale for view in planned(2880, 2880)] == [1, 0.5, 0.25, 0.125]

    def test_tiles_of_a_shrunken_view_share_a_face_of_its_own_range(self):
        # 0.4 of 9000 is 3600, too much for a run. Tiles share 400 + 8 of the image: 1888x3616 in the network.
        crops = [view.crop for view in planned(9000, 9000) if view.scale == 0.4]
        assert crops == [(0, 0, 4704, 9000), (4296, 0, 9000, 9000)]

    def test_a_network_without_a_range_gets_other_views_only_where_tiles_would_hide_large_faces(self):
        spec = attrs.evolve(RANGED, face_sizes=None, run_pixels=1024 * 1024)
        assert limits_of(planned(1024, 1024, spec=spec)) == [(1, -INF, INF, INF)]
        # As if it saw up to a quarter of 1024: seams at 64 and 80; 1100, 440, 176.
        views = planned(1100, 1100, spec=spec)
        assert {round(view.scale, 9) for view in views} == {1, 0.4, 0.16}
        assert sum(view.scale == 1 for view in views) == 2

    @pytest.mark.parametrize("settings", [{"view": "plain"}, {"infer_size": (640, 640)}])
    def test_a_plain_view_is_what_it_was(self, settings):
        assert planned(6000, 6000, **settings) == (View(crop=(0, 0, 6000, 6000)),)

    def test_run_pixels_that_hold_no_face_of_the_range_are_refused_with_the_least(self):
        # Two tiles share 1.25 * 512 + 16 = 656: 1312 is a multiple of 32.
        with pytest.raises(ConfigError) as caught:
            planned(1, 1, run_pixels=1312 * 1312 - 1)
        assert caught.value.what == "run_pixels must be at least 1721344 for 'ranged', not 1721343."
        assert str(caught.value.fix) == 'run_pixels=1721344; or: view="plain"'
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
        assert sum(map(input_of, views)) < 4 / 3 * 13_000 * 13_700
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


places = st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(1, 40)] * 2, st.integers(1, 64))


@given(st.lists(places, max_size=12), st.lists(places, max_size=6), st.integers(1, 30))
def test_whether_a_face_is_confirmed_or_a_piece_depends_on_no_other(found, larger, pairs):
    found, larger = (faces(*((x, y, x + w, y + h, n / 64) for x, y, w, h, n in some)) for some in (found, larger))
    view = View(crop=(0, 0, 99, 99), confirmed_over=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nms, "PAIRS", pairs)  # few are compared at a time
        for kept in (lambda some: keep_confirmed(some, view, [larger]), lambda some: drop_pieces(some, larger)):
            alone = [index for index in range(len(found)) if len(kept(found[[index]]))]
            assert kept(found) == found[alone]
