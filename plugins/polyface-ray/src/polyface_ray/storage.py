"""Files that may lie on a storage service, by pyarrow, which is what Ray reads them by, too."""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import fs

from polyface.errors import ConfigError, ImageError, quoted, reason_of
from polyface.machine.formats import HEIC_SUFFIXES, suffixes
from polyface.plugins.protocols import Search
from polyface.results import Item

_URI = re.compile(r"([a-z][a-z0-9+.-]*://[^/]*)/?(.*)", re.DOTALL | re.IGNORECASE)

FAILURES = (OSError, pa.ArrowException)
"""What pyarrow raises where a file or a service fails."""


def is_uri(location: str) -> bool:
    """Return whether a location is on a service, ``s3://bucket/path``, and no path of this machine."""
    return _URI.fullmatch(location) is not None


def open_location(location: str) -> tuple[Any, str]:
    """Return the file system (a ``pyarrow.fs.FileSystem``) of a path or a URI, and the path in it.

    What follows the bucket is taken as it stands: nothing in it is escaped, as ``%20``.

    Raises:
        ConfigError: pyarrow has no such file system, or it cannot be reached.
    """
    named = _URI.fullmatch(location)
    if named is None:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(location))  # noqa: PTH100, PTH111 - as text
    system, base = _open_service(named[1])
    return system, f"{base.rstrip('/')}/{named[2]}" if named[2] else base


@functools.cache
def _open_service(address: str) -> tuple[Any, str]:
    """The file system of a bucket, which may ask the service where it lies, and what its paths begin with."""
    try:
        system, base = fs.FileSystem.from_uri(f"{address}/")
    except (*FAILURES, ImportError) as error:
        raise ConfigError(
            f"{quoted(address)} cannot be opened.",
            why=[reason_of(error) if isinstance(error, OSError) else str(error)],
            fix="give a path, or a URI that pyarrow reads: s3://, gs://, abfs://, hdfs:// or file://",
        ) from error
    return system, base


class StoredFile:
    """A file that is opened once it is read, on whatever machine and in whatever thread that is.

    Args:
        location: its URI, or its path.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self._stream: Any = None

    def __str__(self) -> str:
        return self.location

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredFile, (self.location,)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, all by default; none at the end, and the next read is from the start.

        Raises:
            ImageError: it is not there, or cannot be read.
        """
        try:
            if self._stream is None:
                system, path = open_location(self.location)
                self._stream = system.open_input_stream(path)
            data: bytes = self._stream.read(None if size < 0 else size)
            if not data or size < 0:
                self._stream.close()
                self._stream = None
        except FileNotFoundError:
            raise ImageError(f"{quoted(self.location)} does not exist.") from None
        except FAILURES as error:
            raise ImageError(f"{quoted(self.location)} cannot be read.", why=[str(error)]) from error
        return data


class Storage:
    """An image of a storage service, or every image below a folder of it, sorted.

    In a folder, images are the files with an ending of a format that is read; hidden files and folders are left out.

    Args:
        location: its URI.
        search: which formats are read.
    """

    def __init__(self, location: str, search: Search) -> None:
        self.left_out: Counter[str] = Counter()
        self._location = location
        self._endings = tuple(suffixes(search.formats) | HEIC_SUFFIXES)

    def __iter__(self) -> Iterator[Item]:
        """Yield an item for each image; one with a problem where there is none."""
        yield from self._items

    def count(self) -> int:
        """Return how many images there are."""
        return len(self._items)

    @functools.cached_property
    def _items(self) -> list[Item]:
        try:
            system, path = open_location(self._location)
            about = system.get_file_info(path)
            if about.type == fs.FileType.File:
                return [Item(name=self._location, image=StoredFile(self._location))]
            problem = "there is no such file or folder"
            if about.type == fs.FileType.Directory:
                items = [self._item(name) for name in list_files(system, path) if self._is_wanted(name)]
                problem = "the folder has no images"
                if items:
                    return items
        except FAILURES as error:
            problem = f"it cannot be looked at: {error}"
        return [Item(name=self._location, problem=problem)]

    def _item(self, name: str) -> Item:
        location = f"{self._location.rstrip('/')}/{name}"
        return Item(name=location, image=StoredFile(location), relative=PurePosixPath(name))

    def _is_wanted(self, name: str) -> bool:
        if not name.lower().endswith(self._endings):
            return False
        if any(part.startswith(".") for part in name.split("/")):
            self.left_out["hidden files"] += 1
            return False
        return True


def list_files(system: Any, folder: str) -> list[str]:
    """Return the paths, below a folder, of all files in it and its folders, sorted."""
    root = folder.rstrip("/") + "/"
    found = system.get_file_info(fs.FileSelector(folder, recursive=True))
    return sorted(one.path.removeprefix(root) for one in found if one.type == fs.FileType.File)
