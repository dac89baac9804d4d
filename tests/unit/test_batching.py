"""Batches of any images, on the toy of polyface-example: what is found in one never depends on the others."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import polyface

CELL = 8
"""The toy finds red cells of 8 by 8 pixels."""


@st.composite
def images(draw):
    """Grey images of any sizes, each with up to three red cells; and the boxes of these, as ``(x1, y1)``."""
    made = []
    for height, width in draw(st.lists(st.tuples(st.integers(1, 70), st.integers(1, 70)), max_size=7)):
        image = np.full((height, width, 3), draw(st.integers(0, 255)), np.uint8)
        cells = st.tuples(st.integers(0, max(0, width // CELL - 1)), st.integers(0, max(0, height // CELL - 1)))
        places = draw(st.sets(cells, max_size=3)) if min(height, width) >= CELL else set()
        for column, row in places:
            image[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = 255, 0, 0
        made.append((image, {(float(column * CELL), float(row * CELL)) for column, row in places}))
    return made


@pytest.fixture(scope="module")
def detector():
    """Return the toy with these settings; each is made once, since making it for every example would be slow."""
    pytest.importorskip("polyface_example", reason="the toy is in polyface-example")
    return functools.cache(functools.partial(polyface.create_detector, "example-redbox", backend="numpy"))


@given(images(), st.integers(1, 4), st.sampled_from([1, 8, 24, 32]), st.booleans())
def test_a_batch_finds_in_each_image_what_is_found_in_it_alone(detector, batch, batch_size, pad_to, flip):
    toy = detector(batch_size=batch_size, pad_to=pad_to, flip=flip)
    found = toy.detect_batch([image for image, _ in batch])
    assert found == [toy.detect(image) for image, _ in batch]
    for faces, (_, places) in zip(found, batch, strict=True):
        corners = {(x1, y1) for x1, y1, _, _ in faces.boxes.tolist()}
        # Mirrored, a cell may lie across two cells of the network and be found there, too.
        assert places <= corners if flip else places == corners
