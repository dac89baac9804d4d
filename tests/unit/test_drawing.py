"""Faces drawn on images."""

from __future__ import annotations

import numpy as np
import pytest

from polyface.images.drawing import BOX, LANDMARK, draw_faces
from polyface.results import Detections

GREY = np.full((200, 300, 3), 90, np.uint8)
NONE = Detections(boxes=np.empty((0, 4)), scores=[], landmarks=np.empty((0, 5, 2)))


def test_a_box_is_drawn_on_its_edges_and_a_landmark_at_its_place():
    faces = Detections(boxes=[[50, 60, 250, 180]], scores=[0.875], landmarks=[[[100, 120], [200, 121]]])
    drawn = draw_faces(GREY, faces)
    assert drawn.size == (300, 200)
    for corner in ((50, 100), (250, 100), (150, 60), (150, 180)):
        assert drawn.getpixel(corner) == BOX
    for landmark in ((100, 120), (200, 121)):
        assert drawn.getpixel(landmark) == LANDMARK
    assert drawn.getpixel((150, 140)) == (90, 90, 90)


@pytest.mark.parametrize(("width", "score_is_drawn"), [(12, False), (20, True)])
def test_a_score_more_than_twice_as_wide_as_the_face_is_left_out_and_a_small_faces_line_is_thin(width, score_is_drawn):
    drawn = draw_faces(GREY, Detections(boxes=[[100, 100, 100 + width, 130]], scores=[0.875]))
    # In this image a score is some 28 pixels wide. Above the face's corner is the label's ground.
    assert (drawn.getpixel((100, 98)) == BOX) is score_is_drawn
    assert [drawn.getpixel((x, 115)) == BOX for x in (99, 100, 101, 102)] == [False, True, width > 18, False]


def test_without_faces_the_copy_equals_the_image():
    np.testing.assert_array_equal(np.asarray(draw_faces(GREY, NONE)), GREY)


def test_the_image_itself_is_left_alone():
    image = GREY.copy()
    draw_faces(image, Detections(boxes=[[50, 60, 250, 180]], scores=[0.875]))
    np.testing.assert_array_equal(image, GREY)


@pytest.mark.parametrize("box", [[-50, -60, 400, 300], [500, 500, 600, 600], [90, 90, 10, 10], [5, 5, 5, 5]])
def test_a_box_beyond_the_image_inside_out_or_of_no_size_can_be_drawn(box):
    faces = Detections(boxes=[box], scores=[0.5], landmarks=[[[-5, 1000]] * 5])
    assert draw_faces(GREY, faces).size == (300, 200)


def test_an_image_of_one_pixel_can_be_drawn_on():
    faces = Detections(boxes=[[0, 0, 1, 1]], scores=[0.5])
    assert draw_faces(np.zeros((1, 1, 3), np.uint8), faces).size == (1, 1)
