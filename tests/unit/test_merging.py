"""Merging: how faces come back from the views of an image, and which of them are one."""

from __future__ import annotations

from fractions import Fraction

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxes import exact_iou, faces
from polyface.errors import ContractError
from polyface.images.geometry import Placement
from polyface.pipeline.merging import (
    MOST_MERGED,
    clip,
    filter_by_size,
    merge_faces,
    to_image,
)
from polyface.pipeline.presets import Strategy
from polyface.pipeline.views import EDGE, NetworkView, View
from polyface.plugins.protocols import Candidates
from polyface.results import Detections

PLACES = (1, 0, 2, 4, 3)  # of the eyes, the nose, and the corners of the mouth


def by(**settings):
    """A strategy that merges in this way."""
    return Strategy(views=lambda *_: (), **settings)


def shown(*rows, marks=None):
    """What a head decodes, and the scores."""
    found = faces(*rows, marks=marks)
    return Candidates(found.boxes, found.landmarks), found.scores


def place(height, width, scale=1):
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
            NetworkView(0, (80, 110), view, place(60, 100, 2)),
            PLACES,
        )
        assert found == faces((20, 25, 40, 45, 0.5), marks=[[[25, 30]] * 5])

    def test_flipping_mirrors_the_box_and_swaps_left_and_right(self):
        # In the mirrored crop of 100x60 at scale 2: the box from 10 to 30, the left eye at 15, the right at 25.
        marks = [[[30, 20], [50, 20], [40, 30], [32, 40], [48, 40]]]
        view = View(crop=(10, 20, 110, 80), scale=2, flip=True)
        found = to_image(
            *shown((20, 10, 60, 50, 0.5), marks=marks), NetworkView(0, (80, 110), view, place(60, 100, 2)), PLACES
        )
        # Mirrored back, the box is at 70 to 90 of the crop, the eyes at 85 and 75: the left one is now the other.
        expected = [[[85, 30], [95, 30], [90, 35], [86, 40], [94, 40]]]
        assert found == faces((80, 25, 100, 45, 0.5), marks=expected)

    def test_a_detector_without_landmarks_can_be_flipped(self):
        view = View(crop=(0, 0, 100, 60), flip=True)
        found = to_image(*shown((10, 0, 30, 20, 0.5)), NetworkView(0, (60, 100), view, place(60, 100)), ())
        assert found == faces((70, 0, 90, 20, 0.5))

    def test_landmarks_without_names_cannot_be_flipped(self):
        view = View(crop=(0, 0, 100, 60), flip=True)
        with pytest.raises(ContractError, match="gave 5 landmarks and names 0"):
            to_image(
                *shown((1, 1, 2, 2, 0.5), marks=[[[0, 0]] * 5]), NetworkView(0, (60, 100), view, place(60, 100)), ()
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
            *shown(*[(*row, 0.5) for row in rows]), NetworkView(0, (200, 300), view, place(100, 100)), PLACES
        )
        expected = [[row[0] + 100, row[1], row[2] + 100, row[3]] for row, whole in rows.items() if whole]
        assert found.boxes.tolist() == expected

    def test_a_box_beyond_the_image_stays_in_a_view_of_all_of_it(self):
        found = to_image(
            *shown((-5, -5, 130, 90, 0.5)),
            NetworkView(0, (60, 100), View(crop=(0, 0, 100, 60)), place(60, 100)),
            PLACES,
        )
        assert found == faces((-5, -5, 130, 90, 0.5))


class TestCounting:
    @pytest.mark.parametrize("merge", ["nms", "vote", "blend"])
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
        assert filter_by_size(faces(*rows), view, by(merge=merge, iou_threshold=0.3)) == faces(
            *(rows[place] for place in kept)
        )

    def test_what_a_face_beyond_the_limits_drops_does_not_count_in_its_place_where_it_is_left_to_another_view(self):
        found = faces((100, 100, 210, 210, 0.875), (100, 100, 195, 195, 0.75), (0, 0, 50, 50, 0.5))
        view = View(crop=(0, 0, 400, 400), smaller_than=99)
        assert filter_by_size(found, view, by(merge="nms", iou_threshold=0.3)) == faces((0, 0, 50, 50, 0.5))

    def test_a_view_votes_once_for_a_face(self):
        found = faces((0, 0, 10, 10, 0.5), (0, 0, 10, 12, 0.5))  # 100 of 120 shared
        view = View(crop=(0, 0, 50, 50))
        assert filter_by_size(found, view, by(merge="vote", iou_threshold=0.5)) == faces((0, 0, 10, 10, 0.5))
        assert filter_by_size(found, view, by(merge="nms", iou_threshold=0.5)) == found

    def test_a_face_beyond_the_limits_still_drops_what_overlaps_it(self):
        # In widerface_val.py the NMS inside detect_face comes before the size filters: 9025 of 12100 shared.
        found = faces((100, 100, 210, 210, 0.875), (100, 100, 195, 195, 0.75), (0, 0, 50, 50, 0.5))
        view = View(crop=(0, 0, 400, 400), smaller_than=99)
        assert filter_by_size(found, view, by(merge="vote", iou_threshold=0.3)) == faces((0, 0, 50, 50, 0.5))


class TestMerging:
    def test_nms_keeps_the_best_of_all_views(self):
        # The first two share 80 of 120, an IoU of 2/3.
        found = [faces((0, 0, 10, 10, 0.75), (40, 0, 50, 10, 0.25)), faces((0, 2, 10, 12, 0.875))]
        result = merge_faces(found, by(merge="nms", iou_threshold=0.5, limit=9))
        assert result == faces((0, 2, 10, 12, 0.875), (40, 0, 50, 10, 0.25))
        assert len(merge_faces(found, by(merge="nms", iou_threshold=0.7, limit=9))) == 3
        assert len(merge_faces(found, by(merge="nms", iou_threshold=0.5, limit=1))) == 1

    @pytest.mark.parametrize("merge", ["nms", "vote", "blend"])
    def test_what_a_limit_cut_off_is_said(self, merge):
        found = [faces((0, 0, 10, 10, 0.75)), faces((40, 0, 50, 10, 0.25))]
        assert not merge_faces(found, by(merge=merge, iou_threshold=0.5, limit=2)).truncated
        assert not merge_faces(found, by(merge=merge, iou_threshold=0.5, limit=None)).truncated
        assert merge_faces(found, by(merge=merge, iou_threshold=0.5, limit=1)).truncated
        found[1] = attrs.evolve(found[1], truncated=True)
        assert merge_faces(found, by(merge=merge, iou_threshold=0.5, limit=None)).truncated

    def test_the_boxes_of_very_many_views_are_cut_and_that_is_said(self):
        count = MOST_MERGED // 2 + 1
        one = Detections(boxes=np.zeros((count, 4)), scores=np.full(count, 0.5))
        assert merge_faces([one], by(merge="nms", iou_threshold=0.5, limit=1)).truncated
        result = merge_faces([one, one], by(merge="vote", iou_threshold=0, limit=None))
        assert result.truncated

    def test_voting_takes_the_mean_weighted_by_score_and_the_best_score(self):
        # 100 of 140 shared; weights 3 to 1: (3 * 10 + 14) / 4 = 11.
        found = [
            faces((0, 0, 10, 10, 0.75), marks=[[[0, 4], [8, 8]]]),
            faces((0, 0, 14, 10, 0.25), marks=[[[4, 4], [8, 0]]]),
        ]
        result = merge_faces(found, by(merge="vote", iou_threshold=0.5, limit=9))
        assert result == faces((0, 0, 11, 10, 0.75), marks=[[[1, 4], [8, 6]]])

    def test_an_iou_of_exactly_the_threshold_joins(self):
        found = [faces((0, 0, 10, 10, 0.5)), faces((0, 0, 5, 10, 0.5))]
        assert merge_faces(found, by(merge="vote", iou_threshold=0.5, limit=9)) == faces((0, 0, 7.5, 10, 0.5))
        assert len(merge_faces(found, by(merge="vote", iou_threshold=0.51, limit=9))) == 2

    def test_a_face_that_too_few_views_confirm_is_dropped(self):
        found = [faces((0, 0, 9, 9, 0.75), (50, 0, 59, 9, 0.875)), faces((0, 0, 9, 9, 0.25))]
        result = merge_faces(found, by(merge="vote", iou_threshold=0.3, limit=9, min_votes=2))
        assert result == faces((0, 0, 9, 9, 0.75))

    def test_the_limit_counts_the_faces_that_are_left(self):
        found = [faces((50, 0, 59, 9, 0.875), (0, 0, 9, 9, 0.75), (0, 50, 9, 59, 0.5)), faces((0, 0, 9, 9, 0.25))]
        assert len(merge_faces(found, by(merge="vote", iou_threshold=0.3, limit=2))) == 2
        result = merge_faces(found, by(merge="vote", iou_threshold=0.3, limit=1, min_votes=2))
        assert result == faces((0, 0, 9, 9, 0.75))

    def test_scores_of_zero_weigh_alike(self):
        found = [faces((0, 0, 10, 10, 0)), faces((0, 0, 12, 10, 0))]
        assert merge_faces(found, by(merge="vote", iou_threshold=0.5, limit=9)) == faces((0, 0, 11, 10, 0))

    def test_a_box_without_area_stands_alone(self):
        found = [faces((3, 3, 3, 3, 0.5)), faces((3, 3, 3, 3, 0.25))]
        assert merge_faces(found, by(merge="vote", iou_threshold=0.5, limit=9)).scores.tolist() == [0.5, 0.25]

    @pytest.mark.parametrize("merge", ["nms", "vote", "blend"])
    def test_nothing_found_keeps_the_shape_of_landmarks(self, merge):
        nothing = faces(marks=np.empty((0, 5, 2)))
        result = merge_faces([nothing, nothing], by(merge=merge, iou_threshold=0.5, limit=9))
        assert (result.boxes.shape, result.scores.shape, result.landmarks.shape) == ((0, 4), (0,), (0, 5, 2))
        assert merge_faces([faces()], by(merge=merge, iou_threshold=0.5, limit=9)).landmarks is None


class TestBlending:
    """BlazeFace's weighted NMS."""

    def test_all_that_nms_drops_goes_into_the_mean_of_one_view_too(self):
        # The best shares 80 of 120 with the second, 60 of 140 with the third; weights 4, 2 and 1 of 8.
        found = faces(
            (0, 0, 10, 10, 0.5),
            (2, 0, 12, 10, 0.25),
            (0, 4, 10, 14, 0.125),
            marks=[[[1, 1], [7, 7]], [[8, 1], [7, 0]], [[1, 8], [0, 7]]],
        )
        blended = merge_faces([found], by(merge="blend", iou_threshold=0.4))
        assert blended.boxes[0] == pytest.approx([4 / 7, 4 / 7, 74 / 7, 74 / 7])
        assert blended.landmarks[0] == pytest.approx(np.array([[3, 2], [6, 5]]))
        assert blended.scores.tolist() == [0.5]
        # At 0.5 the third is a face of its own; (4 * 0 + 2 * 2) / 6 = 2 / 3.
        two = merge_faces([found], by(merge="blend", iou_threshold=0.5))
        assert two.boxes == pytest.approx(np.array([[2 / 3, 0, 32 / 3, 10], [0, 4, 10, 14]]))
        assert two.scores.tolist() == [0.5, 0.125]
        assert merge_faces([found], by(merge="nms", iou_threshold=0.4)) == found[:1]
        whole = View(crop=(0, 0, 50, 50))
        voted = by(merge="vote", iou_threshold=0.4)
        assert merge_faces([filter_by_size(found, whole, voted)], voted) == found[:1]

    def test_an_iou_of_exactly_the_threshold_stays_apart_as_in_nms(self):
        found = faces((0, 0, 10, 10, 0.5), (0, 0, 5, 10, 0.5))
        assert len(merge_faces([found], by(merge="blend", iou_threshold=0.5))) == 2
        assert len(merge_faces([found], by(merge="blend", iou_threshold=0.49))) == 1
        assert len(merge_faces([found, found], by(merge="blend", iou_threshold=1.0))) == 4

    def test_views_are_blended_together(self):
        found = [faces((0, 0, 10, 10, 0.75)), faces((0, 0, 14, 10, 0.25))]
        assert merge_faces(found, by(merge="blend", iou_threshold=0.5)) == faces((0, 0, 11, 10, 0.75))

    def test_boxes_count_for_a_view_where_the_best_of_them_does(self):
        found = faces(
            (0, 0, 110, 110, 0.875),  # too large, and takes the next with it: 9025 of 12100 shared
            (0, 0, 95, 95, 0.75),
            (200, 0, 295, 95, 0.625),  # the next is too large, and goes with it
            (200, 0, 310, 110, 0.5),
        )
        view = View(crop=(0, 0, 400, 400), smaller_than=99)
        assert filter_by_size(found, view, by(merge="blend", iou_threshold=0.3)) == found[2:]


def blended_by_hand(views, threshold, limit):
    """BlazeFace's weighted NMS as its definition reads, in exact arithmetic."""
    rest = sorted([row for rows in views for row in rows], key=lambda row: -row[4])
    results = []
    while rest:
        group = [rest[0], *(row for row in rest[1:] if exact_iou(rest[0], row) > threshold)]
        rest = [row for row in rest[1:] if exact_iou(group[0], row) <= threshold]
        total = sum(row[4] for row in group)
        results.append([sum(row[axis] * row[4] for row in group) / total for axis in range(4)] + [group[0][4]])
    return results[:limit]


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
    found = [filter_by_size(view, whole, by(merge="vote", iou_threshold=threshold)) for view in found]
    result = merge_faces(found, by(merge="vote", iou_threshold=threshold, limit=limit, min_votes=min_votes))
    assert len(result) == len(expected)
    wanted = np.array([[float(value) for value in row] for row in expected]).reshape(-1, 5)
    np.testing.assert_allclose(result.to_array(), wanted, atol=1e-5)


@settings(deadline=None)
@given(st.lists(seen, min_size=1, max_size=4), st.sampled_from([0.0, 0.25, 0.5, 0.75]), sides)
def test_blending_equals_brute_force_in_exact_arithmetic(views, threshold, limit):
    expected = blended_by_hand(views, Fraction(threshold), limit)
    found = [faces(*[[float(value) for value in row] for row in view]) for view in views]
    strategy = by(merge="blend", iou_threshold=threshold, limit=limit)
    result = merge_faces([filter_by_size(view, View(crop=(0, 0, 24, 24)), strategy) for view in found], strategy)
    assert len(result) == len(expected)
    wanted = np.array([[float(value) for value in row] for row in expected]).reshape(-1, 5)
    np.testing.assert_allclose(result.to_array(), wanted, atol=1e-5)
    # What is kept, and how many, is as in NMS.
    kept = merge_faces(found, by(merge="nms", iou_threshold=threshold, limit=limit))
    assert result.scores.tolist() == kept.scores.tolist()


def test_clipping_moves_what_lies_outside_to_the_edge_and_leaves_the_input_alone():
    found = faces((-5, -5, 130, 90, 0.5), marks=[[[-1, 61], [50, 30]]])
    assert clip(found, 60, 100) == faces((0, 0, 100, 60, 0.5), marks=[[[0, 60], [50, 30]]])
    assert found.boxes.tolist() == [[-5, -5, 130, 90]]
