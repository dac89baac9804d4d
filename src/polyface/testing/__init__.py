"""Help for the tests of polyface and of its plugins; the conformance kit and the plugin need pytest.

``pytest_plugins = ["polyface.testing.plugin"]`` turns the plugin on. Names are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyface.measure.tolerances import TOLERANCES as TOLERANCES
    from polyface.measure.tolerances import Tolerance as Tolerance
    from polyface.testing.conformance.backends import BackendConformance as BackendConformance
    from polyface.testing.conformance.detectors import DetectorConformance as DetectorConformance
    from polyface.testing.conformance.detectors import Golden as Golden
    from polyface.testing.conformance.families import FamilyConformance as FamilyConformance
    from polyface.testing.conformance.plugins import PluginConformance as PluginConformance
    from polyface.testing.conformance.sources import SourceConformance as SourceConformance
    from polyface.testing.conformance.writers import WriterConformance as WriterConformance

_HOME = {
    "BackendConformance": "testing.conformance.backends",
    "DetectorConformance": "testing.conformance.detectors",
    "FamilyConformance": "testing.conformance.families",
    "Golden": "testing.conformance.detectors",
    "PluginConformance": "testing.conformance.plugins",
    "SourceConformance": "testing.conformance.sources",
    "WriterConformance": "testing.conformance.writers",
    "TOLERANCES": "measure.tolerances",
    "Tolerance": "measure.tolerances",
}

__all__ = sorted(_HOME)  # noqa: PLE0605 - checked against the imports above by a test


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'polyface.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(f"polyface.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
