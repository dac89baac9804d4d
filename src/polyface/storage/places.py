"""Folders that are written to: by one process at a time, and never through a link that lies in them.

A folder of a stranger may hold links that lead to the user's own files. So each folder below is opened by its name in
the one above, without following links, and what is written goes into what was opened. The folder itself may be a link:
the user named it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import BinaryIO, Self

from polyface.errors import ConfigError, Fix
from polyface.storage.files import atomic_write, remove_abandoned

LOCK = ".polyface.lock"
"""A file that is there, and locked, while a process writes to the folder."""

OTHER_OUTPUT = Fix("choose another", names=("output",))
"""What to do where one cannot be written to."""

JOURNAL = ".journal"
"""What the name of a journal ends in: the file of lines beside another, of which that is made."""

BLOCK = 1 << 16
"""Bytes that are looked at together for the end of a line."""

_BUSY = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # opening a pipe waits for its other end
# Windows has no descriptors of folders. There, whatever holds an open file can be neither moved nor removed.
_BY_DESCRIPTOR = {os.open, os.mkdir, os.stat, os.unlink} <= os.supports_dir_fd and os.listdir in os.supports_fd


class Place:
    """A file or a folder that this process alone writes to until it is closed, and never through a link in the folder.

    Methods raise ``OSError`` for what cannot be read or written, or leads elsewhere by ``..``, a link or anything else
    that is no file.

    Args:
        path: of the file or the folder, absolute; its folders are made where there are none.
        folder: whether it is a folder. Methods then want a name in it or below it; otherwise none, for the file, or
            that of its ``journal``.

    Attributes:
        path: as given.
        root: the folder, or the one that holds the file.
        locked: whether other processes are kept out; some file systems cannot.
        journal: the name of the file's journal, which lies beside it.

    Raises:
        ConfigError: another process writes there.
        OSError: it cannot be made or written to.
    """

    def __init__(self, path: Path, *, folder: bool) -> None:
        self.path = path
        self._name = None if folder else PurePath(path.name)
        self.journal = PurePath(path.name + JOURNAL)
        self.root = path if folder else path.parent
        # What lies beside a file may be another job's.
        own = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
        self._lock_name, self._mark = (LOCK, "") if folder else (f".{own}.lock", f"{own}-")
        self._swept: set[PurePath] = set()
        self._within: int | None = None
        self.root.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            if _BY_DESCRIPTOR:
                self._within = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
                stack.callback(os.close, self._within)
            self._at = self.root if self._within is None else Path()  # what a name in the folder is put after
            self._status = self.root.stat() if self._within is None else os.fstat(self._within)
            held, self.locked = self._lock()
            stack.callback(self._unlock, held)
            self._sweep(PurePath(), self._at, self._within)
            self._held = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes write there; twice is fine."""
        self._held.close()

    @contextlib.contextmanager
    def atomic_write(self, name: PurePath | None = None) -> Iterator[BinaryIO]:
        """Open a file for writing, which takes its place when the block ends; make its folders. A link is replaced."""
        self.check()
        name = self._named(name)
        with self._below(name.parent) as (folder, within):
            self._sweep(name.parent, folder, within)
            with atomic_write(folder / name.name, within=within, mark=self._mark) as stream:
                yield stream

    def lines(self, name: PurePath | None = None) -> LineFile:
        """Open a file in the folder to add lines to it, made where there is none; whole ones that are there stay."""
        return LineFile(self, str(self._named(name)))

    def read(self, name: PurePath | None = None) -> BinaryIO:
        """Open a file as it is now; ``FileNotFoundError`` where there is none."""
        return os.fdopen(self.open(self._named(name), os.O_RDONLY), "rb")

    def names(self, folder: PurePath) -> list[str]:
        """Return the names in a folder below, which is made where there is none."""
        with self._below(folder) as (place, within):
            return os.listdir(place if within is None else within)  # noqa: PTH208 - of a descriptor, too

    def _named(self, name: PurePath | None) -> PurePath:
        name = name or self._name
        if name is None or (self._name not in (None, name) and name != self.journal):
            raise ValueError("A place that is a folder wants a name, and one that is a file none but its journal's.")
        return name

    def check(self) -> None:
        """Raise ``OSError`` unless the folder is still where it was."""
        try:
            same = os.path.samestat(self._status, self.root.stat())
        except OSError:
            same = False
        if not same:
            raise OSError(f"the folder {self.root} was removed, moved or replaced while it was written to")

    def open(self, name: str | PurePath, flags: int) -> int:
        """Open a file in the folder or below it with flags of :func:`os.open`, and return its descriptor."""
        with self._below(PurePath(name).parent) as (folder, within):
            path = folder / PurePath(name).name
            self._refuse_link(path, within)
            descriptor = os.open(path, flags | _NO_LINK | _NO_WAIT | _BINARY, 0o666, dir_fd=within)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is no regular file", str(self.root / name))
        return descriptor

    def holds(self, name: str, descriptor: int) -> bool:
        """Whether the file of that name in the folder is the open one."""
        try:
            there = os.stat(self._at / name, dir_fd=self._within, follow_symlinks=False)
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(descriptor))

    @contextlib.contextmanager
    def _below(self, relative: PurePath) -> Iterator[tuple[Path, int | None]]:
        """Make and open a folder below: what names in it are put after, and its descriptor."""
        if relative.is_absolute() or ".." in relative.parts:
            raise OSError(errno.EINVAL, "it leads out of the folder", str(relative))
        place, within = self._at, self._within
        try:
            for part in relative.parts:
                place, above = place / part, within
                with contextlib.suppress(FileExistsError):
                    os.mkdir(place, dir_fd=above)
                self._refuse_link(place, above)
                if above is not None:
                    within = os.open(place, os.O_RDONLY | os.O_DIRECTORY | _NO_LINK, dir_fd=above)
                    place = Path()
                    if above != self._within:
                        os.close(above)
            yield place, within
        finally:
            if within is not None and within != self._within:
                os.close(within)

    def _sweep(self, relative: PurePath, folder: Path, within: int | None) -> None:
        """Remove what killed runs left aside, once in each folder."""
        if relative not in self._swept:
            self._swept.add(relative)
            remove_abandoned(folder, within=within, mine=self._mark if self.locked else None)

    def _refuse_link(self, path: Path, within: int | None) -> None:
        try:
            status = os.stat(path, dir_fd=within, follow_symlinks=False)
        except FileNotFoundError:
            return
        # Windows has junctions, too.
        if stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", False):
            raise OSError(errno.ELOOP, "it is a link, and links in a folder of results are not followed", str(path))

    def _lock(self) -> tuple[int, bool]:
        """The locked file, and whether it could be locked; the lock goes with the process, however that ends."""
        while True:
            lock = self.open(self._lock_name, os.O_RDWR | os.O_CREAT | getattr(os, "O_TEMPORARY", 0))
            try:
                locked = _lock(lock)
            except BlockingIOError:
                os.close(lock)
                raise ConfigError(
                    f"Another run writes to {'the folder ' if self._name is None else ''}{self.path}.",
                    why=[f"it holds the lock of {self.root / self._lock_name}"],
                    fix=Fix("wait until it has ended") | OTHER_OUTPUT,
                ) from None
            if self.holds(self._lock_name, lock):
                return lock, locked
            os.close(lock)  # the one who held it has just removed it

    def _unlock(self, lock: int) -> None:
        with contextlib.suppress(OSError):
            if self.holds(self._lock_name, lock):
                os.unlink(self._at / self._lock_name, dir_fd=self._within)
        os.close(lock)


class LineFile:
    """A file of lines in a place, which stays open as long as this: a line is there whole, or not at all.

    What follows the last whole line, a killed run left: it goes.
    """

    def __init__(self, place: Place, name: str) -> None:
        self._place = place
        self._name = name
        self._file: int | None = place.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        end = start = os.fstat(self._file).st_size
        while start:
            start = max(0, end - BLOCK)
            os.lseek(self._file, start, os.SEEK_SET)
            if whole := os.read(self._file, end - start).rfind(b"\n") + 1:
                os.ftruncate(self._file, start + whole)
                return
            end = start
        os.ftruncate(self._file, 0)

    def add(self, line: bytes) -> None:
        """Add a line; its end is added.

        Raises:
            OSError: it cannot be written, or the file or its folder is no longer where it was.
            ValueError: the file is closed.
        """
        if self._file is None:
            raise ValueError("The file of lines is closed.")
        self._place.check()
        if not self._place.holds(self._name, self._file):
            raise OSError(f"{self._place.root / self._name} was removed or replaced while it was written to")
        end = os.fstat(self._file).st_size
        try:
            rest = memoryview(line + b"\n")
            while rest:  # nearly always once: a full disk takes a part, and then refuses
                rest = rest[os.write(self._file, rest) :]
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, end)
            raise

    def close(self) -> None:
        """Close the file; twice is fine."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def find_results(path: Path) -> Path | None:
    """Return what holds the results of a run before: a file of results or its journal; ``None`` where neither does."""
    for file in (path, path.with_name(path.name + JOURNAL)):
        with contextlib.suppress(OSError):
            status = file.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_size:
                return file
    return None


def _lock(descriptor: int) -> bool:
    """Lock an open file, and return whether the file system has locks.

    Raises:
        BlockingIOError: another process has locked it.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            raise BlockingIOError(*error.args) from error
        return False
    return True
