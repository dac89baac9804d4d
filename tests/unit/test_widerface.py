"""WIDER FACE's protocol: worked by hand, against a slow reading of it, and on the official files."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyface.errors import EvaluationError
from polyface.measure.widerface import (
    ROWS,
    SUBSETS,
    Truth,
    average_precision,
    best_matches,
    precision_recall,
    read_truth,
)

FACE, OTHER, FAR = (0, 0, 9, 9), (100, 0, 9, 9), (500, 500, 9, 9)


def truth(*boxes, counted=None):
    mask = np.ones(len(boxes), bool) if counted is None else np.array(counted, bool)
    return Truth(boxes=np.array(boxes, np.float64).reshape(-1, 4), counted={"all": mask})


def found(*rows):
    return np.array([(*box, score) for box, score in rows], np.float64).reshape(-1, 5)


def score_of(*images):
    """The average precision of images, each given as its truth and what was found."""
    names = [f"event/{index}" for index in range(len(images))]
    truths, rows = ({name: image[part] for name, image in zip(names, images, strict=True)} for part in (0, 1))
    return average_precision(truths, rows)["all"]


class TestByHand:
    def test_every_face_found_and_nothing_else_is_100(self):
        assert score_of((truth(FACE, OTHER), found((FACE, 0.9), (OTHER, 0.3)))) == 100

    def test_nothing_found_is_0(self):
        assert score_of((truth(FACE), found())) == 0

    def test_a_subset_without_faces_has_none(self):
        assert math.isnan(score_of((truth(FACE, counted=[False]), found((FACE, 0.9)))))

    def test_a_second_detection_of_a_face_is_a_false_positive(self):
        # Precision 1/1 at recall 1/2, and 2/3 at recall 1: 1/2 * 1 + 1/2 * 2/3.
        rows = found((FACE, 0.9), (FACE, 0.8), (OTHER, 0.7))
        assert score_of((truth(FACE, OTHER), rows)) == pytest.approx(100 * 5 / 6)

    def test_the_order_in_a_file_means_nothing_and_scores_may_have_any_range(self):
        rows = found((OTHER, -7), (FACE, 9), (FACE, 1))
        assert score_of((truth(FACE, OTHER), rows)) == pytest.approx(100 * 5 / 6)

    def test_equal_scores_count_at_once_whatever_their_order(self):
        # 1 of 2 are right at recall 1/2, then 2 of 3 at recall 1, and the best precision of a recall or above counts.
        for first, second in ((FACE, FAR), (FAR, FACE)):
            rows = found((first, 0.9), (second, 0.9), (OTHER, 0.1))
            assert score_of((truth(FACE, OTHER), rows)) == pytest.approx(100 * 2 / 3)

    def test_sides_count_a_pixel_more(self):
        # 5 by 10 of 10 by 10 pixels: an IoU of exactly 0.5. As differences of coordinates it would be 4/9.
        assert score_of((truth(FACE), found(((0, 0, 4, 9), 0.9)))) == 100
        assert score_of((truth(FACE), found(((0, 0, 3.99, 9), 0.9)))) == 0

    def test_a_face_that_is_not_counted_counts_neither_way(self):
        rows = found((OTHER, 0.9), (OTHER, 0.8), (FACE, 0.7))
        assert score_of((truth(FACE, OTHER, counted=[True, False]), rows)) == 100

    def test_false_positives_count_where_the_subset_has_no_face_but_not_where_there_is_no_box_at_all(self):
        face = truth(FACE), found((FACE, 0.5))
        alarm = found((FAR, 0.9))
        assert score_of(face, (truth(OTHER, counted=[False]), alarm)) == 50
        assert score_of(face, (truth(), alarm)) == 100

    def test_scores_are_normalised_over_all_images_even_those_without_a_box(self):
        # From 0 to 1000 the scores 1.2 and 1.4 lie between two thresholds, so they count at once: 1/2.
        rows = found((FACE, 1.2), (FAR, 1.4))
        assert score_of((truth(FACE), rows), (truth(), found((FAR, 1000), (FAR, 0)))) == 50

    def test_equal_scores_everywhere_are_one_point(self):
        curve = precision_recall({"e/a": truth(FACE, OTHER)}, {"e/a": found((FACE, 0.5), (FAR, 0.5))})["all"]
        assert set(zip(curve.precision, curve.recall, strict=True)) == {(0.5, 0.5)}
        assert curve.average_precision == 25

    def test_of_faces_that_overlap_equally_the_first_is_meant(self):
        # Otherwise the second, which is counted, would be found.
        both = truth(FACE, FACE, counted=[False, True])
        assert score_of((both, found((FACE, 0.9)))) == 0

    def test_boxes_turned_inside_out_overlap_nothing(self):
        inside_out = (1026, 474, -2, 23)  # WIDER FACE has one such
        assert score_of((truth(inside_out), found((inside_out, 0.9)))) == 0
        assert score_of((truth((5, 5, -1, -1)), found(((5, 5, -1, -1), 0.9)))) == 0

    def test_a_point_is_a_pixel(self):
        assert score_of((truth((7, 7, 0, 0)), found(((7, 7, 0, 0), 0.9)))) == 100


def iou(a, b):
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]) + 1
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0
    shared = width * height
    return shared / ((a[2] + 1) * (a[3] + 1) + (b[2] + 1) * (b[3] + 1) - shared)


def face_of(row, boxes):
    most, best = 0, None
    for index, box in enumerate(boxes):
        if iou(row, box) > most:
            most, best = iou(row, box), index
    return best if most >= 0.5 else None


def above(images, threshold):
    """How many detections of at least that score are proposals, and how many of them hits."""
    proposals = hits = 0
    for rows, counted in images:
        taken = set()
        for score, face in rows:
            if score < threshold:
                break
            if face is not None and not counted[face]:
                continue
            proposals += 1
            if face is not None and face not in taken:
                hits += 1
                taken.add(face)
    return proposals, hits


def slow(truths, rows, subset):
    """The protocol read once more, a threshold, an image and a box at a time."""
    every = [row[4] for image in rows.values() for row in image.tolist()]
    low, high = min(every, default=0), max(every, default=0)
    faces, images = 0, []
    for name, one in truths.items():
        faces += int(one.counted[subset].sum())
        ordered = sorted(rows[name].tolist(), key=lambda row: -row[4])
        judged = [
            ((row[4] - low) / (high - low) if high != low else 1, face_of(row, one.boxes.tolist())) for row in ordered
        ]
        if len(one.boxes):
            images.append((judged, one.counted[subset].tolist()))
    counts = [above(images, 1 - number / 1000) for number in range(1, 1001)]
    points = [(hits / faces, hits / proposals if proposals else 0) for proposals, hits in counts]
    area, before = 0, 0
    for index, (recall, _) in enumerate(points):
        if recall > before:
            area += (recall - before) * max(precision for _, precision in points[index:])
            before = recall
    return 100 * area


# Small whole numbers, so that equal overlaps, points and boxes turned inside out come up often.
boxes = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(-2, 8), st.integers(-2, 8))
scores = st.sampled_from([0, 0.25, 0.5, 0.75, 1]) | st.floats(-5, 5)
rows_of = st.lists(st.tuples(boxes, scores), max_size=8).map(lambda rows: found(*rows))


@st.composite
def image(draw):
    faces = draw(st.lists(boxes, max_size=5))
    masks = st.lists(st.booleans(), min_size=len(faces), max_size=len(faces))
    counted = {subset: np.array(draw(masks), bool) for subset in SUBSETS}
    return Truth(boxes=np.array(faces, np.float64).reshape(-1, 4), counted=counted), draw(rows_of)


@settings(max_examples=60)
@given(st.lists(image(), min_size=1, max_size=4))
def test_a_slow_reading_of_the_protocol_agrees(images):
    truths = {f"event/{index}": one for index, (one, _) in enumerate(images)}
    rows = {f"event/{index}": each for index, (_, each) in enumerate(images)}
    for subset, curve in precision_recall(truths, rows).items():
        if curve.faces:
            assert curve.average_precision == pytest.approx(slow(truths, rows, subset), abs=1e-6)


def test_a_slow_reading_agrees_on_images_like_real_ones():
    draw = np.random.default_rng(4)
    truths, rows = {}, {}
    for index in range(12):
        faces = np.round(draw.uniform([0, 0, 5, 5], [900, 700, 120, 120], (index * 3, 4)))
        counted = {
            subset: draw.random(len(faces)) < part for subset, part in zip(SUBSETS, (0.2, 0.5, 0.9), strict=True)
        }
        near = faces[draw.random(len(faces)) < 0.8] + draw.normal(0, 4, 4)
        guesses = np.concatenate([near, near[:5] + 3, draw.uniform(0, 300, (20, 4))])
        truths[f"e/{index}"] = Truth(boxes=faces, counted=counted)
        rows[f"e/{index}"] = np.column_stack([guesses, np.round(draw.random(len(guesses)), 2)])
    actual = average_precision(truths, rows)
    assert list(actual) == list(SUBSETS)
    for subset in SUBSETS:
        assert actual[subset] == pytest.approx(slow(truths, rows, subset), abs=1e-6)
        assert 5 < actual[subset] < 95


def test_many_detections_are_matched_in_parts_as_they_are_one_by_one():
    draw = np.random.default_rng(5)
    faces, rows = draw.uniform(1, 60, (20, 4)), draw.uniform(1, 60, (2 * ROWS + 1, 4))
    together = best_matches(faces, rows)
    assert together.tolist() == [best_matches(faces, row[None])[0] for row in rows]
    assert len(set(together.tolist())) > 10


class TestRefusals:
    def test_predictions_of_other_images(self):
        with pytest.raises(EvaluationError, match=r"not of the same images: 2: e/a, e/b\."):
            average_precision({"e/a": truth(FACE)}, {"e/b": found()})

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e10])
    def test_numbers_that_are_none(self, value):
        with pytest.raises(
            EvaluationError, match=r"^The predictions of e/a are not \(N, 5\) finite numbers up to 1e\+09"
        ):
            average_precision({"e/a": truth(FACE)}, {"e/a": found((FACE, value))})

    def test_another_shape(self):
        with pytest.raises(EvaluationError, match=r"they are \(1, 4\)"):
            average_precision({"e/a": truth(FACE)}, {"e/a": np.array([FACE])})


IMAGES = {
    "0--Parade/one": ([FACE, OTHER, (3, 4, 0, 0)], {"easy": [2], "medium": [1, 2], "hard": [1, 2]}),
    "0--Parade/two": ([(0, 0, 0, 0)], {}),
    "1--Handshaking/three": ([FAR], {"hard": [1]}),
}
# Beside x, y, width and height: blur, expression, illumination, invalid, occlusion and pose.
TEXT = """0--Parade/one.jpg
3
0 0 9 9 1 0 0 0 0 0 
100 0 9 9 0 0 0 1 2 0 
3 4 0 0 0 0 0 0 0 0
0--Parade/two.jpg
0
0 0 0 0 0 0 0 0 0 0 
1--Handshaking/three.jpg
1
500 500 9 9 2 0 0 0 0 1 
"""  # noqa: W291 - as the data set has it


class TestGroundTruth:
    def test_the_mat_files_give_boxes_and_subsets(self, write_mats, tmp_path):
        actual = read_truth(write_mats(tmp_path, IMAGES))
        assert list(actual) == list(IMAGES)
        one = actual["0--Parade/one"]
        assert one.boxes.tolist() == [list(FACE), list(OTHER), [3, 4, 0, 0]]
        assert {subset: mask.tolist() for subset, mask in one.counted.items()} == {
            "easy": [False, True, False],
            "medium": [True, True, False],
            "hard": [True, True, False],
        }
        assert actual["0--Parade/two"].boxes.tolist() == [[0, 0, 0, 0]]
        assert not actual["0--Parade/two"].counted["hard"].any()

    def test_the_text_file_gives_the_faces_that_are_valid_and_have_a_size(self, tmp_path):
        path = tmp_path / "wider_face_val_bbx_gt.txt"
        path.write_text(TEXT)
        actual = read_truth(path)
        assert {name: one.boxes.tolist() for name, one in actual.items()} == {
            name: [list(box) for box in boxes] for name, (boxes, _) in IMAGES.items()
        }
        assert {name: one.counted["all"].tolist() for name, one in actual.items()} == {
            "0--Parade/one": [True, False, False],
            "0--Parade/two": [False],
            "1--Handshaking/three": [True],
        }

    def test_the_text_file_beside_the_lists_gives_what_the_mat_files_give(self, write_mats, tmp_path):
        folder = write_mats(tmp_path, IMAGES)
        (folder / "anything.txt").write_text(TEXT)
        official, text = read_truth(folder), read_truth(folder / "anything.txt")
        assert list(text) == list(official)
        for name, one in official.items():
            assert np.array_equal(text[name].boxes, one.boxes)
            assert all(np.array_equal(text[name].counted[subset], one.counted[subset]) for subset in SUBSETS)

    @pytest.mark.parametrize("file", ["wider_face_val.mat", "wider_medium_val.mat"])
    def test_a_folder_that_lacks_a_file_is_refused(self, write_mats, tmp_path, file):
        (write_mats(tmp_path, IMAGES) / file).unlink()
        with pytest.raises(
            EvaluationError, match=rf"lacks {file}\.[^\0]*or, for all valid faces as one subset, the text"
        ):
            read_truth(tmp_path)

    @pytest.mark.parametrize(
        "others",
        [
            {**IMAGES, "0--Parade/two": ([(0, 0, 1, 1)], {})},
            {name: IMAGES[name] for name in list(IMAGES)[:2]},
            {**IMAGES, "1--Handshaking/three": ([FAR], {"hard": [2]})},
            {**IMAGES, "1--Handshaking/three": ([FAR], {"hard": [0]})},
            {**IMAGES, "1--Handshaking/four": ([FAR], {})},
        ],
        ids=["another box", "an image less", "a face too many", "a face before the first", "an image more"],
    )
    def test_a_list_of_other_faces_is_refused(self, write_mats, tmp_path, others):
        write_mats(tmp_path / "others", others)
        folder = write_mats(tmp_path / "these", IMAGES)
        (tmp_path / "others/wider_hard_val.mat").replace(folder / "wider_hard_val.mat")
        with pytest.raises(EvaluationError, match=r"wider_hard_val\.mat does not belong to this ground truth"):
            read_truth(folder)

    def test_damaged_mat_files_are_refused_or_read(self, write_mats, tmp_path):
        path = write_mats(tmp_path, IMAGES) / "wider_face_val.mat"
        whole, refused = path.read_bytes(), 0
        for at in range(0, len(whole), 5):
            for damaged in (whole[:at], whole[:at] + b"\xff\0" + whole[at + 2 :]):
                path.write_bytes(damaged)
                try:
                    read_truth(tmp_path)
                except EvaluationError as error:
                    assert error.fix
                    refused += 1
        assert refused > 100

    @pytest.mark.parametrize("line", range(len(TEXT.splitlines())))
    def test_a_text_file_that_lacks_a_line_is_refused(self, tmp_path, line):
        lines = TEXT.splitlines()
        (tmp_path / "gt.txt").write_text("\n".join(lines[:line] + lines[line + 1 :]))
        with pytest.raises(EvaluationError, match=r"gt\.txt is not the text file of WIDER FACE's ground truth"):
            read_truth(tmp_path / "gt.txt")

    @pytest.mark.parametrize("text", ["", "\n \n", TEXT + TEXT, TEXT.replace("500", "x"), "a/b\n-1\n0 0 9 9\n", "\xff"])
    def test_a_text_file_of_something_else_is_refused(self, tmp_path, text):
        (tmp_path / "gt.txt").write_bytes(text.encode("latin-1"))
        with pytest.raises(EvaluationError, match=r"gt\.txt (is|cannot be)"):
            read_truth(tmp_path / "gt.txt")

    @pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "../x", "a\\b", "alone"])
    def test_a_name_that_leads_elsewhere_is_refused(self, tmp_path, name):
        (tmp_path / "gt.txt").write_text(f"{name}\n1\n0 0 9 9 0 0 0 0 0 0\n")
        with pytest.raises(EvaluationError, match="is no event and image"):
            read_truth(tmp_path / "gt.txt")

    @pytest.mark.parametrize(
        ("name", "what"), [("nowhere", "is not there"), ("wider_face_val.mat", "is one file of several")]
    )
    def test_a_path_that_is_neither_is_refused(self, tmp_path, name, what):
        (tmp_path / "wider_face_val.mat").write_bytes(b"")
        with pytest.raises(EvaluationError, match=what):
            read_truth(tmp_path / name)

    @pytest.mark.parametrize(
        ("boxes", "numbers", "said"),
        [
            ([[0, 0, 9]], [1], "the boxes of 0--Parade/a have the shape (1, 3)"),
            ([[0, 0, 9, np.nan]], [1], "the entry of 0--Parade/a is not of finite numbers"),
            ([[0, 0, 9, 1e300]], [1], "the entry of 0--Parade/a is not of finite numbers"),
            ([[0, 0, 9, 9]], [1.5], "the entry of 0--Parade/a in gt_list is not of whole numbers"),
        ],
    )
    def test_numbers_that_mean_nothing_are_refused(self, write_mats, tmp_path, boxes, numbers, said):
        folder = write_mats(tmp_path, {"0--Parade/a": ([], {})})
        from scipy import io

        for path in folder.glob("*.mat"):
            tables = {name: value for name, value in io.loadmat(path).items() if not name.startswith("__")}
            tables["face_bbx_list"][0, 0][0, 0] = np.array(boxes, np.float64)
            if "gt_list" in tables:
                tables["gt_list"][0, 0][0, 0] = np.array([numbers], np.float64)
            io.savemat(path, tables)
        with pytest.raises(EvaluationError, match=re.escape(said)):
            read_truth(folder)

    def test_an_image_that_is_there_twice_is_refused(self, write_mats, tmp_path):
        folder = write_mats(tmp_path, {"0--Parade/a": ([], {}), "0--Parade/b": ([], {})})
        from scipy import io

        path = folder / "wider_face_val.mat"
        tables = {name: value for name, value in io.loadmat(path).items() if not name.startswith("__")}
        tables["file_list"][0, 0][1, 0] = np.array(["a"])
        io.savemat(path, tables)
        with pytest.raises(EvaluationError, match="0--Parade/a is there twice"):
            read_truth(folder)

    @pytest.mark.shared
    def test_the_official_files_have_what_the_data_set_says(self, shared):
        actual = read_truth(shared / "widerface/ground_truth")
        assert len(actual) == 3226
        assert sum(len(one.boxes) for one in actual.values()) == 39_708
        # Counted in the .mat files by hand.
        sums = [sum(int(one.counted[subset].sum()) for one in actual.values()) for subset in SUBSETS]
        assert sums == [7211, 13319, 31958]
