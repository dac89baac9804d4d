"""Settings that are put into a file of the user's, in which all else stays as it is, comments too."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyface.errors import ConfigError, reason_of, shortened
from polyface.settings.files import LARGEST_FILE, read_named
from polyface.storage.files import atomic_write

_LINE = r"^([ \t]*{name}[ \t]*=[ \t]*)(\"[^\"\n\\]*\"|'[^'\n]*'|[\w.+-]+)"
"""A setting on a line of its own, up to the end of its value; no value of several lines."""

BY_HAND = "put the lines shown there by hand"


def as_toml(changes: Mapping[str, str | int]) -> str:
    """Return settings as lines of TOML."""
    return "".join(f"{name} = {_value(value)}\n" for name, value in changes.items())


def check_file(path: Path) -> None:
    """Refuse a file that :func:`write_settings` could not change, before what is to be written is worked out.

    Raises:
        ConfigError: it is a ``pyproject.toml``, cannot be read, or is no valid TOML; or its mode, its owner or a second
            name keeps it from being replaced.
    """
    if path.name == "pyproject.toml":
        raise ConfigError(
            f"{shortened(str(path), 500)} is a project's: nothing is written to it.",
            fix="leave --write out, and put the lines shown below [tool.polyface]",
        )
    if not os.path.lexists(path):
        return
    read_named(path)
    status = path.stat()
    kept = {
        "it may only be read": not (os.access(path, os.W_OK) and status.st_mode & 0o222),
        "it is somebody else's": hasattr(os, "geteuid") and status.st_uid != os.geteuid(),
        "it has a second name (a hard link), which would keep what it was": status.st_nlink > 1,
    }
    if why := [reason for reason, holds in kept.items() if holds]:
        raise ConfigError(f"{shortened(str(path), 500)} is left as it is.", why=why, fix=BY_HAND)


def write_settings(path: Path, changes: Mapping[str, str | int], *, comment: str) -> None:
    """Give settings their values in a ``polyface.toml``, which is made where there is none.

    A setting that stands there keeps its place and the comment behind it. The others come before all else, below
    ``comment``. What is written is read first: only if it says what was asked, and all else as before, does it take
    the file's place. A link is followed.

    Raises:
        ConfigError: as :func:`check_file`; a setting stands there in a form that is not changed here, or the file
            cannot be written.
    """
    check_file(path)
    try:
        mode = path.stat().st_mode if path.exists() else None
        text = "" if mode is None else path.read_bytes().decode("utf-8")
        new = _changed(text, changes, comment)
        if new is not None and new != text:
            with atomic_write(path.resolve()) as stream:
                stream.write(new.encode())
            if mode is not None:
                path.chmod(mode)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{shortened(str(path), 500)} cannot be written.", why=[reason_of(error)]) from error
    if new is None:
        raise ConfigError(
            f"{shortened(str(path), 500)} is left as it is: it sets {', '.join(changes)} in a way that is not "
            "changed by a program.",
            fix=BY_HAND,
        )


def _changed(text: str, changes: Mapping[str, str | int], comment: str) -> str | None:
    """The text with these settings; ``None`` where that cannot be done a line at a time, or is too long to be read."""
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    body = text.removeprefix(mark)
    before = _parse(body)
    end = "\r\n" if "\r\n" in body else "\n"
    new = body
    for name in changes.keys() & before.keys():
        if before[name] != changes[name]:
            pattern = _LINE.format(name=re.escape(name))
            if line := re.search(pattern, new, flags=re.MULTILINE):
                new = new[: line.end(1)] + _value(changes[name]) + new[line.end() :]
    added = {name: value for name, value in changes.items() if name not in before}
    if added:
        new = f"# {comment}\n{as_toml(added)}".replace("\n", end) + (end if new.strip() else "") + new
    try:
        is_right = _parse(new) == {**before, **changes} and len((mark + new).encode()) <= LARGEST_FILE
    except ValueError:
        return None
    return mark + new if is_right else None


def _parse(text: str) -> dict[str, Any]:
    # As text, a number that is none (nan) equals itself.
    return tomllib.loads(text, parse_float=str)


def _value(value: str | int) -> str:
    return json.dumps(value, ensure_ascii=False)
