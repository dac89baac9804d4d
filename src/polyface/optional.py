"""Whether this program was packed into one: frozen, by PyInstaller for instance, or run out of a zip archive."""

from __future__ import annotations

import shlex
import sys
import zipimport


def is_frozen() -> bool:
    """Return whether PyInstaller, cx_Freeze or the like made the program, which then holds all it will ever have."""
    return bool(getattr(sys, "frozen", False))


def is_zipped() -> bool:
    """Return whether polyface lies in a zip archive, as ``python -m zipapp`` makes one."""
    return isinstance(__spec__.loader, zipimport.zipimporter)


def install(*packages: str) -> str:
    """Return how to have packages: a command, and in a packed program what is to be done where it is built."""
    wanted = list(dict.fromkeys(packages))
    if is_frozen():
        return (
            f"{shlex.join(['pip', 'install', *wanted])} where this program is built, and build it again, with the "
            "metadata (.dist-info) of polyface's plugins: PyInstaller takes it along by polyface's own hook"
        )
    if is_zipped():
        return (
            f"{shlex.join(['pip', 'install', '--target', 'DIR', *wanted])}, and PYTHONPATH=DIR: a zip archive holds no "
            "compiled modules, and plugins are found by their metadata (.dist-info)"
        )
    return shlex.join(["pip", "install", *wanted])
