"""What PyInstaller has to know of polyface, which finds its plugins by the metadata of what is installed.

PyInstaller asks :func:`hook_folders` by an entry point: https://pyinstaller.org/en/stable/hooks.html
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from polyface.plugins.hookspecs import GROUP
from polyface.plugins.manager import CORE


def hook_folders() -> list[str]:
    """Return the folder that PyInstaller's hook for polyface lies in."""
    return [str(Path(__file__).parent)]


def plugin_packages() -> dict[str, set[str]]:
    """Return the packages of every installed plugin but core's own, by the distribution that its metadata is of."""
    packages: dict[str, set[str]] = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        if point.dist is not None and point.dist.name != CORE:
            packages.setdefault(point.dist.name, set()).add(point.module.partition(".")[0])
    return packages
