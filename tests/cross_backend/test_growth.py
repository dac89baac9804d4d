"""``benchmarks/growth.py``: its images have as many faces as they say, and no other size."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="module")
def growth(benchmark_script):
    return benchmark_script("growth")


@pytest.mark.parametrize("count", [0, 1, 10, 100, 1000])
def test_a_canvas_has_so_many_heads_in_places_of_their_own(count, growth):
    pixels = np.asarray(growth.canvas(count))
    side = growth.SIDE
    assert pixels.shape == (1200, 1920, 3)
    squares = (pixels != 128).any(axis=2).reshape(1200 // side, side, 1920 // side, side).mean(axis=(1, 3))
    assert np.count_nonzero(squares) == count
    assert (squares[squares > 0] > 0.9).all()


@pytest.mark.parametrize(("count", "found"), [(0, 0), (1, 1), (10, 10), (100, 100), (1000, 1000)])
def test_each_head_is_found(count, found, growth, make_detector, require):
    require("onnxruntime", "polyface_onnxruntime", "polyface_retinaface")
    detector = make_detector(growth.DETECTOR, backend="onnxruntime", device="cpu", score_threshold=0.5)
    assert len(detector.detect(growth.canvas(count))) == found
