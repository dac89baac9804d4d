"""Every installed detector on every backend, device and precision: batches, threads, processes; see test_matrix.py."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from multiprocessing import get_context

import numpy as np
import pytest

import polyface
from polyface.measure.differences import compare_heads
from polyface.measure.tolerances import TOLERANCES


@pytest.fixture(scope="module")
def detector(cell, require, weights_of, calibrate):
    """The cell's detector, one for all tests, where this machine can run the cell; else it is tested to be refused."""
    require.backend(cell.backend)
    calibrate(cell)
    settings = {"backend": cell.backend.name, "device": cell.device, "precision": cell.precision}
    weights = weights_of(cell.detector.name, cell.backend.kinds(cell.device, cell.precision))
    try:
        detector = polyface.create_detector(cell.detector.name, **settings, weights=weights, score_threshold=0.3)
    except (polyface.UnsupportedError, polyface.BackendUnavailableError) as error:
        pytest.skip(f"refused, as test_matrix.py asserts: {error.why[0]}")
    with detector:
        yield detector


@pytest.fixture(scope="module")
def elsewhere():
    """A spawned process for each backend: one for each cell would spend its time on starting."""
    with ExitStack() as stack:
        yield cache(lambda _: stack.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn"))))


@pytest.fixture(scope="module")
def photos(examples):
    """A portrait, and the quarter of the collage that has most faces: of the whole, each run would take seconds."""
    portrait, collage, _ = map(polyface.read_image, examples)
    return [portrait, collage[480:, :640]]


@pytest.fixture
def sample(cell, is_trained, photos, noise):
    """Images to look at: photos for a trained network, small noise for random weights, which may be slow."""
    return photos if is_trained(cell.detector.name) else [noise(72, 104), noise(56, 80)]


def assert_same(actual, expected, tolerance):
    assert len(actual) == len(expected)
    for found, wanted in zip(actual, expected, strict=True):
        assert len(found) == len(wanted)
        np.testing.assert_allclose(found.scores, wanted.scores, rtol=0, atol=tolerance.score)
        np.testing.assert_allclose(found.boxes, wanted.boxes, rtol=0, atol=tolerance.pixels)
        if wanted.landmarks is not None:
            np.testing.assert_allclose(found.landmarks, wanted.landmarks, rtol=0, atol=tolerance.pixels)


def test_a_batch_of_n_gives_the_raw_heads_of_n_singles(cell, detector, noise):
    images = [noise(72, 104, seed) for seed in range(3)]
    together = detector.raw_heads(images)
    for place, image in enumerate(images):
        differences = compare_heads(detector.raw_heads([image]), {n: head[[place]] for n, head in together.items()})
        assert max(head.relative.max for head in differences) <= TOLERANCES[cell.precision].heads


def test_images_of_mixed_sizes_give_the_faces_of_single_ones(cell, detector, is_trained, photos):
    if not is_trained(cell.detector.name):
        pytest.skip("random weights see faces everywhere, in an order that rounding decides; see the raw heads")
    images = [*photos, photos[0][:200, :301]]
    singles = [detector.detect(image) for image in images]
    assert_same(detector.detect_batch(images), singles, TOLERANCES[cell.precision])


def test_two_threads_on_one_detector_give_the_results_of_one(detector, sample):
    alone = [detector.detect(image) for image in sample]
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda _: [detector.detect(image) for image in sample], range(4)))
    for run in runs:
        assert run == alone


def test_a_detector_rebuilt_in_a_spawned_process_gives_the_same(cell, detector, sample, elsewhere):
    there = elsewhere(cell.backend.name).submit(detector.detect, sample[0]).result()
    assert there == detector.detect(sample[0])
