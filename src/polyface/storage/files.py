"""Files that are whole or not there: written aside, in the same folder, and then moved into their place.

The name aside is random and must be new, so neither another process, on this machine or another, nor a link that
somebody laid there can meet it. Whoever is killed leaves it behind, and :func:`remove_abandoned` takes it away: a day
later, or by the next who has the folder to itself.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

ABANDONED = 24 * 3600.0
"""Seconds after which what was written aside belongs to a process that was killed: none writes one file for a day."""

MOST_JSON = 1 << 20
"""Bytes of the largest table that is read: those that polyface writes have a few thousand."""


@contextlib.contextmanager
def atomic_write(path: Path, *, within: int | None = None, mark: str = "") -> Iterator[BinaryIO]:
    """Open a file for writing that takes its place when the block ends; an error in the block leaves all as it was.

    A link at ``path`` is replaced, not followed.

    Args:
        path: where it belongs.
        within: the descriptor of the folder that ``path`` is a name in, where there is one.
        mark: what the name aside begins with, by which :func:`remove_abandoned` knows it again.

    Raises:
        OSError: it cannot be written, closed or moved.
    """
    aside = path.with_name(
        f".{mark}{secrets.token_hex(8)}.part"
    )  # short: the file's own may be as long as names can be
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(aside, flags, 0o666, dir_fd=within)
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
        os.replace(aside, path, src_dir_fd=within, dst_dir_fd=within)
    except OSError as error:
        if str(error.filename) != str(aside):
            raise
        # The name aside means nothing to the user.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(aside, dir_fd=within)


def write_sealed(path: Path, data: bytes) -> None:
    """Write bytes that decide what comes out, and their sha256 before them, for :func:`read_sealed`.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_write(path) as stream:
        stream.write(hashlib.sha256(data).digest())
        stream.write(data)


def read_sealed(path: Path) -> bytes | None:
    """Return what was written; ``None`` where there is no such file or it is not what it was."""
    try:
        sealed = path.read_bytes()
    except OSError:
        return None
    digest, data = sealed[: hashlib.sha256().digest_size], sealed[hashlib.sha256().digest_size :]
    return data if hashlib.sha256(data).digest() == digest else None


def remove_abandoned(folder: Path, *, within: int | None = None, mine: str | None = None) -> None:
    """Remove what killed processes left in a folder, files and links and no folders; what cannot be removed stays.

    Args:
        folder: its path.
        within: the descriptor of the folder, where there is one; ``folder`` is then ``Path()``.
        mine: the mark with which no other process writes there, so that what has it is left over, however young.
    """
    left = None if mine is None else f".{mine}{'[0-9a-f]' * 16}.part"
    with contextlib.suppress(OSError):
        names = os.listdir(folder if within is None else within)  # noqa: PTH208 - of a descriptor, too
        for name in fnmatch.filter(names, ".*.part"):
            age = 0.0 if left and fnmatch.fnmatch(name, left) else ABANDONED
            with contextlib.suppress(OSError):
                status = os.stat(folder / name, dir_fd=within, follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode) and time.time() - status.st_mtime >= age:
                    os.unlink(folder / name, dir_fd=within)


def remove_abandoned_folders(parent: Path, pattern: str) -> None:
    """Remove the folders that killed processes left: those that nothing has been written into for a day."""
    for folder in parent.glob(pattern):
        with contextlib.suppress(OSError):
            newest = max(path.lstat().st_mtime for path in (folder, *folder.iterdir()))
            if time.time() - newest > ABANDONED:
                shutil.rmtree(folder, ignore_errors=True)


_UNSAFE = re.compile("[\\x7f-\\x9f\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u2069\\ufeff\\ud800-\\udfff]")
"""Of what JSON leaves as it is: DEL, C1, marks without width, those that turn the direction of writing, surrogates."""


def json_bytes(value: Any, *, indent: int | None = None) -> bytes:
    """Return a value as JSON in UTF-8; what a terminal would obey, and what is not UTF-8, stands as its escape."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1], text).encode()


def read_json(path: Path) -> dict[str, Any]:
    """Return the table in a JSON file, whoever wrote it.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds no table, or is too large, nested too deep, or has a number that is not finite.
    """
    if not path.is_file():  # a pipe would be waited for
        raise FileNotFoundError(f"there is no file {path}")
    with path.open("rb") as stream:
        data = stream.read(MOST_JSON + 1)
    if len(data) > MOST_JSON:
        raise ValueError(f"{path} is over {MOST_JSON >> 20} MiB")
    try:
        table = json.loads(data, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError(f"{path} is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(table, dict):
        raise ValueError(f"{path} is not a table")
    return table


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is not finite")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
