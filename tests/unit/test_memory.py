"""When a process is trimmed: after runs at new shapes, where it has grown, and not otherwise."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyface.machine import memory as trimming
from polyface.machine.memory import RECENT, Trimmer, give_back, resident_memory


class Process:
    """Holds what a test says; trimmed, it holds what it needs."""

    def __init__(self):
        self.needs = self.held = 100
        self.trims = 0
        self.trimmer = Trimmer(lambda: self.held, self.trim)

    def trim(self):
        self.held = min(self.held, self.needs)
        self.trims += 1

    def run(self, shape, held):
        """Run at a shape, after which so much is held; return how often it was trimmed so far."""
        self.held = held
        self.trimmer.ran((1, 3, shape, 32))
        return self.trims


@pytest.fixture
def process():
    return Process()


def test_the_first_run_trims_to_know_what_is_needed_and_others_only_beyond_a_tenth_of_it(process):
    assert process.run(1, 200) == 1
    assert process.run(2, 110) == 1
    assert process.run(3, 111) == 2


def test_where_more_is_needed_more_may_be_held(process):
    process.run(1, 200)
    process.needs = 300
    assert process.run(2, 320) == 2
    assert process.run(3, 330) == 2
    assert process.run(4, 331) == 3


def test_a_shape_that_keeps_coming_is_trimmed_after_its_first_three_runs_and_no_more(process):
    assert [process.run(1, 900) for _ in range(5)] == [1, 2, 3, 3, 3]
    for shape in range(10, 10 + RECENT - 1):
        process.run(shape, 100)
    assert process.run(1, 900) == 3  # one of the latest 32
    for shape in range(10, 10 + RECENT):
        process.run(shape, 100)
    assert process.run(1, 900) == 4  # forgotten by then, and new


@given(st.lists(st.integers(100, 1000), min_size=1, max_size=60))
def test_after_a_run_at_a_new_shape_never_more_is_held_than_a_tenth_beyond_what_is_needed(held):
    process = Process()
    for shape, size in enumerate(held):
        process.run(shape, size)
        assert process.held <= 1.1 * process.needs


def test_where_the_system_does_not_say_nothing_is_trimmed(monkeypatch):
    monkeypatch.setattr(trimming, "Path", lambda _: Path("/no/such/file"))
    assert resident_memory() == 0
    trims = []
    trimmer = Trimmer(resident_memory, lambda: trims.append(1))
    for shape in range(50):
        trimmer.ran((shape,))
    assert trims == []


def test_resident_memory_is_what_the_system_says():
    if resident_memory() == 0:
        pytest.skip("only Linux says")
    before = resident_memory()
    block = bytearray(64 * 1024 * 1024)
    assert 0.9 < (resident_memory() - before) / len(block) < 1.5


class TestGiveBack:
    @pytest.mark.parametrize("error", [OSError, AttributeError, TypeError])
    def test_a_c_library_that_cannot_be_told_is_left_alone(self, monkeypatch, error):
        def library(_):
            raise error

        monkeypatch.setattr(ctypes, "CDLL", library)
        give_back()

    def test_glibc_is_told_to_keep_nothing_at_the_top(self, monkeypatch):
        told = []

        class Library:
            @staticmethod
            def malloc_trim(padding):
                told.append((type(padding), padding.value))

        monkeypatch.setattr(ctypes, "CDLL", lambda _: Library)
        give_back()
        assert told == [(ctypes.c_size_t, 0)]
