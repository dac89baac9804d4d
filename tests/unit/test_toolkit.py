"""What backends have in common, each piece by itself; that backends use it rightly is their own tests' matter."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyface.errors import BackendUnavailableError, ClosedError, ContractError, OutOfMemoryError
from polyface.plugins.protocols import Graph
from polyface.plugins.records import Ref
from polyface.plugins.toolkit import (
    Held,
    check_interface,
    failed_run,
    graph_builder,
    graph_file,
    keeping,
    one_line,
)


class TestHeld:
    def test_it_is_had_until_it_is_closed(self):
        network = object()
        held = Held(network, "Acme")
        assert held.get() is held.get() is network
        held.close()
        with pytest.raises(ClosedError) as caught:
            held.get()
        assert str(caught.value) == "This Acme session is closed.\nTo fix it: create the detector again"

    def test_close_gives_it_back_once(self):
        network = object()
        held = Held(network, "Acme")
        assert held.close() is network
        assert held.close() is None

    def test_what_a_run_got_before_stays(self):
        held = Held([1, 2], "Acme")
        got = held.get()
        held.close()
        assert got == [1, 2]


class TestGraph:
    @pytest.fixture
    def graph(self, detector_spec):
        return lambda source: Graph(kind="onnx", source=source, detector=detector_spec)

    def test_a_file_is_its_path(self, graph):
        assert graph_file(graph(Path("a.onnx"))) == Path("a.onnx")

    def test_a_builder_is_no_file(self, graph):
        with pytest.raises(ContractError) as caught:
            graph_file(graph(Ref("acme.net:build")))
        assert caught.value.what == "The onnx graph of 'toy' must be a file, not the builder acme.net:build."

    def test_a_builder_is_its_ref(self, graph):
        assert graph_builder(graph(Ref("acme.net:build"))) == Ref("acme.net:build")

    def test_a_file_is_no_builder(self, graph):
        with pytest.raises(ContractError) as caught:
            graph_builder(graph(Path("a.onnx")))
        assert caught.value.what == "The onnx graph of 'toy' must be a builder, not the file a.onnx."

    def test_the_declared_interface_passes_in_any_order(self, graph, detector_spec):
        outputs = [f"{tensor.name}: f32" for tensor in reversed(detector_spec.outputs)]
        check_interface(
            graph(Path("a.onnx")), inputs=[f"{detector_spec.input.name}: f32"], outputs=outputs, float32="f32"
        )

    def test_another_interface_is_refused_with_both(self, graph, detector_spec):
        declared = ", ".join(sorted(f"{tensor.name}: f32" for tensor in detector_spec.outputs))
        with pytest.raises(ContractError) as caught:
            check_interface(
                graph(Path("a.onnx")), inputs=[f"{detector_spec.input.name}: f32"], outputs=[], float32="f32"
            )
        assert caught.value.what == "The outputs of a.onnx are not those of the detector 'toy'."
        assert caught.value.why == ("the graph has none", f"the detector declares {declared}")


class TestErrors:
    def test_a_page_becomes_a_line_without_the_places(self):
        error = RuntimeError("Exception from src/a.cpp:12:\n  no kernel\nfor  this\n")
        assert one_line(error, "Exception from ") == "RuntimeError: no kernel for this"

    def test_a_long_line_is_cut(self):
        line = one_line(ValueError("word " * 100))
        assert len(line) <= 300
        assert line.endswith(" ...")

    @pytest.mark.parametrize(
        "why",
        [
            "InvalidArgument: Got invalid dimensions for input: image for the following indices index: 3 Got: 96",
            "Fail: The input tensor cannot be reshaped to the requested shape",
            "Fail: Attempting to broadcast an axis by a dimension other than 1. 96 by 97",
            "Fail: Input channels C is not equal to kernel channels * group.",
            "RuntimeError: the model input (shape=[1,3,64,64]) and the tensor (shape=(2.3.64.96)) are incompatible",
        ],
    )
    def test_an_error_of_shapes_says_so_and_nothing_of_memory(self, why):
        error = failed_run("Acme", (2, 3, 64, 96), "cpu", why, memory=False)
        assert (
            error.what == "Acme failed on a batch of shape (2, 3, 64, 96) on cpu: the network does not take that shape."
        )
        assert (error.why, error.fix.names) == ((why,), ("infer_size",))
        assert "memory" not in str(error)

    @pytest.mark.parametrize(("memory", "kind"), [(False, BackendUnavailableError), (True, OutOfMemoryError)])
    def test_a_failed_run_says_on_what_and_why(self, memory, kind):
        error = failed_run("Acme", (1, 3, 8, 16), "cuda:0", "no room", memory=memory)
        assert type(error) is kind
        assert error.summary == "Acme failed on a batch of shape (1, 3, 8, 16) on cuda:0: no room"
        assert error.fix.names == ("max_side",)
        assert ("if memory ran out" in str(error.fix)) is not memory

    def test_what_the_system_refuses_is_said_of_what_was_to_be_kept(self):
        with pytest.raises(BackendUnavailableError) as caught, keeping("Acme's cache", Path("home/acme")):
            raise PermissionError("no permission")
        assert caught.value.summary == (
            "There is no place for Acme's cache: home/acme cannot be written to: no permission"
        )
        assert str(caught.value.fix) == "set POLYFACE_HOME to a folder that can be written to"

    def test_what_can_do_without_says_how(self):
        with pytest.raises(BackendUnavailableError) as caught, keeping("it", Path("a"), without="leave it out"):
            raise OSError
        assert str(caught.value.fix) == "set POLYFACE_HOME to a folder that can be written to, or leave it out"
