"""The values that cross between core and plugins, and the protocols' own check."""

from __future__ import annotations

import pytest

from polyface.plugins.protocols import Backend, CompileRequest, Converter, Execution, Head, Session


def test_a_backend_cannot_change_the_options_it_was_asked_with():
    options = {"threads": 2}
    request = CompileRequest(device="cpu", precision="fp32", options=options)
    options["threads"] = 3
    assert request.options == {"threads": 2}
    with pytest.raises(TypeError):
        request.options["threads"] = 4


def test_two_executions_are_equal_when_all_they_say_is():
    assert Execution(device="cpu", precision="fp32", versions={"onnxruntime": "1"}) == Execution(
        device="cpu", precision="fp32", versions={"onnxruntime": "1"}
    )
    assert Execution(device="cpu", precision="fp32") != Execution(device="cuda:0", precision="fp32")


@pytest.mark.parametrize("protocol", [Head, Session, Backend, Converter])
def test_an_object_without_the_methods_is_no_implementation(protocol):
    assert not isinstance(object(), protocol)
