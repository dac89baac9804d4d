"""NMS and top-k against exact arithmetic in plain Python."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from boxes import exact_iou
from polyface.pipeline import nms as module
from polyface.pipeline.nms import nms, top_k


def brute_force(boxes, threshold, limit):
    """Greedy NMS as its definition reads, in exact arithmetic."""
    kept = []
    for index, box in enumerate(boxes):
        if all(exact_iou(boxes[earlier], box) <= threshold for earlier in kept):
            kept.append(index)
    return kept if limit is None else kept[:limit]


def as_boxes(boxes):
    return np.array(boxes, np.float32).reshape(-1, 4)


@st.composite
def integer_boxes(draw):
    side = st.integers(0, 12)
    x, y = draw(side), draw(side)
    return x, y, x + draw(side), y + draw(side)


fractions = st.builds(lambda q, p: Fraction(min(p, q), q), st.integers(1, 100), st.integers(0, 100))


few = st.integers(1, 9)


@given(
    st.lists(integer_boxes(), max_size=25), fractions, st.none() | st.integers(0, 25), few, few, few, st.integers(0, 99)
)
@example([(0, 0, 100, 1), (0, 0, 29, 1)], Fraction(29, 100), None, 1, 1, 1, 0)
def test_nms_equals_brute_force_in_exact_arithmetic_however_many_boxes_it_takes_at_a_time(
    boxes, threshold, limit, first, most, band, pairs
):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"FIRST": first, "MOST": most, "BAND": band, "PAIRS": pairs}.items():
            patch.setattr(module, name, value)
        kept = nms(as_boxes(boxes), float(threshold), limit)
    assert (kept.dtype, kept.tolist()) == (np.intp, brute_force(boxes, threshold, limit))


@pytest.mark.parametrize("percent", [1, 5, 29, 33, 40, 50, 57, 92, 99])
def test_an_iou_of_exactly_the_threshold_is_kept_and_one_above_is_dropped(percent):
    boxes = as_boxes([(0, 0, 100, 1), (0, 0, percent, 1)])
    assert nms(boxes, percent / 100).tolist() == [0, 1]
    assert nms(boxes, np.nextafter(percent / 100, 0)).tolist() == [0]


def test_two_halves_that_share_a_third():
    # 2x1 boxes shifted by one: shared 1, union 3.
    boxes = as_boxes([(0, 0, 2, 1), (1, 0, 3, 1)])
    assert nms(boxes, 0.34).tolist() == [0, 1]
    assert nms(boxes, 0.33).tolist() == [0]


def test_a_dropped_box_drops_no_other():
    # Each overlaps the next by IoU 3/5; the first and the third only by 1/3.
    chain = as_boxes([(0, 0, 4, 1), (1, 0, 5, 1), (2, 0, 6, 1)])
    assert nms(chain, 0.5).tolist() == [0, 2]


@pytest.mark.parametrize("first", [7, 32])
def test_every_other_of_a_long_row_is_kept_across_what_is_settled_at_a_time(first, monkeypatch):
    # Boxes of 3x1, each a pixel to the right of the one before: the next shares 2 of 4, the one after that 1 of 5.
    monkeypatch.setattr(module, "FIRST", first)
    row = as_boxes([(x, 0, x + 3, 1) for x in range(1001)])
    assert nms(row, 0.4).tolist() == list(range(0, 1001, 2))


def test_a_wide_box_drops_a_narrow_one_that_begins_far_to_its_right_or_is_dropped_by_one_far_to_its_left(monkeypatch):
    # The pair alone overlaps, by 3 of 10; the rest are there so that not all is compared with all.
    monkeypatch.setattr(module, "FIRST", module.MOST)
    rest = [(x, 5, x + 1, 6) for x in range(100, 300)]
    for pair in ([(0, 0, 10, 1), (7, 0, 10, 1)], [(7, 0, 10, 1), (0, 0, 10, 1)]):
        assert nms(as_boxes([*pair, *rest]), 0.29).tolist() == [0, *range(2, 202)]
        assert nms(as_boxes([*pair, *rest]), 0.3).tolist() == list(range(202))


def test_the_tip_of_a_wide_box_drops_what_begins_in_it(monkeypatch):
    # At a threshold of zero, of a width that float64 holds to 1e-7; the rest as above.
    monkeypatch.setattr(module, "FIRST", module.MOST)
    monkeypatch.setattr(module, "BAND", 1)
    rest = [(x, 5, x + 1, 6) for x in range(100, 300)]
    assert nms(as_boxes([(-1e9, 0, 1e-9, 1), (5e-10, 0, 1, 1), *rest]), 0.0).tolist() == [0, *range(2, 202)]


def test_of_equal_boxes_the_first_is_kept():
    assert nms(as_boxes([(0, 0, 5, 5)] * 3), 0.5).tolist() == [0]


def test_a_threshold_of_one_keeps_even_duplicates_and_zero_keeps_only_the_disjoint():
    boxes = as_boxes([(0, 0, 5, 5), (0, 0, 5, 5), (5, 0, 9, 5)])
    assert nms(boxes, 1.0).tolist() == [0, 1, 2]
    assert nms(boxes, 0.0).tolist() == [0, 2]


def test_boxes_without_area_overlap_nothing():
    boxes = as_boxes([(3, 3, 3, 3), (3, 3, 3, 3), (0, 0, 9, 9), (8, 8, 1, 1)])
    assert nms(boxes, 0.0).tolist() == [0, 1, 2, 3]


def test_the_limit_keeps_the_first():
    boxes = as_boxes([(0, 0, 1, 1), (0, 0, 1, 1), (2, 0, 3, 1), (4, 0, 5, 1)])
    assert nms(boxes, 0.5, 2).tolist() == [0, 2]


def test_no_boxes_give_no_indices():
    kept = nms(as_boxes([]), 0.5)
    assert (kept.dtype, kept.shape) == (np.intp, (0,))


def test_top_k_orders_from_the_highest_and_the_earlier_of_equals_first():
    scores = np.array([0.1, 0.9, 0.5, 0.9, 0.5], np.float32)
    assert top_k(scores, 10).tolist() == [1, 3, 2, 4, 0]
    assert top_k(scores, 3).tolist() == [1, 3, 2]


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=30), st.integers(0, 40))
def test_top_k_is_a_stable_sort_cut_short(scores, k):
    expected = sorted(range(len(scores)), key=lambda index: -scores[index])[:k]
    assert top_k(np.array(scores, np.float32), k).tolist() == expected
