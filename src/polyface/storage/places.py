"""Where writers write: files and folders that no other process writes to meanwhile."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path, PurePath
from typing import BinaryIO, Self

from polyface.storage.folders import LineFile, LockedFolder


class Place:
    """Where a writer writes: a file or a folder that this process alone writes to until it is closed.

    Nothing is written through links that lie in the folder.

    Args:
        path: of the file or the folder, absolute; its folders are made where there are none.
        folder: whether it is a folder.

    Attributes:
        path: as given.
        locked: whether other processes are kept out; some file systems cannot.

    Raises:
        ConfigError: another process writes there.
        OSError: it cannot be written to.
    """

    def __init__(self, path: Path, *, folder: bool) -> None:
        self.path = path
        self._name = None if folder else PurePath(path.name)
        # What lies beside a file may be another job's.
        self._folder = LockedFolder(path) if folder else LockedFolder(path.parent, path.name)
        self.locked = self._folder.locked

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes write there; twice is fine."""
        self._folder.close()

    def atomic_write(self, name: PurePath | None = None) -> AbstractContextManager[BinaryIO]:
        """Open the file, or the one of that name below the folder; it takes its place whole when the block ends.

        Raises:
            OSError: it cannot be written, or the folder is no longer where it was.
        """
        self._folder.check()
        return self._folder.atomic_write(self._named(name))

    def lines(self, name: PurePath | None = None) -> LineFile:
        """Open the file, or the one of that name in the folder, to add lines to it; those that are there stay.

        Raises:
            OSError: it cannot be written.
        """
        return LineFile(self._folder, str(self._named(name)))

    def read(self, name: PurePath | None = None) -> BinaryIO:
        """Open the file as it is now, or the one of that name below the folder.

        Raises:
            OSError: it cannot be read; ``FileNotFoundError`` where there is none.
        """
        return os.fdopen(self._folder.open(self._named(name), os.O_RDONLY), "rb")

    def names(self, folder: PurePath) -> list[str]:
        """Return the names in a folder below the folder, which is made where there is none.

        Raises:
            OSError: it cannot be listed.
        """
        return self._folder.names(folder)

    def _named(self, name: PurePath | None) -> PurePath:
        if (name is None) == (self._name is None):
            raise ValueError("A place that is a folder wants a name, and one that is a file wants none.")
        return name or self._name or PurePath()
