"""The backends against each other: the same network must give the same numbers, whoever runs it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import polyface
from polyface.plugins import installed_plugins
from polyface.testing.tolerances import TOLERANCES

SIZES = [(32, 32), (64, 96), (101, 157), (37, 320), (240, 135)]
"""Height and width; odd ones too, and none that a graph was traced at."""


@pytest.mark.parametrize("name", installed_plugins().detectors)
def test_all_backends_agree_at_the_raw_heads_at_five_sizes(name, make_detector, weights_of, raw_heads, noise):
    running = {}
    for backend in installed_plugins().backends:
        try:
            running[backend] = make_detector(name, backend=backend, device="cpu", weights=weights_of(name), pad_to=1)
        except polyface.UnsupportedError as error:
            assert error.reasons
    if len(running) < 2:
        pytest.skip(f"only {', '.join(running) or 'no backend'} can run {name} here")
    for size, (one, other) in itertools.product(SIZES, itertools.combinations(running, 2)):
        expected = raw_heads(running[one], noise(*size))
        actual = raw_heads(running[other], noise(*size))
        assert expected.keys() == actual.keys()
        for head in expected:
            difference = np.abs(actual[head] - expected[head]).max()
            assert difference <= TOLERANCES["fp32"].heads, f"{one} and {other} at {size}: {head}"
