"""Where the time goes: seconds by stage, of each image alone.

The network here reads its answer off the image: see toy_network.py.
"""

from __future__ import annotations

import time
import types
from concurrent.futures import ThreadPoolExecutor

import pytest

from polyface.pipeline import timing
from toy_network import make_image


class TestTiming:
    """On a clock that is a second later each time one looks: a stage takes as many seconds as it has laps."""

    @pytest.fixture
    def looks(self, monkeypatch):
        """The times at which anyone looked at the clock."""
        looks = []

        def perf_counter():
            looks.append(len(looks))
            return float(looks[-1])

        monkeypatch.setattr(timing, "time", types.SimpleNamespace(perf_counter=perf_counter))
        return looks

    def test_unless_asked_for_there_is_none_and_nobody_looks_at_the_clock(self, make, looks):
        detector = make()
        assert detector.detect(make_image(5)).timing is None
        assert [found.timing for found in detector.detect_batch([make_image(5)] * 2)] == [None, None]
        assert looks == []

    def test_the_stages_of_one_image_add_up_to_the_call(self, make, looks):
        found = make(timing=True).detect(make_image(5))
        # Scores are made before candidates are decoded; a view's own NMS comes before that of the image.
        assert found.timing == {"read": 1, "prepare": 1, "network": 1, "trim": 0, "decode": 2, "nms": 2}
        assert list(found.timing) == list(timing.STAGES)
        assert sum(found.timing.values()) == len(looks) / 2

    def test_images_that_share_a_run_of_the_network_share_its_seconds(self, make, looks):
        found = make(timing=True).detect_batch([make_image(5), make_image(6), make_image(7, height=90)])
        shared = {"read": 1, "prepare": 0.5, "network": 0.5, "trim": 0, "decode": 1.5, "nms": 2}
        alone = {"read": 1, "prepare": 1, "network": 1, "trim": 0, "decode": 2, "nms": 2}
        assert [faces.timing for faces in found] == [shared, shared, alone]
        assert sum(sum(faces.timing.values()) for faces in found) == len(looks) / 2

    @pytest.mark.usefixtures("looks")
    def test_the_views_of_an_image_add_up_to_its_seconds(self, make):
        # Both views go through the network together; a run of the next shape is another.
        found = make(timing=True, flip=True, clip=True).detect(make_image(5))
        assert found.timing == {"read": 1, "prepare": 1, "network": 1, "trim": 0, "decode": 3, "nms": 3}
        found = make(timing=True, scales=(1, 4)).detect(make_image(5))
        assert found.timing == {"read": 1, "prepare": 2, "network": 2, "trim": 0, "decode": 4, "nms": 3}

    def test_what_is_found_is_the_same(self, make):
        assert make(timing=True).detect(make_image(5)) == make().detect(make_image(5))

    def test_calls_in_threads_do_not_count_each_others_seconds(self, make):
        detector = make(timing=True)

        def call(_):
            started = time.perf_counter()
            faces = detector.detect(make_image(5))
            return sum(faces.timing.values()), time.perf_counter() - started

        with ThreadPoolExecutor(4) as pool:
            for counted, passed in pool.map(call, range(40)):
                assert 0 < counted <= passed
