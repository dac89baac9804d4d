from __future__ import annotations

import itertools
import subprocess
import sys

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from boxes import faces
from polyface.errors import ConfigError, ContractError
from polyface.measure.differences import (
    MATCH_IOU,
    FaceDifference,
    Spread,
    compare_faces,
    compare_heads,
    exceeded,
    match,
    merge_faces,
    merge_heads,
    needed,
    tolerance_of,
)
from polyface.measure.tolerances import TOLERANCES, Tolerance
from polyface.pipeline.nms import overlaps

TIGHT = Tolerance(heads=1e-4, mean=1e-5, pixels=0.1, score=0.001)


def difference(expected, actual, tolerance=TIGHT, score_threshold=0.5, iou_threshold=0.4):
    return compare_faces(expected, actual, tolerance, score_threshold=score_threshold, iou_threshold=iou_threshold)


def counts(result):
    return result.matched, result.near, result.unmatched


class TestHeads:
    def test_differences_by_hand(self):
        [head] = compare_heads({"loc": np.float32([[8, 0, -4, 3]])}, {"loc": np.float32([[8, 1, -6, 3]])})
        assert head.output == "loc"
        assert head.absolute == Spread(max=2, mean=0.75, median=0.5)
        assert head.relative == Spread(max=0.25, mean=0.09375, median=0.0625)
        assert head.cosine == pytest.approx((64 + 24 + 9) / (89 * 110) ** 0.5)

    def test_small_heads_are_relative_to_one_and_not_to_themselves(self):
        [head] = compare_heads({"a": np.float32([0.01, 0.02])}, {"a": np.float32([0.01, 0.0])})
        assert head.relative == head.absolute

    def test_the_reference_alone_is_the_measure(self):
        [head] = compare_heads({"a": np.float32([1])}, {"a": np.float32([101])})
        assert head.relative.max == 100

    def test_zeros_have_the_direction_of_zeros_alone(self):
        assert compare_heads({"a": np.zeros(3, np.float32)}, {"a": np.zeros(3, np.float32)})[0].cosine == 1
        assert compare_heads({"a": np.zeros(3, np.float32)}, {"a": np.ones(3, np.float32)})[0].cosine == 0

    @pytest.mark.parametrize(
        ("actual", "message"),
        [
            ({"b": np.zeros((1, 2))}, "The outputs are b, and the reference's are a."),
            ({"a": np.zeros((2, 1))}, r"has the shape \(2, 1\), and the reference's \(1, 2\)"),
            ({"a": np.array([[0, np.nan]])}, "not finite"),
        ],
    )
    def test_what_has_no_distance_is_refused(self, actual, message):
        with pytest.raises(ContractError, match=message):
            compare_heads({"a": np.zeros((1, 2))}, actual)

    def test_several_runs_merge_by_hand(self):
        one = compare_heads({"a": np.float32([0, 0, 0])}, {"a": np.float32([0, 1, 2])})
        other = compare_heads({"a": np.float32([1, 1, 1])}, {"a": np.float32([1, 1, 4])})
        [merged] = merge_heads([one, other])
        assert merged.absolute == Spread(max=3, mean=1, median=0.5)
        assert merged.cosine == 0

    @given(hnp.arrays(np.float32, st.integers(1, 30), elements=st.floats(-100, 100, width=32)), st.randoms())
    def test_differences_are_those_of_plain_python(self, expected, random):
        actual = expected + np.float32([random.uniform(-1, 1) for _ in expected])
        [head] = compare_heads({"a": expected}, {"a": actual})
        apart = sorted(abs(float(one) - float(other)) for one, other in zip(expected, actual, strict=True))
        middle = (apart[(len(apart) - 1) // 2] + apart[len(apart) // 2]) / 2
        assert head.absolute == pytest.approx((apart[-1], sum(apart) / len(apart), middle))
        assert head.relative.max == pytest.approx(apart[-1] / max([1.0, *map(abs, expected.tolist())]))


class TestOverlaps:
    def test_by_hand(self):
        box, half, apart = [0, 0, 10, 10], [0, 0, 5, 10], [20, 0, 30, 10]
        np.testing.assert_allclose(overlaps(np.array([box]), np.array([box, half, apart])), [[1, 0.5, 0]])

    def test_uncertain_edges_by_hand(self):
        one, other = np.array([[0, 0, 10, 10]]), np.array([[8, 0, 18, 10]])
        # 2 shared pixels become 4, and 10 become 12: 48 of 200 - 48.
        assert overlaps(one, other, reach=1)[0, 0] == pytest.approx(48 / 152)

    def test_a_box_without_area_overlaps_nothing(self):
        assert overlaps(np.zeros((1, 4)), np.zeros((1, 4)))[0, 0] == 0


boxes = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 12), st.integers(1, 12)), max_size=4
).map(lambda rows: np.array([(x, y, x + w, y + h) for x, y, w, h in rows], np.float32).reshape(-1, 4))


class TestMatching:
    @given(boxes, boxes)
    def test_it_is_the_one_to_one_matching_whose_overlaps_come_first(self, expected, actual):
        """Of all matchings, greedy's sorted overlaps are the greatest in the order of a dictionary."""
        iou = overlaps(expected, actual)
        few, many = sorted((len(expected), len(actual)))
        best = []
        for order in itertools.permutations(range(many), few):
            pairs = zip(range(few), order, strict=True)
            values = [iou[a, b] if len(expected) == few else iou[b, a] for a, b in pairs]
            best = max(best, sorted((value for value in values if value >= MATCH_IOU), reverse=True))
        pairs = match(expected, actual)
        assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
        if len({*iou[iou >= MATCH_IOU]}) == (iou >= MATCH_IOU).sum():  # equal overlaps leave a choice
            assert [iou[pair] for pair in pairs] == best

    @given(boxes)
    def test_boxes_match_themselves_in_any_order(self, some):
        some = np.unique(some, axis=0)
        assert sorted(match(some, some[::-1])) == [(index, len(some) - 1 - index) for index in range(len(some))]


class TestFaces:
    def test_differences_of_pairs_by_hand(self):
        marks = np.zeros((2, 1, 2), np.float32)
        expected = faces((0, 0, 10, 10, 0.9), (50, 50, 60, 60, 0.8), marks=marks)
        actual = faces((50, 50, 60, 62, 0.95), (0, 0, 10, 10, 0.9), marks=marks + np.float32([[[3, 0]], [[0, 0]]]))
        result = difference(expected, actual)
        assert (result.expected, result.actual, *counts(result)) == (2, 2, 2, 0, 0)
        assert (result.box, result.landmark, result.score) == (2, 3, pytest.approx(0.15))
        assert (result.iou, result.mean_iou) == (pytest.approx(100 / 120), pytest.approx((1 + 100 / 120) / 2))

    def test_nothing_equals_nothing(self):
        assert difference(faces(), faces()) == FaceDifference(
            expected=0, actual=0, matched=0, near=0, unmatched=0, iou=1, mean_iou=1, score=0, box=0, landmark=0
        )

    @pytest.mark.parametrize(("score", "expected"), [(0.5005, (0, 1, 0)), (0.502, (0, 0, 1))])
    def test_a_face_of_one_side_is_excused_by_a_score_at_the_threshold(self, score, expected):
        one = faces((0, 0, 10, 10, score))
        assert counts(difference(one, faces())) == expected
        assert counts(difference(faces(), one)) == expected

    # The first box is 100 wide; a second one that starts at x overlaps it by (100 - x) / (100 + x).
    @pytest.mark.parametrize(("start", "expected"), [(42.9, (1, 1, 0)), (50, (1, 0, 1))])
    def test_it_is_excused_by_an_overlap_at_the_threshold_of_nms(self, start, expected):
        kept = (0, 0, 100, 100, 0.9)
        both, alone = faces(kept, (start, 0, start + 100, 100, 0.8)), faces(kept)
        assert counts(difference(both, alone)) == expected
        assert counts(difference(alone, both)) == expected

    @pytest.mark.parametrize(("score", "expected"), [(0.9005, (0, 2, 0)), (0.91, (0, 0, 2))])
    def test_two_faces_of_one_score_of_which_nms_keeps_either_are_excused(self, score, expected):
        one, other = faces((0, 0, 100, 100, 0.9)), faces((40, 0, 140, 100, score))
        assert counts(difference(one, other)) == expected

    def test_a_face_beside_another_is_not_excused(self):
        kept = (0, 0, 10, 10, 0.9)
        assert counts(difference(faces(kept, (200, 0, 210, 10, 0.9)), faces(kept))) == (1, 0, 1)

    @given(boxes, boxes, st.randoms())
    def test_every_face_is_counted_once_and_the_order_of_the_two_is_of_no_account(self, one, other, random):
        one, other = (
            faces(*(np.column_stack([b, sorted((random.random() for _ in b), reverse=True)]))) for b in (one, other)
        )
        result, reverse = difference(one, other), difference(other, one)
        assert 2 * result.matched + result.near + result.unmatched == len(one) + len(other)
        assert (result.matched, result.iou) == (reverse.matched, reverse.iou)

    def test_several_images_merge_by_hand(self):
        box = (0, 0, 10, 10, 0.9)
        pair, none = difference(faces(box, box), faces(box, (0, 0, 10, 8, 0.9))), difference(faces(box), faces())
        merged = merge_faces([pair, none])
        assert (merged.expected, merged.actual, *counts(merged)) == (3, 2, 2, 0, 1)
        assert (merged.iou, merged.mean_iou, merged.box) == (pytest.approx(0.8), pytest.approx(0.9), 2)


class TestTolerances:
    def test_of_two_precisions_the_wider_row_counts(self):
        assert tolerance_of("fp32", "bf16") is tolerance_of("bf16", "fp32") is TOLERANCES["bf16"]
        assert tolerance_of("fp32", "fp32") is TOLERANCES["fp32"]

    def test_a_precision_without_a_row_is_refused(self):
        with pytest.raises(ConfigError, match="no tolerance for the precision 'int4'"):
            tolerance_of("fp32", "int4")

    def test_what_is_needed_by_hand(self):
        heads = compare_heads(
            {"a": np.float32([4, 0]), "b": np.float32([1, 0])}, {"a": np.float32([4, 2]), "b": np.float32([1, 0.1])}
        )
        box = (0, 0, 10, 10, 0.5)
        found = difference(faces(box), faces((0, 0, 10, 9, 0.75)))
        assert needed(heads, found) == Tolerance(heads=0.5, mean=0.25, pixels=1, score=0.25)
        assert needed(heads, attrs.evolve(found, landmark=2.5)).pixels == 2.5
        assert needed(heads) == Tolerance(heads=0.5, mean=0.25, pixels=0, score=0)

    @pytest.mark.parametrize("name", [key.name for key in attrs.fields(Tolerance)])
    def test_each_part_of_a_row_can_be_exceeded(self, name):
        assert exceeded(TIGHT, TIGHT) == []
        assert exceeded(attrs.evolve(TIGHT, **{name: 0.11}), TIGHT) == [name]
        assert exceeded(attrs.evolve(TIGHT, **{name: float("nan")}), TIGHT) == [name]


def test_comparing_needs_no_pytest():
    code = "import sys; sys.modules['pytest'] = None; import polyface.measure.differences"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
