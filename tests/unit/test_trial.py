"""Graphs that anybody may have made are tried in a process of their own before this one takes them."""

from __future__ import annotations

import pytest

from polyface.errors import ArtifactError
from polyface.graphs import trial
from polyface.graphs.trial import try_first
from polyface.machine.processes import NotBegunError, NotDoneError
from polyface.plugins.protocols import Graph

CRASHED = NotDoneError("its process ended with signal 11, SIGSEGV")


@pytest.fixture
def graph(tmp_path, detector_spec):
    path = tmp_path / "toy.onnx"
    path.write_bytes(b"graph")
    return Graph(kind="onnx", source=path, detector=detector_spec, trusted=False)


@pytest.fixture
def process(monkeypatch):
    """What is called in it, and what it raises."""

    class Process:
        raises = None

        def __init__(self):
            self.calls = []

        def call(self, *arguments, seconds):
            self.calls.append((*arguments, seconds))
            if self.raises is not None:
                raise self.raises

    process = Process()
    monkeypatch.setattr(trial, "call", process.call)
    return process


@pytest.mark.parametrize("raises", [None, RuntimeError("it is no graph")], ids=["returns", "raises"])
def test_what_stood_it_is_not_tried_again(graph, process, raises):
    process.raises = raises
    for _ in range(2):
        try_first(graph, "runtime:load", "fp32", [1, 3], version="1")
    assert process.calls == [("runtime:load", str(graph.source), "fp32", [1, 3], 10 + 5e-6)]


@pytest.mark.parametrize("other", ["graph", "arguments", "version", "function"])
def test_anything_else_is_tried(graph, process, other):
    try_first(graph, "runtime:load", "fp32", version="1")
    if other == "graph":
        graph.source.write_bytes(b"grapg")
    try_first(
        graph,
        "runtime:take" if other == "function" else "runtime:load",
        "int8" if other == "arguments" else "fp32",
        version="2" if other == "version" else "1",
    )
    assert len(process.calls) == 2


def test_what_did_not_stand_it_is_refused_and_tried_again(graph, process):
    process.raises = CRASHED
    for _ in range(2):
        with pytest.raises(ArtifactError) as caught:
            try_first(graph, "runtime:load", version="1")
    assert caught.value.what == (
        f"The graph {graph.source} is not used: in a trial, its process ended with signal 11, SIGSEGV."
    )
    assert str(caught.value.fix).endswith("and leave out artifacts; or: name another file as weights or detector")
    assert len(process.calls) == 2


def test_what_cannot_be_tried_is_refused_with_the_reason(graph, process):
    process.raises = NotBegunError("this program, app, is no Python interpreter")
    with pytest.raises(ArtifactError, match="cannot be tried in a process of its own") as caught:
        try_first(graph, "runtime:load", version="1")
    assert caught.value.why == ("this program, app, is no Python interpreter",)


def test_a_home_that_cannot_be_written_to_costs_the_memory_alone(graph, process, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("POLYFACE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        try_first(graph, "runtime:load", version="1")
    assert len(process.calls) == 2
