"""What every plugin must keep, checked by the kit."""

from __future__ import annotations

from polyface.testing import PluginConformance


class TestPackage(PluginConformance):
    distribution = "polyface-example"
