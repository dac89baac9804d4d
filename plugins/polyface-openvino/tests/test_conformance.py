"""What every plugin and every backend must keep, checked by the kit on its own small network."""

from __future__ import annotations

import pytest

from polyface.testing import BackendConformance, PluginConformance

pytest.importorskip("openvino", reason="needs openvino: pip install polyface-openvino")


class TestPackage(PluginConformance):
    distribution = "polyface-openvino"


class TestOpenVino(BackendConformance):
    backend = "openvino"
