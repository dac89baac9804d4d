"""``-v``, before the command and after it: what the library logs, on standard error."""

from __future__ import annotations

import logging

import pytest

from polyface import building

RUNS = "'example-redbox' runs on numpy, cpu, fp32: numpy"


@pytest.fixture
def logged(polyface, image):
    """What a run says of the log, by these options before the command and after it."""
    path = image("a.png")

    def logged(before=(), after=()):
        result = polyface(*before, "detect", path, "--json", *after)
        assert result.exit_code == 0
        assert RUNS not in result.stdout
        return [line for line in result.stderr.splitlines() if line.startswith(("info: ", "debug: "))]

    return logged


def test_without_it_nothing_of_it_is_said(logged):
    assert logged() == []


@pytest.mark.parametrize(("before", "after"), [(["-v"], []), ([], ["-v"]), ([], ["--verbose"])])
def test_once_it_says_what_is_done(logged, before, after):
    assert logged(before, after) == [f"info: {RUNS}"]


@pytest.mark.parametrize(("before", "after"), [(["-vv"], []), ([], ["-vv"]), (["-v"], ["-v"])])
def test_twice_it_says_what_is_logged_for_debugging_too(logged, monkeypatch, before, after):
    monkeypatch.setattr(building.LOG, "info", building.LOG.debug)
    assert logged(before, after) == [f"debug: {RUNS}"]
    assert logged([], ["-v"]) == []


def test_the_level_of_the_log_is_the_callers_again(logged):
    logged([], ["-vv"])
    assert logging.getLogger("polyface").level == logging.NOTSET
