from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def published(shared):
    """The published files of YuNet-n, by the names of the weights in its record."""
    files = {"onnx": shared / "weights/yunet_n_dynamic.onnx", "checkpoint": shared / "weights/yunet_n.pth"}
    for file in files.values():
        if not file.is_file():
            pytest.skip(f"{file} is not there")
    return files


@pytest.fixture(scope="session")
def original(published):
    """Run the published ONNX file on ``(n, 3, h, w)`` BGR, and return its outputs by their names."""
    runtime = pytest.importorskip("onnxruntime", reason="running the original needs onnxruntime")
    session = runtime.InferenceSession(published["onnx"], providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda image: dict(zip(names, session.run(names, {"input": image}), strict=True))
