"""Calls in a process of their own: whatever becomes of that process, this one goes on and can say it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys

import pytest

from polyface.errors import Reason, UnsupportedError
from polyface.machine import processes
from polyface.machine.processes import NotBegunError, NotDoneError, call, call_noisy

SECONDS = 60

MODULE = """
import os, sys, warnings, logging
from polyface.errors import Reason, UnsupportedError

class StrangeError(Exception):
    def __init__(self, one, two): super().__init__(f"{one} and {two}")

def echo(*values):
    return values

def print_in_every_way(value):
    print("by print")
    os.write(1, b"to descriptor 1\\n")
    os.write(2, b"to descriptor 2\\n")
    warnings.warn("a warning")
    logging.warning("a record")
    return value

def refuse():
    raise UnsupportedError("Not so.", [Reason(subject="gpu", why="none is here", fix="buy one")])

def raise_a_strangers():
    raise StrangeError(1, 2)

def return_what_does_not_pickle():
    return lambda: None

def abort():
    print("the last words", flush=True)
    os.abort()

def read_stdin():
    return sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "processes_test_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


def test_what_the_function_returns_comes_back(tmp_path):
    reason = Reason(subject="a", why="b")
    assert call("processes_test_module:echo", 1, tmp_path, reason) == (1, tmp_path, reason)


@pytest.mark.parametrize("seconds", [None, SECONDS])
def test_what_it_prints_is_caught(capfd, seconds):
    assert call("processes_test_module:print_in_every_way", "value", seconds=seconds) == "value"
    assert capfd.readouterr() == ("", "")


def test_what_it_prints_is_logged_at_level_debug(caplog):
    caplog.set_level(logging.DEBUG, "polyface")
    call("processes_test_module:print_in_every_way", "value")
    [record] = caplog.records
    assert (record.name, record.levelno) == ("polyface.machine.processes", logging.DEBUG)
    for said in ("by print", "to descriptor 1", "to descriptor 2", "a warning", "a record"):
        assert said in record.getMessage()


def test_polyfaces_errors_come_back_as_they_are():
    with pytest.raises(UnsupportedError) as caught:
        call("processes_test_module:refuse")
    assert caught.value.what == "Not so."
    assert caught.value.reasons == (Reason(subject="gpu", why="none is here", fix="buy one"),)


def test_pythons_errors_come_back_as_they_are():
    with pytest.raises(ValueError, match=r"^invalid literal for int\(\) with base 10: 'not a number'$"):
        call("builtins:int", "not a number")


def test_a_strangers_error_comes_back_by_its_name():
    with pytest.raises(RuntimeError, match=r"^StrangeError: 1 and 2$"):
        call("processes_test_module:raise_a_strangers")


def test_an_error_has_what_was_printed_as_a_note(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        call("runpy:run_path", str(tmp_path / "none.py"))
    assert not hasattr(caught.value, "__notes__")
    (tmp_path / "program.py").write_text("print('so far')\n{}['key']\n")
    with pytest.raises(KeyError) as caught:
        call("runpy:run_path", str(tmp_path / "program.py"))
    assert caught.value.__notes__ == ["printed last, in a process of its own: so far"]


def test_what_does_not_pickle_is_said():
    with pytest.raises(NotDoneError, match=r"status 1, and printed last: (?s:.)*pickle"):
        call("processes_test_module:return_what_does_not_pickle")


def test_there_is_nothing_to_read_on_standard_input():
    assert call("processes_test_module:read_stdin") == ""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals on Windows")
@pytest.mark.parametrize(("function", "name"), [("os:abort", "SIGABRT"), ("faulthandler:_sigsegv", "SIGSEGV")])
def test_a_process_that_crashes_is_named_by_its_signal(function, name):
    with pytest.raises(NotDoneError, match=rf"^its process ended with signal {int(signal.Signals[name])}, {name}$"):
        call(function, seconds=SECONDS)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals on Windows")
def test_a_process_that_crashes_has_its_last_words_repeated():
    with pytest.raises(
        NotDoneError, match=r"^its process ended with signal 6, SIGABRT, and printed last: the last words$"
    ):
        call("processes_test_module:abort")


@pytest.mark.parametrize("status", [0, 7])
def test_a_library_that_ends_the_process_was_not_done(status):
    with pytest.raises(NotDoneError, match=rf"^its process ended with status {status}$"):
        call("os:_exit", status, seconds=SECONDS)


@pytest.mark.parametrize(
    ("function", "arguments"),
    # The second never lets another thread of Python run.
    [("time:sleep", [600]), ("re:fullmatch", ["(a+)+b", "a" * 60])],
)
def test_a_process_without_end_is_ended(function, arguments):
    with pytest.raises(NotDoneError, match=r"^it was not done within 0 seconds$"):
        call(function, *arguments, seconds=0.3)


def test_one_that_does_not_even_begin_is_ended_from_outside(monkeypatch):
    monkeypatch.setattr(processes, "_CHILD", "import time; time.sleep(600)")
    monkeypatch.setattr(processes, "START", 0.3)
    with pytest.raises(NotDoneError, match=r"^its process was not done after 0 seconds$"):
        call("builtins:len", seconds=0.2)


@pytest.mark.parametrize("function", ["no_such_module:f", "processes_test_module:no_such_function"])
def test_what_cannot_be_imported_there_is_named(function):
    with pytest.raises(NotBegunError, match=r"^a process of its own did not begin: (?s:.)*no_such_"):
        call(function)


@pytest.mark.parametrize("executable", ["", None, "/opt/app/my-program", "/usr/bin/uwsgi"])
def test_a_program_that_is_no_python_is_not_started_again(monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(NotBegunError, match="is no Python interpreter"):
        call("builtins:len", "a")


def test_a_frozen_program_is_not_started_again(monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(NotBegunError, match="is no Python interpreter"):
        call("builtins:len", "a")


def test_a_python_that_is_gone_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    with pytest.raises(NotBegunError, match="FileNotFoundError"):
        call("builtins:len", "a")


def test_a_noisy_function_is_called_in_a_process_of_its_own(capfd):
    assert call_noisy("os:getppid") == os.getpid()
    assert call_noisy("processes_test_module:print_in_every_way", "value") == "value"
    assert capfd.readouterr() == ("", "")


def test_a_noisy_function_is_called_here_where_the_program_is_no_python_and_the_log_says_so(monkeypatch, caplog):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    caplog.set_level(logging.INFO, "polyface")
    assert call_noisy("os:getpid") == os.getpid()
    assert caplog.messages == [
        f"os:getpid runs in this process, and may print: {sys.executable} is no Python interpreter"
    ]


def test_neither_the_main_module_nor_the_current_folder_takes_part(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "json.py").write_text("raise SystemExit('the current folder was imported')")
    (tmp_path / "below" / "pickle.py").write_text("raise SystemExit('the current folder was imported')")
    (tmp_path / "main.py").write_text(
        "print('once')\nfrom polyface.machine.processes import call\nprint(call('builtins:len', 'four'))\n"
    )
    done = subprocess.run(
        [sys.executable, "../main.py"], cwd=tmp_path / "below", capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("once\n4\n", "")
