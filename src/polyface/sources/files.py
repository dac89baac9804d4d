"""Which images to read."""

from __future__ import annotations

import functools
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import TypeAlias

from polyface.errors import ConfigError, Fix, reason_of
from polyface.machine.formats import ARCHIVE_SUFFIXES, HEIC_SUFFIXES, suffixes
from polyface.plugins.protocols import Search
from polyface.results import Item
from polyface.settings.paths import resolve_path

SYSTEM_FOLDERS = {
    *("$recycle.bin", "recycler", "system volume information", "~snapshot"),  # Windows, and what it sees of NetApp
    *("__macosx", "lost+found"),
    *("#recycle", "#snapshot", "@eadir", "@recently-snapshot", "@recycle"),  # Synology and QNAP
}
"""Folders of operating systems and storage servers: thumbnails of the images beside them, and what was deleted."""

# How files begin in the formats whose files are found without an ending, too.
_BEGINNINGS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|BM....\0\0\0\0|II[*+]\0|MM\0[*+]|P[1-6]\s[\d#]|qoif"
    rb"|\0\0\0\x0cjP  |\xff\x4f\xff\x51|....ftyp(?:avif|avis|heic|heix|mif1|msf1)",
    re.DOTALL,
)


Found: TypeAlias = tuple[str, str, str]
"""The path of an image, that below the folder it was found in, and what is wrong with it, or empty texts."""


def as_item(found: Found) -> Item:
    """Return an image that was found as an item."""
    place, relative, problem = found
    path = Path(place)
    return Item(name=str(path), image=path, relative=PurePath(relative or path.name), problem=problem)


def begins_as_an_image(data: bytes) -> bool:
    """Return whether bytes begin as a file in one of the formats that are read; 16 tell."""
    return _BEGINNINGS.match(data) is not None


class Files:
    """A file, or every image below a folder, sorted within each folder.

    In a folder, images are the files with an ending of a format that is read, and those without any ending that begin
    as such a format does. Links to folders are followed, where the search says so, after all else, and no folder is
    searched twice. Hidden files and folders, those of the system, and archives are left out; a file that is named is
    read whatever it is called. Folders that are written to are not searched, so that a second run does not read what
    the first one drew.

    A path that does not exist, a folder without images and one that cannot be listed are items, too, with their
    problem.

    Args:
        location: the path of the file or the folder.
        search: which formats are read, and what is written to.

    Attributes:
        left_out: how much was left out, by what it was.

    Raises:
        ConfigError: the location is an empty text, or a folder that is written to.
    """

    def __init__(self, location: str, search: Search) -> None:
        if not location:
            raise ConfigError("An empty text names no image.", why=["is a variable of the shell unset?"])
        self.left_out: Counter[str] = Counter()
        self._location = Path(os.path.expanduser(location))  # noqa: PTH111 - a name that begins so and is nobody's stays
        self._search = search
        self._endings = suffixes(search.formats) | HEIC_SUFFIXES
        self._skip = [str(resolve_path(folder)) for folder in search.skip]

    def __iter__(self) -> Iterator[Item]:
        """Yield an item for each image."""
        yield from map(as_item, self.found)

    def count(self) -> int:
        """Return how many images there are."""
        return len(self.found)

    @functools.cached_property
    def found(self) -> list[Found]:
        """What :func:`as_item` makes items of; there may be a million."""
        root, problem = self._location, ""
        found: list[Found] = []
        try:
            if root.is_dir():
                if os.path.realpath(root) in self._skip:
                    raise ConfigError(
                        f"The output folder {root} is the folder to read: its drawings would be read the next time.",
                        fix=Fix(settings={"output": str(root / "out")}),
                    )
                found = list(self._below(str(root)))
                problem = "the folder has no images"
            elif not root.exists():
                problem = "there is no such file or folder"
        except OSError as error:
            problem = f"it cannot be looked at: {reason_of(error)}"
        return found or [(str(root), "", problem)]

    def _below(self, root: str) -> Iterator[tuple[str, str, str]]:
        """Each image below a folder, its path below it, and what is wrong with it; no folder lies too deep."""
        top = os.path.realpath(root)
        seen = set()
        ahead, linked = [(root, "", top)], deque[tuple[str, str, str]]()
        while ahead or linked:
            path, relative, real = ahead.pop() if ahead else linked.popleft()
            try:
                status = os.stat(path)  # noqa: PTH116 - a Path of a thousand folders is slow
                # Some file systems number nothing.
                identity = (status.st_dev, status.st_ino) if status.st_ino else real
                if identity in seen or self._is_output(real, top):
                    continue
                if real != top and _lies_in(top, real):
                    self.left_out["links to a folder above"] += 1
                    continue
                seen.add(identity)
                with os.scandir(path) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except (OSError, ValueError) as error:
                yield path, relative, f"the folder cannot be listed: {reason_of(error)}"
                continue
            folders = []
            for entry in entries:
                place = os.path.join(relative, entry.name)  # noqa: PTH118 - as above
                if not _is(entry.is_dir):
                    if self._is_image(entry):
                        yield entry.path, place, ""
                elif self._is_wanted(entry, "folders"):
                    if entry.is_symlink():
                        linked.append((entry.path, place, os.path.realpath(entry.path)))
                    else:
                        folders.append((entry.path, place, os.path.join(real, entry.name)))  # noqa: PTH118
            ahead.extend(reversed(folders))

    def _is_output(self, real: str, top: str) -> bool:
        """Whether a folder is the output folder, or a link led into it."""
        return any(real == skip or (_lies_in(real, skip) and not _lies_in(top, skip)) for skip in self._skip)

    def _is_image(self, entry: os.DirEntry[str]) -> bool:
        ending = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - there may be a million
        if ending in self._endings:
            if not self._is_wanted(entry, "files"):
                return False
            if _is(entry.is_file) or not os.path.exists(entry.path):  # noqa: PTH110 - a link to nothing is a missing image
                return True
            self.left_out["pipes and devices"] += 1  # which would be waited on for ever
            return False
        if ending in ("", ".") and not entry.name.startswith("."):
            if _is(entry.is_file):
                return self._begins_as_an_image(entry.path)
            if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
                self.left_out["links to nothing"] += 1
        elif entry.name.lower().endswith(ARCHIVE_SUFFIXES) and self._is_wanted(entry, "files"):
            self.left_out["archives"] += 1
        elif entry.name.lower().endswith(self._search.endings) and self._is_wanted(entry, "files"):
            self.left_out["files that other sources read"] += 1
        return False

    def _begins_as_an_image(self, path: str) -> bool:
        try:
            with open(path, "rb", buffering=0) as stream:  # noqa: PTH123 - as above
                return begins_as_an_image(stream.read(16))
        except OSError:
            self.left_out["files without an ending that cannot be read"] += 1
            return False

    def _is_wanted(self, entry: os.DirEntry[str], kind: str) -> bool:
        if entry.name.startswith("."):
            self.left_out[f"hidden {kind}"] += 1
            return False
        if kind == "folders" and entry.name.casefold() in SYSTEM_FOLDERS:
            self.left_out["folders of the system"] += 1
            return False
        if kind == "folders" and entry.is_symlink() and not self._search.follow_links:
            self.left_out["links to folders"] += 1
            return False
        return True


def _is(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:  # a link in a circle, for one
        return False


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))  # noqa: PTH118
