"""The backend: what every backend must keep, checked by the kit on a network that it brings, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from polyface.errors import ContractError
from polyface.plugins.protocols import CompileRequest, Graph
from polyface.plugins.records import DetectorSpec, GraphSource, Preprocess, Ref, TensorSpec
from polyface.testing import BackendConformance
from polyface_example.backend import NumpyBackend

REQUEST = CompileRequest(device="cpu", precision="fp32")
TOY = DetectorSpec(
    name="toy",
    summary="Has two outputs",
    graph_version=1,
    input=TensorSpec(name="image", dims=("n", 3, "h", "w")),
    outputs=(TensorSpec(name="loc", dims=("n", "p", 4)), TensorSpec(name="logits", dims=("n", "p", 2))),
    preprocess=Preprocess(channels="rgb", mean=(0, 0, 0)),
    head=Ref("toy:Head"),
    graphs=(GraphSource(kind="numpy", ref=Ref("toy:build")),),
)


class TestNumpy(BackendConformance):
    backend = "numpy"


def test_a_file_is_refused_as_a_graph():
    graph = Graph(kind="numpy", source=Path("a.npz"), detector=TOY)
    with pytest.raises(ContractError, match="must be a builder"):
        NumpyBackend().compile(graph, REQUEST)


def test_a_network_with_other_outputs_than_declared_is_refused(monkeypatch):
    def build_half(weights):
        return lambda inputs: {"loc": inputs["image"]}

    monkeypatch.setitem(sys.modules, "toy", SimpleNamespace(build=build_half))
    graph = Graph(kind="numpy", source=Ref("toy:build"), detector=TOY)
    session = NumpyBackend().compile(graph, REQUEST)
    with pytest.raises(ContractError, match="returned loc; it declares loc, logits"):
        session.run({"image": np.zeros((1, 3, 8, 8), np.float32)})
