"""Configuration files: which are read, and whose are trusted.

A file that is named is its user's. A file that is merely found may be anybody's: it takes part only if it and its
folder belong to the user who runs polyface (or to root, or under sudo to the user who called it) and not everyone may
write to them, as sshd asks of its files, and git of its repositories. Windows has no such owners: there all count.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from polyface.errors import ConfigError, shortened

FILES = ("polyface.toml", "pyproject.toml")
"""The files that are looked for, weakest first."""

LARGEST_FILE = 1 << 18
"""Bytes of a file of settings; more are no settings."""

DEEPEST_KEY = 100
"""Dots of a key: Python's reader takes the square of them, minutes for a line of 60 kB."""

_SECTION = re.compile(rb"tool\s*\.\s*[\"']?polyface")


@frozen(kw_only=True)
class Source:
    """The settings of one file, not checked.

    Args:
        origin: what to call it in a message.
        path: where it lies, as an absolute path; its relative paths are meant from there.
        table: the settings by name.
        above: it was found above the folder where the search started.
        found: it was found, not named.
    """

    origin: str
    path: Path
    table: dict[str, Any]
    above: bool = False
    found: bool = False


def read_named(path: Path) -> list[Source]:
    """Return the settings of a file that the user names, as the one source.

    Raises:
        ConfigError: it cannot be read, is too large, is not valid TOML, or is a project without our section.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST_FILE + 1)
        whole = path.absolute()
    except (OSError, ValueError) as error:
        raise _unreadable(path, str(error)) from error
    table = _section(path, _parse(path, content))
    if table is None:
        raise ConfigError(f"{_shown(path)} has no section [tool.polyface].")
    return [Source(origin=_origin(path), path=whole, table=table)]


def find_sources(start: Path | None, environ: Mapping[str, str], notice: Callable[[str], None]) -> list[Source]:
    """Return the settings of the nearest folder that has any, weakest first.

    The search goes from ``start``, by default the current folder, upwards; it ends at a folder that is not trusted.
    ``notice`` is told of each file that is left out, why, and how to use it all the same; ``environ`` has ``SUDO_UID``.

    Raises:
        ConfigError: a trusted ``polyface.toml``, or our section of a trusted ``pyproject.toml``, cannot be read.
    """
    owners = _owners(environ)
    try:
        start = Path.cwd() if start is None else start.absolute()
    except OSError:  # the current folder was deleted
        return []
    for folder in (start, *start.parents):
        try:
            problem = _distrust(folder.stat(), owners)
        except FileNotFoundError:
            continue
        except OSError as error:
            notice(f"no settings are looked for from {folder} upwards: {error.strerror}")
            return []
        if problem:
            for path in filter(_is_ours, (folder / name for name in FILES)):
                notice(_left_out(path, f"its folder {problem}"))
            return []
        tables = {path: _found(path, owners, notice) for path in (folder / name for name in FILES)}
        sources = [
            Source(origin=_origin(path), path=path, table=table, above=folder != start, found=True)
            for path, table in tables.items()
            if table is not None
        ]
        if sources:
            return sources
    return []


def read_beside(path: Path, environ: Mapping[str, str], notice: Callable[[str], None]) -> dict[str, Any]:
    """Return the tables of a file that lies beside one that the user named; none where it is not trusted.

    Args:
        path: where it may lie.
        environ: for ``SUDO_UID``.
        notice: told that it is left out, and why.

    Raises:
        ConfigError: it is trusted, and cannot be read.
    """
    owners = _owners(environ)
    try:
        problem, content = _content(path, owners)
        folder = _distrust(path.parent.stat(), owners)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise _unreadable(path, str(error)) from error
    if folder or problem:
        why = f"its folder {folder}" if folder else f"it {problem}"
        notice(f"{path} is left out: {why}; to use it all the same, set what it says")
        return {}
    return _parse(path, content)


def _owners(environ: Mapping[str, str]) -> frozenset[int] | None:
    """The users whose files count; ``None`` where the system does not tell."""
    if not hasattr(os, "geteuid"):
        return None
    me = os.geteuid()
    caller = environ.get("SUDO_UID", "")
    return frozenset({0, me, *([int(caller)] if me == 0 and re.fullmatch(r"[0-9]{1,10}", caller) else [])})


def _distrust(status: os.stat_result, owners: frozenset[int] | None) -> str:
    """Why what this is the status of is not trusted, or an empty text."""
    if owners is None:
        return ""
    if status.st_uid not in owners:
        return f"belongs to {_user(status.st_uid)}"
    if status.st_mode & stat.S_IWOTH and not stat.S_ISLNK(status.st_mode):
        return "can be written to by everyone"
    return ""


def _user(uid: int) -> str:
    import pwd

    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user with the id {uid}"


def _found(path: Path, owners: frozenset[int] | None, notice: Callable[[str], None]) -> dict[str, Any] | None:
    """The settings of a file in a trusted folder; ``None`` where there is no file, it has none, or it is left out."""
    try:
        problem, content = _content(path, owners)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if path.name == FILES[0] and _is_own(path):
            raise _unreadable(path, str(error)) from error
        problem = f"cannot be read: {error.strerror}"
    if not problem:
        if path.name != FILES[0] and b"polyface" not in content:
            return None  # other tools' business, whatever it is
        try:
            table = _parse(path, content)
        except ConfigError as error:
            if path.name == FILES[0] or _SECTION.search(content):
                raise
            problem = f"is broken: {'; '.join(error.why)}"
        else:
            return _section(path, table)
    notice(_left_out(path, f"it {problem}"))
    return None


def _content(path: Path, owners: frozenset[int] | None) -> tuple[str, bytes]:
    """Why a file that was found is left out, or its content, a byte more than it may have at most."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file", b""  # a pipe would be waited on for ever
    problem = _distrust(path.lstat(), owners) or _distrust(status, owners)
    if problem:
        return problem, b""
    with path.open("rb") as stream:
        return "", stream.read(LARGEST_FILE + 1)


def _is_own(path: Path) -> bool:
    return not hasattr(os, "geteuid") or path.lstat().st_uid == os.geteuid()


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    """The tables of a file."""
    if len(content) > LARGEST_FILE:
        raise ConfigError(f"{_shown(path)} is too large.", why=[f"it has more than {LARGEST_FILE} bytes"])
    if any(part.count(b".") > DEEPEST_KEY for line in content.splitlines() for part in line.split(b"=")):
        raise ConfigError(f"{_shown(path)} is too large.", why=[f"a key has more than {DEEPEST_KEY} dots"])
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _unreadable(path, str(error)) from error
    except RecursionError:
        raise ConfigError(f"{_shown(path)} is not valid TOML.", why=["its brackets are nested too deep"]) from None
    except ValueError as error:  # TOMLDecodeError is one, and so is what int() says of 5,000 digits
        raise ConfigError(f"{_shown(path)} is not valid TOML.", why=[shortened(str(error), 200)]) from error


def _section(path: Path, table: dict[str, Any]) -> dict[str, Any] | None:
    """Our settings in the tables of a file; ``None`` for a project without our section."""
    if path.name != "pyproject.toml":
        return table
    tool = table.get("tool")
    if not isinstance(tool, dict) or "polyface" not in tool:
        return None
    section = tool["polyface"]
    if not isinstance(section, dict):
        raise ConfigError(f"{_origin(path)} must be a table.")
    return section


def _is_ours(path: Path) -> bool:
    """Whether a file that is not read speaks of polyface, so that its user should hear of it."""
    try:
        problem, content = _content(path, None)
    except OSError:
        return False
    return not problem and (path.name == FILES[0] or _SECTION.search(content) is not None)


def _origin(path: Path) -> str:
    return f"{_shown(path)} [tool.polyface]" if path.name == "pyproject.toml" else _shown(path)


def _shown(path: Path) -> str:
    return shortened(str(path), 500)


def _unreadable(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{_shown(path)} cannot be read.", why=[shortened(why, 500)])


def _left_out(path: Path, why: str) -> str:
    return f"{path} is left out: {why}; to use it all the same: --config {shlex.quote(str(path))}"
