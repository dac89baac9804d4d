"""Trials in a process of their own: whatever becomes of that process, this one goes on and can say it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from polyface.errors import ArtifactError
from polyface.graphs import trial as apart
from polyface.graphs.trial import call, try_first
from polyface.plugins.protocols import Graph

SECONDS = 60


@pytest.mark.parametrize(
    ("function", "arguments"),
    [("builtins:len", ["four"]), ("builtins:int", ["not a number"]), ("builtins:print", ["hello"])],
    ids=["returns", "raises", "prints"],
)
def test_a_process_that_ends_by_itself_is_no_problem_and_says_nothing(capfd, function, arguments):
    assert call(function, *arguments, seconds=SECONDS) is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals on Windows")
@pytest.mark.parametrize(("function", "name"), [("os:abort", "SIGABRT"), ("faulthandler:_sigsegv", "SIGSEGV")])
def test_a_process_that_crashes_is_named_by_its_signal(function, name):
    assert call(function, seconds=SECONDS) == f"its process ended with signal {int(signal.Signals[name])}, {name}"


@pytest.mark.parametrize("status", [0, 7])
def test_a_runtime_that_ends_the_process_did_not_end_by_itself(status):
    assert call("os:_exit", status, seconds=SECONDS) == f"its process ended with status {status}"


@pytest.mark.parametrize(
    ("function", "argument"),
    # The second never lets another thread of Python run.
    [("time:sleep", 600), ("re:fullmatch", None)],
)
def test_a_process_without_end_is_ended(function, argument):
    arguments = ["(a+)+b", "a" * 60] if argument is None else [argument]
    assert call(function, *arguments, seconds=0.3) == "it was not loaded and run within 0 seconds"


def test_one_that_does_not_even_begin_is_ended_from_outside(monkeypatch):
    monkeypatch.setattr(apart, "_CHILD", "import time; time.sleep(600)")
    monkeypatch.setattr(apart, "START", 0.3)
    assert call("builtins:len", seconds=0.2) == "its process was not done after 0 seconds"


def test_what_cannot_be_imported_there_is_named():
    with pytest.raises(ArtifactError, match="cannot be tried") as caught:
        call("no_such_module:f", seconds=SECONDS)
    [why] = caught.value.why
    assert why.startswith("a process of its own did not begin: ")
    assert "no_such_module" in why


@pytest.mark.parametrize("executable", ["", None, "/opt/app/my-program", "/usr/bin/uwsgi"])
def test_a_program_that_is_no_python_is_not_started_again(monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(ArtifactError, match="is no Python interpreter"):
        call("builtins:len", "a", seconds=SECONDS)


def test_a_frozen_program_is_not_started_again(monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(ArtifactError, match="is no Python interpreter"):
        call("builtins:len", "a", seconds=SECONDS)


def test_a_python_that_is_gone_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    with pytest.raises(ArtifactError, match="FileNotFoundError"):
        call("builtins:len", "a", seconds=SECONDS)


def test_neither_the_main_module_nor_the_current_folder_takes_part(tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit('the current folder was imported')")
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "main.py").write_text(
        "print('once')\nfrom polyface.graphs.trial import call\nprint(call('builtins:len', 'a', seconds=60))\n"
    )
    done = subprocess.run([sys.executable, "script/main.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("once\nNone\n", "")


def test_modules_are_found_where_this_process_finds_them(tmp_path, monkeypatch):
    (tmp_path / "apart_test_runtime.py").write_text(
        "from pathlib import Path\ndef load(path):\n    Path(path).touch()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert call("apart_test_runtime:load", str(tmp_path / "loaded"), seconds=SECONDS) is None
    assert (tmp_path / "loaded").exists()


class TestTryFirst:
    @pytest.fixture
    def graph(self, tmp_path, detector_spec):
        path = tmp_path / "toy.onnx"
        path.write_bytes(b"graph")
        return Graph(kind="onnx", source=path, detector=detector_spec, trusted=False)

    @pytest.fixture
    def calls(self, monkeypatch):
        """What is called, and how it ends."""
        calls = []
        monkeypatch.setattr(apart, "call", lambda *a, seconds: calls.append((*a, seconds)) or self.ending)
        return calls

    ending = None

    def test_what_stood_it_is_not_tried_again(self, graph, calls):
        for _ in range(2):
            try_first(graph, "runtime:load", "fp32", [1, 3], version="1")
        assert calls == [("runtime:load", str(graph.source), "fp32", [1, 3], 10 + 5e-6)]

    @pytest.mark.parametrize("other", ["graph", "arguments", "version", "function"])
    def test_anything_else_is_tried(self, graph, calls, other):
        try_first(graph, "runtime:load", "fp32", version="1")
        if other == "graph":
            graph.source.write_bytes(b"grapg")
        try_first(
            graph,
            "runtime:take" if other == "function" else "runtime:load",
            "int8" if other == "arguments" else "fp32",
            version="2" if other == "version" else "1",
        )
        assert len(calls) == 2

    def test_what_did_not_stand_it_is_refused_and_tried_again(self, graph, calls, monkeypatch):
        monkeypatch.setattr(type(self), "ending", "its process ended with signal 11, SIGSEGV")
        for _ in range(2):
            with pytest.raises(ArtifactError) as caught:
                try_first(graph, "runtime:load", version="1")
        assert caught.value.what == (
            f"The graph {graph.source} is not used: in a trial, its process ended with signal 11, SIGSEGV."
        )
        assert str(caught.value.fix).startswith("leave out --artifacts")
        assert len(calls) == 2

    def test_a_home_that_cannot_be_written_to_costs_the_memory_alone(self, graph, calls, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("POLYFACE_HOME", str(tmp_path / "file"))
        for _ in range(2):
            try_first(graph, "runtime:load", version="1")
        assert len(calls) == 2
