"""Records and a detector that several test modules start from; a test changes what it needs with ``attrs.evolve``."""

from __future__ import annotations

import pytest

from polyface.building import build
from polyface.pipeline.detector import FaceDetector
from polyface.pipeline.presets import select_strategy
from polyface.pipeline.stages import Network
from polyface.plugins.records import (
    BackendSpec,
    Capability,
    ConverterSpec,
    DetectorSpec,
    GraphSource,
    Preprocess,
    Ref,
    Requirement,
    TensorSpec,
    WeightsFile,
)
from polyface.settings.config import Config
from toy_network import Head, Session, one_face


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    """An empty polyface home, and no settings from the environment the tests were started in."""
    folder = tmp_path_factory.mktemp("home")
    for variable in ("POLYFACE_CONFIG", "POLYFACE_DETECTOR", "POLYFACE_BACKEND", "POLYFACE_DEVICE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("POLYFACE_HOME", str(folder))
    return folder


@pytest.fixture
def weights_file():
    return WeightsFile(
        name="wider",
        filename="wider.pth",
        sha256="ab" * 32,
        size=12,
        license="MIT",
        urls=("https://example.org/wider.pth", "https://mirror.example.org/wider.pth"),
    )


@pytest.fixture
def detector_spec():
    """A detector of one output ``heads (n, p, 5)`` and two landmarks, published as a torch module."""
    return DetectorSpec(
        name="toy",
        summary="A toy",
        graph_version=1,
        input=TensorSpec(name="image", dims=("n", 3, "h", "w")),
        outputs=[TensorSpec(name="heads", dims=("n", "p", 5))],
        preprocess=Preprocess(channels="rgb", mean=(0, 0, 0)),
        head=Ref("toy_faces:Head"),
        graphs=[
            GraphSource(
                kind="torch-module",
                ref=Ref("toy_faces.net:build"),
                requires=[Requirement(module="torch", install="polyface-toy[torch]")],
            )
        ],
        landmarks=("left", "right"),
    )


@pytest.fixture
def backend_spec():
    """A backend for ONNX on ``cpu`` in fp32, and on ``cuda`` in fp32 and fp16."""
    return BackendSpec(
        name="fast",
        summary="A fast one",
        accepts=["onnx"],
        capabilities=[Capability(device="cpu"), Capability(device="cuda", precisions=("fp32", "fp16"))],
        requires=[Requirement(module="fast_runtime", install="fast-runtime")],
        factory=Ref("fast_faces:Backend"),
    )


@pytest.fixture
def converter_spec():
    return ConverterSpec(
        source="torch-module",
        target="onnx",
        requires=[Requirement(module="exporter", install="exporter>=2")],
        factory=Ref("toy_faces:Converter"),
    )


@pytest.fixture
def make(detector_spec, backend_spec):
    """Build a FaceDetector around a network of toy_network.py, without a plugin."""

    def make(network=one_face, *, head=None, spec=detector_spec, on=(), family=None, session=Session, **settings):
        config, head = Config(**settings), head or Head(getattr(network, "anchors", 1))
        session = session(network, *on)
        network = Network(spec=spec, backend=backend_spec, head=head, session=session, owner="toy-faces", family=family)
        return FaceDetector(config, network, select_strategy(config, spec), route="onnx", rebuild=build)

    return make
