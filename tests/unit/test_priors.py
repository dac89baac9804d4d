"""The cache of priors: made once a shape, and bounded by their bytes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from polyface.pipeline.priors import PriorCache


class Maker:
    """Makes a byte a pixel, and remembers what it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, height, width):
        self.asked.append((height, width))
        return np.zeros(height * width, np.uint8)


def test_priors_are_made_once_a_shape():
    make = Maker()
    cache = PriorCache(make, most=100)
    assert cache(4, 5) is cache(4, 5)
    assert cache(5, 4) is not cache(4, 5)
    assert make.asked == [(4, 5), (5, 4)]


def test_those_used_longest_ago_go_first():
    make = Maker()
    cache = PriorCache(make, most=100)
    cache(1, 40)
    cache(1, 50)
    cache(1, 40)
    cache(1, 60)  # 150 bytes: the 50 go, since the 40 were used after them
    cache(1, 40)
    assert make.asked == [(1, 40), (1, 50), (1, 60)]
    cache(1, 50)
    assert make.asked == [(1, 40), (1, 50), (1, 60), (1, 50)]


def test_priors_larger_than_all_that_is_kept_are_given_and_not_kept():
    make = Maker()
    cache = PriorCache(make, most=100)
    assert len(cache(1, 101)) == len(cache(1, 101)) == 101
    assert make.asked == [(1, 101), (1, 101)]


def test_threads_share_it():
    cache = PriorCache(Maker(), most=100)
    shapes = [(1, 10 + place % 30) for place in range(2000)]
    with ThreadPoolExecutor(8) as pool:
        assert [len(priors) for priors in pool.map(lambda shape: cache(*shape), shapes)] == [w for _, w in shapes]
