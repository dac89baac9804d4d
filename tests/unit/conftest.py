"""Records that several test modules start from; each test changes what it is about with ``attrs.evolve``."""

from __future__ import annotations

import pytest

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
