"""Paths that the user gives, and polyface's home."""

from __future__ import annotations

import os
import re
from pathlib import Path

from polyface.errors import ConfigError, quoted


def home() -> Path:
    """Return polyface's folder for weights and artifacts: ``POLYFACE_HOME``, or the user's cache folder.

    Raises:
        ConfigError: neither is known: the user has no home, as under any user id in a container.
    """
    chosen = os.environ.get("POLYFACE_HOME")
    if chosen:
        return expand_user(chosen)
    import platformdirs

    try:
        found = platformdirs.user_cache_path("polyface", appauthor=False)
        if found.is_absolute():  # some versions leave the ~ that they cannot expand
            return found
        why = f"it would be {found}"
    except (KeyError, RuntimeError) as error:
        why = str(error)
    raise ConfigError(
        "It is not known where this user's files lie.",
        why=[why],
        fix="set POLYFACE_HOME to a folder that can be written to",
    )


def expand_user(path: str | Path) -> Path:
    """Return the path with ``~`` expanded.

    Raises:
        ConfigError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{quoted(str(path))} is no path.", why=[str(error)]) from error


def is_path(choice: str) -> bool:
    """Return whether a choice of weights is a path, not a name in a manifest."""
    return Path(choice).suffix.lower() in WEIGHTS_SUFFIXES or "/" in choice or os.sep in choice


def is_file(detector: str) -> bool:
    """Return whether a choice of detector is a file, not a name, which may have a slash as well."""
    return Path(detector).suffix.lower() in WEIGHTS_SUFFIXES


CHECKPOINT_SUFFIXES = (".pth", ".pt", ".safetensors")
"""What a user's own checkpoint ends in."""

GRAPH_SUFFIXES = (".onnx",)
"""What a user's own graph ends in, which holds its weights."""

WEIGHTS_SUFFIXES = CHECKPOINT_SUFFIXES + GRAPH_SUFFIXES
"""A choice of weights without such an ending and without a slash is a manifest name."""


def split_output(output: str) -> tuple[str, str]:
    """Return the name of the writer, as ``name`` or ``distribution/name``, and the path of ``"WRITER:PATH"``.

    Of a path alone the name is empty.

    A name has at least two letters, so that a drive of Windows is none.
    """
    named = re.fullmatch(r"((?:[a-z0-9][\w.-]*/)?[a-z0-9][a-z0-9._-]+):(.*)", output, re.DOTALL | re.IGNORECASE)
    return (named[1], named[2]) if named else ("", output)


def resolve_path(path: str | Path) -> Path:
    """Return the absolute path without links, ``~`` expanded.

    Raises:
        ConfigError: there cannot be such a path.
    """
    whole = expand_user(path)
    try:
        return whole.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"{str(path)!r} is no path.", why=[str(error)]) from error
