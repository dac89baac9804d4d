"""What every backend must keep, checked by the kit on its own network."""

from __future__ import annotations

import pytest

from polyface.testing import BackendConformance, PluginConformance

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'polyface-onnxruntime[cpu]'")


class TestPackage(PluginConformance):
    distribution = "polyface-onnxruntime"


class TestOnnxRuntime(BackendConformance):
    backend = "onnxruntime"
