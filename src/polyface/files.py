"""Files that are whole or not there: written aside, in the same folder, and then moved into their place.

The name aside is random and must be new, so neither another process, on this machine or another, nor a link that
somebody laid there can meet it. Whoever is killed leaves it behind; :func:`remove_abandoned` takes it away a day later.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

ABANDONED = 24 * 3600.0
"""Seconds after which what was written aside belongs to a process that was killed: none writes one file for a day."""


def aside_of(path: Path) -> Path:
    """Return a new hidden name in the same folder; short, since the file's own may be as long as names can be."""
    return path.with_name(f".{secrets.token_hex(8)}.part")


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its place when the block ends; an error in the block leaves all as it was.

    A link at ``path`` is replaced, not followed.

    Raises:
        OSError: it cannot be written, closed or moved.
    """
    aside = aside_of(path)
    try:
        with aside.open("xb") as stream:
            yield stream
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def remove_abandoned(folder: Path, pattern: str = ".*.part") -> None:
    """Remove what killed processes left in a folder, files and links and no folders; what cannot be removed stays."""
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            if not path.is_dir() and time.time() - os.lstat(path).st_mtime > ABANDONED:
                path.unlink()
