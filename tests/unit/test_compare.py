"""Detectors held against each other: two that need no network, of which one is off by a known amount."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from polyface.errors import ConfigError, EvaluationError, ImageError
from polyface.measure.compare import Sample, compare, noise
from polyface.measure.widerface import Truth
from polyface.plugins.protocols import Execution
from polyface.results import Detections

IMAGE = np.zeros((40, 60, 3), np.uint8)


class Detector:
    """Finds one face, 10 pixels wide, ``shift`` pixels to the right of x = 20; its one head holds 1 and ``head``."""

    score_threshold, iou_threshold = 0.5, 0.4
    spec = SimpleNamespace(name="made-up")

    def __init__(self, shift=0.0, head=1.0, precision="fp32"):
        self.config = SimpleNamespace(precision=precision)
        self.execution = Execution(device="cpu", precision=precision)
        self.shift, self.head = shift, head

    def raw_heads(self, images):
        return {"loc": np.array([[1, self.head]] * len(images), np.float32)}

    def detect_batch(self, images):
        box = np.array([[20 + self.shift, 5, 30 + self.shift, 15]], np.float32)
        return [Detections(boxes=box, scores=np.array([0.9], np.float32)) for _ in images]


def sample(*names):
    return Sample(names=names, images=[IMAGE] * len(names))


def truth(*box):
    return Truth(boxes=np.array([box], float), counted={"all": np.array([True])})


def test_what_differs_is_measured_over_all_samples_and_held_against_the_table():
    detectors = {"torch": Detector(), "same": Detector(), "off": Detector(shift=0.25, head=1.5)}
    comparison = compare(detectors, [sample("a"), sample("b", "c")])
    same, off = comparison.pairs
    assert (comparison.label, comparison.images, comparison.average_precision) == ("torch", 3, None)
    assert (same.over, same.faces.matched, same.need.heads) == ([], 3, 0)
    # An error of 0.5 in every second number; of boxes a quarter of a pixel, beyond the tenth that is allowed.
    assert (off.need.heads, off.need.mean, off.need.pixels) == (0.5, 0.25, 0.25)
    assert off.over == ["heads", "mean", "pixels"]


def test_the_row_of_the_table_is_that_of_the_wider_precision():
    [pair] = compare({"a": Detector(), "b": Detector(shift=0.25, precision="bf16")}, [sample("a")]).pairs
    assert (pair.allowed.pixels, pair.over) == (3, [])
    with pytest.raises(ConfigError, match="no tolerance for the precision 'int4'"):
        compare({"a": Detector(), "b": Detector(precision="int4")}, [])


def test_with_ground_truth_each_has_its_average_precision_over_the_images_looked_at():
    detectors = {"a": Detector(), "b": Detector(shift=20)}
    both = {"e/a": truth(20, 5, 10, 10), "e/b": truth(0, 0, 5, 5)}
    comparison = compare(detectors, [sample("e/a")], truth=both)
    assert (comparison.average_precision, comparison.pairs[0].average_precision) == ({"all": 100}, {"all": 0})
    with pytest.raises(EvaluationError, match="The ground truth has no image 'e/c'"):
        compare(detectors, [sample("e/c")], truth=both)


def test_without_an_image_there_is_nothing_to_compare():
    with pytest.raises(ImageError, match="Not one image could be read"):
        compare({"a": Detector(), "b": Detector()}, [])


def test_noise_is_seeded_and_has_six_images_each_sample_of_one_size():
    shapes = [[image.shape for image in one.images] for one in noise(7)]
    assert shapes == [[(64, 96, 3)], [(101, 157, 3)], [(96, 128, 3)] * 2, [(37, 320, 3)], [(240, 135, 3)]]
    same, other = noise(7), noise(8)
    np.testing.assert_array_equal(noise(7)[0].images[0], same[0].images[0])
    assert (same[0].images[0] != other[0].images[0]).any()
