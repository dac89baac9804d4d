"""Faces of every size by default: ``benchmarks/sizes.py`` in a short form, with the packaged weights."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="module")
def sizes(benchmark_script):
    return benchmark_script("sizes")


@pytest.fixture
def packaged(make_detector, require):
    require("onnxruntime", "polyface_onnxruntime", "polyface_retinaface")

    def packaged(**settings):
        return make_detector(
            "retinaface-mobilenet025", backend="onnxruntime", device="cpu", score_threshold=0.5, **settings
        )

    return packaged


@pytest.mark.parametrize(
    ("size", "background"),
    [(40, "noise"), (140, "plain"), (350, "photograph"), (550, "noise"), (900, "plain"), (1500, "photograph")],
)
@pytest.mark.parametrize("head", ["astronaut", "grace_hopper"])
def test_a_face_is_found_once_whatever_its_size(head, size, background, sizes, packaged):
    once, count, best = sizes.found_once(packaged(), sizes.paste(head, size, background))
    assert once, (count, best)


def test_a_face_is_found_once_where_tiles_cut_it(sizes, packaged):
    pasted = sizes.paste("astronaut", 600, "plain")
    # The least that a run may have: four tiles at full scale.
    detector = packaged(run_pixels=1312 * 1312)
    canvas = np.full((2000, 2600, 3), 128, np.uint8)
    assert sum(view.scale == 1 for view in detector.strategy.views(2000, 2600)) > 3
    for left, top in ((0, 0), (900, 700)):
        canvas[top : top + pasted.pixels.shape[0], left : left + pasted.pixels.shape[1]] = pasted.pixels
    found = detector.detect(canvas)
    assert len(found) == 2
    for left, top in ((0, 0), (900, 700)):
        assert sizes.overlap(found.boxes, pasted.box + np.array([left, top, left, top])).max() > 0.6


def test_one_plain_view_shows_a_large_face_in_pieces(sizes, packaged):
    once, count, _ = sizes.found_once(packaged(view="plain"), sizes.paste("grace_hopper", 1200, "plain"))
    assert not once
    assert count > 1
