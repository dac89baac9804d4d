"""What every backend must keep, checked by the kit on a network whose numbers NumPy knows, too."""

from __future__ import annotations

import pytest

from polyface.testing import BackendConformance, PluginConformance

pytest.importorskip("torch", reason="needs torch: pip install polyface-torch")
pytest.importorskip("polyface_example", reason="the network comes with it: pip install polyface-example")


class TestPackage(PluginConformance):
    distribution = "polyface-torch"


class TestTorch(BackendConformance):
    backend = "torch"
    detector = "example-redbox"
