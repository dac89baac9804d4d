"""What is not always there: modules of an extra, and in a packed program all that was not packed into it."""

from __future__ import annotations

import importlib
import shlex
import sys
import zipimport
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyface.errors import Fix


def is_frozen() -> bool:
    """Return whether PyInstaller, cx_Freeze or the like made the program, which then holds all it will ever have."""
    return bool(getattr(sys, "frozen", False))


def is_zipped() -> bool:
    """Return whether polyface lies in a zip archive, as ``python -m zipapp`` makes one."""
    return isinstance(__spec__.loader, zipimport.zipimporter)


def needs(module: str, installed_by: str) -> Any:
    """Return a module that is not always there, such as one that ``polyface[evaluate]`` brings.

    Raises:
        UnsupportedError: it cannot be imported; says why, and the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        from polyface.errors import Reason, UnsupportedError

        package = module.partition(".")[0]
        raise UnsupportedError(
            f"This needs {package}, which cannot be imported.",
            [Reason(subject=package, why=str(error), fix=install(installed_by))],
        ) from error


def install(*packages: str) -> Fix:
    """Return how to have packages: a command, and in a packed program what is to be done where it is built."""
    from polyface.errors import Fix  # here, since the command line wants to know whether it is frozen and no more

    wanted = list(dict.fromkeys(packages))
    if is_frozen():
        return Fix(
            f"{shlex.join(['pip', 'install', *wanted])} where this program is built, and build it again, with the "
            "metadata (.dist-info) of polyface's plugins: PyInstaller takes it along by polyface's own hook"
        )
    if is_zipped():
        return Fix(
            f"{shlex.join(['pip', 'install', '--target', 'DIR', *wanted])}, and PYTHONPATH=DIR: a zip archive holds no "
            "compiled modules, and plugins are found by their metadata (.dist-info)"
        )
    return Fix(command=shlex.join(["pip", "install", *wanted]))
