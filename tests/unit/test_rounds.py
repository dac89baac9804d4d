"""Benchmarks: what is computed from times, and what becomes of a contender in a process of its own."""

from __future__ import annotations

import functools
import re
import sys

import numpy as np
import pytest
from attrs import evolve
from PIL import Image

import polyface.measure.rounds
from polyface.machine.cores import usable_cores
from polyface.measure.rounds import Contender, Measurement, Samples, machine, measure, take_turns

ONE = Samples(size=(2, 3), batch=1)


def contender(code, label="toy", samples=ONE):
    """One whose ``make`` is an expression: a builtin pickles, whatever process it goes to."""
    return Contender(label=label, make=functools.partial(eval, code), samples=samples)


def measurement(*seconds, batch=1):
    return Measurement(contender=contender("", samples=Samples(size=(2, 3), batch=batch)), seconds=seconds)


class TestArithmetic:
    def test_quartiles_are_those_of_the_rounds(self):
        assert measurement(5.0, 1.0, 4.0, 2.0, 3.0).quartiles == (2, 3, 4)
        assert measurement(0.5).quartiles == (0.5, 0.5, 0.5)

    def test_a_batch_gives_as_many_images_a_call(self):
        assert measurement(0.5, 0.25, 2.0, batch=4).images_per_second == 8

    def test_a_ratio_is_taken_round_by_round(self):
        slow_machine = 10
        first = measurement(2.0, 2.0 * slow_machine, 2.0)
        second = measurement(1.0, 1.0 * slow_machine, 4.0)
        # 2, 2 and 0.5 times as fast.
        assert second.times_as_fast(first) == 2
        assert first.times_as_fast(second) == 0.5

    def test_a_ratio_is_of_images_not_of_calls(self):
        assert measurement(2.0, batch=8).times_as_fast(measurement(1.0, batch=2)) == 2

    def test_rounds_that_only_one_has_do_not_count(self):
        assert measurement(1.0, 7.0).times_as_fast(measurement(3.0)) == 3

    def test_what_is_slower_in_three_rounds_of_four_is_slower_and_what_sways_is_not(self):
        assert measurement(3.0, 3.0, 3.0, 1.0).is_slower(measurement(2.0, 2.0, 2.0, 2.0))
        assert not measurement(3.0, 3.0, 1.0, 1.0).is_slower(measurement(2.0, 2.0, 2.0, 2.0))
        assert not measurement(2.0, 2.0).is_slower(measurement(2.0, 2.0))

    def test_calls_take_turns_and_every_other_round_goes_backwards(self, monkeypatch):
        now, order = [0.0], []
        monkeypatch.setattr(polyface.measure.rounds.time, "perf_counter", lambda: now[0])

        def call(name, seconds):
            order.append(name)
            now[0] += seconds

        seconds = take_turns([lambda: call("a", 2.0), lambda: call("b", 0.5)], rounds=3)
        assert order == ["a", "b", "b", "a", "a", "b"]
        assert seconds == [[2, 2, 2], [0.5, 0.5, 0.5]]


class TestSamples:
    def test_noise_has_the_size_and_the_batch_and_is_the_same_every_round(self):
        samples = Samples(size=(20, 30), batch=2, seed=5)
        assert [image.shape for image in samples.images(0)] == [(20, 30, 3)] * 2
        np.testing.assert_array_equal(samples.images(0), samples.images(3))
        assert not np.array_equal(samples.images(0), Samples(size=(20, 30), batch=2, seed=6).images(0))

    @pytest.fixture
    def paths(self, tmp_path):
        """Five grey images of 10 by 8 pixels; the number is the grey."""
        paths = tuple(tmp_path / f"{grey}.png" for grey in range(5))
        for grey, path in enumerate(paths):
            Image.new("RGB", (10, 8), (grey, grey, grey)).save(path)
        return paths

    def test_files_come_in_turn_and_again_from_the_first(self, paths):
        samples = Samples(size=None, batch=2, paths=paths)
        greys = [[int(image[0, 0, 0]) for image in samples.images(number)] for number in range(4)]
        assert greys == [[0, 1], [2, 3], [4, 0], [1, 2]]

    def test_files_are_brought_to_a_size_or_left_as_they_are(self, paths):
        assert Samples(size=None, batch=1, paths=paths).images(0)[0].shape == (8, 10, 3)
        assert Samples(size=(16, 5), batch=1, paths=paths).images(0)[0].shape == (16, 5, 3)


class TestProcesses:
    def test_a_time_a_round_and_the_facts_come_back(self):
        [found], interrupted = measure([contender("(len, {'device': 'cpu'})")], rounds=3)
        assert (len(found.seconds), interrupted, found.why) == (3, False, "")
        assert found.facts == {"device": "cpu"}
        assert all(0 < seconds < 0.01 for seconds in found.seconds)
        assert 0 < found.first_call < 1
        assert found.load >= 0

    def test_what_the_first_call_of_each_round_returned_comes_back_where_it_is_kept(self):
        code = "(lambda _, n=[]: n.append(1) or n[-1:], {})"
        kept, _ = measure([evolve(contender(code), keep=True), contender(code)], rounds=2)
        assert [one.results for one in kept] == [([1], [1]), ()]

    def test_all_take_turns_and_every_other_round_goes_backwards(self, tmp_path):
        path = tmp_path / "calls"
        code = "(lambda images: open({!r}, 'a').write({!r}), {{}})"
        measure([contender(code.format(str(path), letter)) for letter in "ab"], rounds=3)
        # First calls ab; the rounds ab, ba, ab; the new shapes ab. A turn is many calls, which count as one here.
        assert re.sub(r"(.)\1+", r"\1", path.read_text()) == "ab" + "a" + "b" + "a" + "b" + "ab"

    @pytest.mark.parametrize(
        ("code", "why"),
        [
            ("1 / 0", "ZeroDivisionError: division by zero"),
            ("(lambda images: images[1], {})", "IndexError: list index out of range"),
            ("__import__('os')._exit(3)", "its process ended with status 3"),
            ("__import__('os').kill(__import__('os').getpid(), 9)", "its process was killed by SIGKILL"),
            # The third call fails: that is in the first turn.
            ("(lambda _, n=[]: n.append(1) or 1 / (3 - len(n)), {})", "ZeroDivisionError: division by zero"),
        ],
    )
    def test_one_that_fails_says_why_and_the_others_go_on(self, code, why):
        (bad, good), _ = measure([contender(code), contender("(len, {})")], rounds=2)
        assert (bad.why, bad.seconds) == (why, ())
        assert (good.why, len(good.seconds)) == ("", 2)

    def test_where_memory_runs_out_it_says_what_to_lower(self):
        [found], _ = measure([contender("__import__('os').kill(__import__('os').getpid(), 9)")], rounds=1)
        assert str(found.fix).startswith("lower the sizes or batches")

    def test_what_a_runtime_prints_does_not_reach_standard_output(self, capfd):
        measure([contender("(print, {})")], rounds=1)
        assert capfd.readouterr().out == ""

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from Linux's /proc")
    def test_peak_memory_is_that_of_each_alone(self):
        hungry = contender("(lambda images: len(bytearray(b'x') * 400_000_000), {})")
        (much, little), _ = measure([hungry, contender("(len, {})")], rounds=1)
        assert 400e6 < much.peak_memory < 600e6
        assert little.peak_memory < 300e6

    def test_after_an_interruption_the_rounds_until_then_come_back(self):
        left = iter([None] * 3)

        def advance():
            if next(left, "over") == "over":
                raise KeyboardInterrupt

        found, interrupted = measure([contender("(len, {})")] * 2, rounds=5, advance=advance)
        assert interrupted
        assert [len(one.seconds) for one in found] == [2, 2]
        assert found[0].peak_memory is None

    def test_one_that_an_interruption_kept_from_its_first_turn_says_so(self):
        def advance():
            raise KeyboardInterrupt

        found, interrupted = measure([contender("(len, {})")] * 2, rounds=5, advance=advance)
        assert interrupted
        assert [(len(one.seconds), one.why) for one in found] == [(1, ""), (0, "interrupted")]


def test_the_machine_says_when_on_what_and_how_busy(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = machine()
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found["date"])
    assert found["usable_cores"] == usable_cores()
    assert 1 <= found["usable_cores"] <= found["cores"]
    assert found["environment"]["OMP_NUM_THREADS"] == "3"
    assert {"cpu", "load", "system", "python", "polyface"} <= found.keys()
