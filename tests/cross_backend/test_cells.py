"""Every installed detector on every backend, device and precision: batches, threads, processes; see test_matrix.py."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

import polyface
from polyface.measure.differences import compare_heads
from polyface.measure.tolerances import TOLERANCES


@pytest.fixture
def build(cell, require, make_detector, weights_of, calibrate):
    """Return a function that builds the cell's detector."""
    require.backend(cell.backend)
    calibrate(cell)

    def build(**settings):
        return make_detector(
            cell.detector.name,
            backend=cell.backend.name,
            device=cell.device,
            precision=cell.precision,
            weights=weights_of(cell.detector.name, cell.backend.kinds(cell.device, cell.precision)),
            **settings,
        )

    return build


@pytest.fixture
def detector(build):
    """The cell's detector, for the cells that this machine can run; the others are tested to be refused."""
    try:
        return build(score_threshold=0.3)
    except (polyface.UnsupportedError, polyface.BackendUnavailableError) as error:
        pytest.skip(f"refused, as test_matrix.py asserts: {error.why[0]}")


@pytest.fixture
def sample(cell, is_trained, examples, noise):
    """Images to look at: the examples for a trained network, small noise for random weights, which may be slow."""
    return examples if is_trained(cell.detector.name) else [noise(72, 104), noise(56, 80)]


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


def test_images_of_mixed_sizes_give_the_faces_of_single_ones(cell, detector, is_trained, examples):
    if not is_trained(cell.detector.name):
        pytest.skip("random weights see faces everywhere, in an order that rounding decides; see the raw heads")
    images = [polyface.read_image(path) for path in examples]
    images += [images[0][:200, :301], images[1][:200, :301], images[2][::-1]]
    singles = [detector.detect(image) for image in images]
    assert_same(detector.detect_batch(images), singles, TOLERANCES[cell.precision])


def test_two_threads_on_one_detector_give_the_results_of_one(detector, sample):
    alone = [detector.detect(image) for image in sample]
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda _: [detector.detect(image) for image in sample], range(4)))
    for run in runs:
        assert run == alone


def test_a_detector_rebuilt_in_a_spawned_process_gives_the_same(detector, sample):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        elsewhere = pool.submit(detector.detect, sample[0]).result()
    assert elsewhere == detector.detect(sample[0])
