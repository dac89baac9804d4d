"""The gate: no fork and no end of the process in the middle of a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from polyface.errors import BackendUnavailableError
from polyface.machine import gate
from polyface.machine.gate import Gate

LONG = 30
"""Seconds after which a test gives up, where something waits that should not."""

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


class Other:
    """Another thread, which does one thing after the other as it is told."""

    def __init__(self):
        self.thread, self.results = None, []

    def start(self, *steps):
        def work():
            for step in steps:
                self.results.append(step())

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()
        return self

    def join(self):
        self.thread.join(LONG)
        assert not self.thread.is_alive()
        return self.results


def enter(gate, meanwhile=lambda: None):
    with gate:
        return meanwhile()


def until_closed(gate):
    """Wait until somebody has begun to close it."""
    with gate._changed:
        assert gate._changed.wait_for(lambda: gate._closed_by is not None, LONG)


def test_many_threads_are_in_it_at_once():
    gate, all_in = Gate(), threading.Barrier(3)
    others = [Other().start(lambda: enter(gate, lambda: all_in.wait(LONG))) for _ in range(3)]
    assert sorted(other.join()[0] for other in others) == [0, 1, 2]


def test_closing_waits_for_a_run_under_way():
    gate, inside, order = Gate(LONG), threading.Event(), []

    def run():
        inside.set()
        until_closed(gate)
        order.append("run")

    other = Other().start(lambda: enter(gate, run))
    assert inside.wait(LONG)
    assert gate.close()
    assert order == ["run"]
    other.join()


def test_while_it_is_closed_nobody_else_enters_and_then_everybody_does():
    gate, order = Gate(), []
    gate.close()
    trying = threading.Event()

    def wait(kept=gate._changed.wait):
        trying.set()
        return kept()

    gate._changed.wait = wait
    other = Other().start(lambda: enter(gate, lambda: order.append("run")))
    assert trying.wait(LONG)
    order.append("opened")
    gate.open()
    other.join()
    assert order == ["opened", "run"]


def test_a_run_within_a_run_is_let_in_while_it_is_closed():
    gate, inside = Gate(LONG), threading.Event()

    def run():
        inside.set()
        until_closed(gate)
        return enter(gate, lambda: "inner")

    other = Other().start(lambda: enter(gate, run))
    assert inside.wait(LONG)
    assert gate.close()
    assert other.join() == ["inner"]


def test_whoever_closed_it_may_enter():
    gate = Gate()
    gate.close()
    assert enter(gate, lambda: "run") == "run"


def test_a_run_that_closes_it_does_not_wait_for_itself():
    gate = Gate(LONG)
    with gate:
        assert gate.close()
        gate.open()
    assert Other().start(lambda: enter(gate, lambda: "run")).join() == ["run"]


def test_two_runs_that_close_it_do_not_wait_for_each_other():
    gate, both = Gate(LONG), threading.Barrier(2)

    def fork():
        both.wait(LONG)
        closed = gate.close()
        gate.open()
        return closed

    others = [Other().start(lambda: enter(gate, fork)) for _ in range(2)]
    assert [other.join() for other in others] == [[True], [True]]
    assert not gate._inside


def test_a_run_without_end_is_not_waited_for_without_end():
    gate, inside, end = Gate(patience=0.01, settle=0), threading.Event(), threading.Event()
    other = Other().start(lambda: enter(gate, lambda: (inside.set(), end.wait(LONG))))
    assert inside.wait(LONG)
    with pytest.warns(RuntimeWarning, match=r"A fork waited 0\.01 s for networks that run in other threads"):
        gate.before_fork()
    gate.open()
    with pytest.warns(RuntimeWarning, match=r"waited 0\.01 s .* ends without them"):
        gate.end()
    end.set()
    other.join()


def test_after_its_end_no_fork_opens_it_again_but_in_the_child_it_is_as_new():
    gate = Gate(settle=0)
    gate.end()
    gate.before_fork()
    gate.open()
    assert gate._closed_by == threading.get_ident()
    gate.renew()
    gate.before_fork()
    gate.open()
    assert gate._closed_by is None


def test_an_error_within_a_run_leaves_it_open():
    gate = Gate(patience=0)
    with pytest.raises(KeyError), gate:
        raise KeyError
    assert gate.close()


def test_a_fork_lets_the_threads_of_a_runtime_go_to_sleep(monkeypatch):
    now, slept = [100.0], []
    monkeypatch.setattr("polyface.machine.gate.time.monotonic", lambda: now[0])
    monkeypatch.setattr("polyface.machine.gate.time.sleep", slept.append)
    gate = Gate(settle=0.5)
    gate.before_fork()
    enter(gate)
    now[0] = 100.25
    gate.before_fork()
    now[0] = 101.0
    gate.before_fork()
    assert slept == [0, 0.25, 0]


def child(work):
    """Fork, do ``work`` in the child, and return its exit status: 0 if it gave something true."""
    process = os.fork()
    if process == 0:
        signal.alarm(LONG)
        os._exit(0 if work() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@forks
def test_a_fork_waits_for_a_run_and_the_child_is_free_to_run():
    inside, order = threading.Event(), []

    def run():
        inside.set()
        until_closed(gate.runs)
        order.append("run")

    other = Other().start(lambda: enter(gate.runs, run))
    assert inside.wait(LONG)
    assert child(lambda: order == ["run"] and enter(gate.runs, lambda: True)) == 0
    other.join()
    assert Other().start(lambda: enter(gate.runs, lambda: "again")).join() == ["again"]


@forks
def test_a_run_may_fork():
    def run():
        with gate.runs:
            return child(lambda: enter(gate.runs, lambda: True))

    assert run() == 0
    assert not gate.runs._inside


class Native:
    """What waits for its threads when it is destroyed."""

    destroyed = False

    def __del__(self):
        Native.destroyed = True


@forks
def test_what_cannot_end_in_a_child_is_kept_there_and_destroyed_in_the_parent():
    native = Native()
    gate.keep_in_children(native)
    native_in_child = [native]
    del native

    def drop():
        native_in_child.clear()
        return not Native.destroyed

    assert child(drop) == 0
    native_in_child.clear()
    assert Native.destroyed


@forks
def test_what_does_not_survive_a_fork_is_refused_in_the_child_alone():
    here = os.getpid()

    def refused():
        try:
            gate.refuse_in_child(here, "The runtime", "its threads stay behind", "stand still")
        except BackendUnavailableError as error:
            return error.why == ("its threads stay behind",) and str(error.fix).endswith("; or: stand still")
        return False

    assert not refused()
    assert child(refused) == 0


ENDING = """
import threading
from polyface.machine import gate

inside = threading.Event()

def work():
    with gate.runs:
        inside.set()
        with gate.runs._changed:
            gate.runs._changed.wait_for(lambda: gate.runs._closed_by is not None)
        print("ended", flush=True)
    with gate.runs:
        print("another", flush=True)

threading.Thread(target=work, daemon=True).start()
inside.wait()
"""


def test_the_process_ends_after_the_runs_of_daemon_threads_and_lets_no_other_begin():
    done = subprocess.run([sys.executable, "-c", ENDING], check=False, capture_output=True, text=True, timeout=LONG)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


LAST = """
import atexit
atexit.register(lambda: detect())
from polyface.machine import gate
gate.close_first_at_exit()
def detect():
    with gate.runs:
        print("detected", flush=True)
"""


def test_what_the_program_does_at_its_end_may_still_detect():
    done = subprocess.run([sys.executable, "-c", LAST], check=False, capture_output=True, text=True, timeout=LONG)
    assert (done.returncode, done.stdout, done.stderr) == (0, "detected\n", "")
