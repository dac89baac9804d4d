"""Faces of every size by default, as ``benchmarks/sizes.py`` tells them, with the weights that are at hand.

By default each size up to 1,500 pixels is tried in one case of six, a quarter of a minute for a small network.
``pytest -m slow tests/cross_backend/test_sizes.py`` tries each in all six, up to 4,000 pixels, for many minutes.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyface.graphs.weights import path_of
from polyface.images.geometry import place_image
from polyface.pipeline.presets import select_strategy
from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import DetectorSpec
from polyface.settings.config import Config
from polyface.storage.files import sha256_of

TRAINED = [spec for spec in installed_plugins().by_name(DetectorSpec).values() if spec.weights]
"""Detectors of networks that were trained, which only those with weights can be."""


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


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """polyface's home, which keeps weights and what is made of them from test to test."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def trained(request, sizes, make_detector, require, home, monkeypatch):
    """A detector with its default weights: packaged, or from the shared folder."""
    require("onnxruntime", "polyface_onnxruntime")
    spec = request.param
    monkeypatch.setenv("POLYFACE_HOME", str(home))
    if not sizes.is_here(spec):
        shared = request.getfixturevalue("shared") / "weights"
        same = [path for path in shared.iterdir() if sha256_of(path) == spec.weights[0].sha256]
        if not same:
            pytest.skip(f"the weights of {spec.name} are not at hand")
        path_of(spec.weights[0]).parent.mkdir(parents=True)
        path_of(spec.weights[0]).symlink_to(same[0])
    return make_detector(spec.name, backend="onnxruntime", device="cpu", score_threshold=0.5)


@pytest.mark.parametrize(
    ("every", "largest"), [pytest.param(6, 1500, id="some"), pytest.param(1, 4000, id="all", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("case", range(6))
@pytest.mark.parametrize("trained", TRAINED, ids=lambda spec: spec.name, indirect=True)
def test_a_face_is_found_once_whatever_its_size(case, every, largest, trained, sizes):
    head, background = sizes.CASES[case]
    wanted = [size for size in sizes.sizes(sizes.SMALLEST, largest) if size >= sizes.smallest_of(trained.spec)]
    missed = {}
    for size in wanted[case % every :: every]:
        once, count, best = sizes.found_once(trained, sizes.paste(head, size, background))
        if not once:
            missed[round(size)] = count, round(best, 2)
    assert not missed


@pytest.mark.parametrize("spec", TRAINED, ids=lambda spec: spec.name)
@settings(deadline=None)
@given(st.data(), st.integers(64, 5000))
def test_all_views_of_an_image_of_12_megapixels_cost_at_most_a_third_more_than_the_plain_one(spec, data, height):
    width = data.draw(st.integers(64, min(5000, 12_500_000 // height)))
    config = Config()

    def cost(size, scale):
        return math.prod(place_image(config, spec, *size, scale).shape)

    views = select_strategy(config, spec).views(height, width)
    assert sum(cost(view.size, view.scale) for view in views) <= 4 / 3 * cost((height, width), 1.0)


@pytest.mark.parametrize("trained", TRAINED, ids=lambda spec: spec.name, indirect=True)
def test_landmarks_of_a_face_and_of_its_mirror_image_are_the_same_points(trained, sizes):
    if not trained.spec.landmarks:
        pytest.skip("it gives no landmarks")
    size = 150
    pixels = sizes.paste("astronaut", size, "plain").pixels
    [face], [mirrored] = trained.detect(pixels), trained.detect(pixels[:, ::-1])
    back = mirrored.landmarks[list(trained.spec.mirrored_places)] * (-1, 1) + (pixels.shape[1], 0)
    np.testing.assert_allclose(back, face.landmarks, atol=size / 20)


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
