"""What is installed, and which drivers are there: looks that load next to nothing."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterable


def is_installed(module: str) -> bool:
    """Return whether a top-level module could be imported, without importing it."""
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


def has_driver(libraries: Iterable[str]) -> bool:
    """Return whether one of a driver's libraries can be loaded: a look, at next to no cost, before a probe."""
    import ctypes

    for name in libraries:
        with contextlib.suppress(OSError):
            ctypes.CDLL(name)
            return True
    return False
