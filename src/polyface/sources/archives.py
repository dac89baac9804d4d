"""Images in tar archives, such as the shards of WebDataset, read from start to end; nothing is unpacked to disk.

The archives are read by hand: Python's own reader takes memory for whatever a header announces, and anybody may have
made an archive. POSIX (ustar and pax) and GNU's long names are known.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO

import attrs
from attrs import frozen

from polyface.errors import reason_of
from polyface.machine.formats import ARCHIVE_SUFFIXES, HEIC_SUFFIXES, suffixes
from polyface.plugins.protocols import Search
from polyface.results import Item
from polyface.sources.files import SYSTEM_FOLDERS, begins_as_an_image

BLOCK = 512
"""Bytes that headers take, and that the length of what follows is rounded up to."""

LONGEST_HEADER = 2**20
"""Bytes in which an archive may say more of a member, such as a long name."""

LONGEST_MEMBER = 2**28
"""Bytes of an image in an archive: those that are read together are all in memory, and packed bytes may be few."""

LARGEST = 10**18
"""Bytes that a member may have at all: no disk holds them."""

_PART = 2**20  # bytes that are read at a time: a header may announce more than there is
_FILES, _LINKS, _WITHOUT_DATA = b"\x000" + b"7", b"12", b"123456"  # kinds of members


class TarArchive:
    """The images in a tar archive, also one that gzip packed, in their order: ``shard.tar/0001.jpg``.

    What is an image is told as in folders. All else is left out and counted, links among it, and members whose names
    lead out of the archive. What is written of an image lies in a folder that is called as the archive. Images of one
    name are told apart by numbers: the second is ``shard.tar/0001.jpg#2``. An archive that is cut short or damaged ends
    with an item that says so.

    Args:
        location: the path of the archive.
        search: which formats are read.

    Attributes:
        left_out: how much was left out the last time, by what it was.
    """

    def __init__(self, location: str, search: Search) -> None:
        self.left_out: Counter[str] = Counter()
        self._path = Path(os.path.expanduser(location))  # noqa: PTH111 - as of files
        self._endings = suffixes(search.formats) | HEIC_SUFFIXES
        name = self._path.name
        ending = max((end for end in ARCHIVE_SUFFIXES if name.lower().endswith(end)), key=len, default="")
        self._folder = PurePath(name[: -len(ending)] if ending and ending != name.lower() else name)

    def __iter__(self) -> Iterator[Item]:
        """Yield an item for each image, with its bytes."""
        self.left_out = Counter()
        found, problem = False, "the archive has no images"
        names: Counter[str] = Counter()
        try:
            with self._path.open("rb") as raw:
                packed = raw.read(2) == b"\x1f\x8b"
                raw.seek(0)
                reader = _Reader(gzip.GzipFile(fileobj=raw) if packed else raw)
                for member in reader.members():
                    if (item := self._item(member, reader)) is not None:
                        found = True
                        names[item.name] += 1
                        times = names[item.name]
                        yield item if times == 1 else attrs.evolve(item, name=f"{item.name}#{times}")
        except FileNotFoundError:
            found, problem = False, "there is no such file or folder"
        except (OSError, EOFError, ValueError, zlib.error) as error:
            further = " any further" if found else ""
            found, problem = False, f"the archive cannot be read{further}: {reason_of(error)}"
        if not found:
            yield Item(name=str(self._path), problem=problem)

    def count(self) -> int | None:
        """Return ``None``: who counts the images has read the archive."""
        return None

    def _item(self, member: _Member, reader: _Reader) -> Item | None:
        """The item of a member that is an image; the others are counted."""
        posix = PurePosixPath(member.name)
        below = PurePath(*posix.parts)
        out = posix.is_absolute() or below.anchor or ".." in below.parts or "\0" in member.name or not posix.name
        ending = posix.suffix.lower()
        if member.kind in _LINKS:
            self.left_out["links in archives"] += 1
        elif member.kind == b"5":
            pass
        elif out:
            self.left_out["files in archives whose names lead out of them"] += 1
        elif any(part.startswith(".") or part.casefold() in SYSTEM_FOLDERS for part in posix.parts):
            self.left_out["hidden files in archives"] += 1
        elif member.kind not in _FILES or (ending not in self._endings and (ending or not reader.is_image(member))):
            self.left_out["files in archives that are no images"] += 1
        else:
            name, relative = str(self._path / below), self._folder / below
            if member.size > LONGEST_MEMBER:
                problem = f"it is too long: {member.size:,} bytes; at most {LONGEST_MEMBER:,} are read"
                return Item(name=name, relative=relative, problem=problem)
            return Item(name=name, image=reader.read(member), relative=relative)
        return None


@frozen(kw_only=True)
class _Member:
    """What a header says of what follows it; ``kind`` is that of the format, where other formats' count as ``?``."""

    name: str
    kind: bytes
    size: int


class _Reader:
    """The members of an archive, one after the other; of each, the bytes may be read before the next.

    Nothing is sought backwards, since packed files would be unpacked anew.

    Raises:
        ValueError: the archive is damaged, or of a kind that is not known; says where and why.
    """

    def __init__(self, file: BinaryIO | gzip.GzipFile) -> None:
        self._file = file
        self._at = 0  # where the header lies that was read last
        self._start = b""  # of the member's bytes, if they were looked at

    def members(self) -> Iterator[_Member]:
        """Yield each member, up to the end of the file: archives may be joined, and gzip's checksum comes last."""
        following, ended = 0, False
        shared: dict[bytes, bytes] = {}
        own: dict[bytes, bytes] = {}
        while True:
            self._file.seek(following)
            self._at, self._start = following, b""
            header = self._file.read(BLOCK)
            if not header.strip(b"\0") and (len(header) == BLOCK or ended):  # the mark that ends an archive
                if len(header) < BLOCK:
                    return
                following, ended = following + BLOCK, True
                continue
            ended = False
            kind, size, name = self._parse(header)
            if kind in b"xXgLK":
                (shared if kind == b"g" else own).update(self._more(kind, size))
            else:
                said = shared | own
                size = int(said.get(b"size", size))
                name = said.get(b"path", name)
                if kind == b"\0" and name.endswith(b"/"):  # a folder, as before POSIX
                    kind = b"5"
                shown = b"?" if b"sparse" in said else kind
                yield _Member(name=name.decode("utf-8", "surrogateescape"), kind=shown, size=size)
                own = {}
            following = self._at + BLOCK + (0 if kind in _WITHOUT_DATA else -(-size // BLOCK) * BLOCK)

    def read(self, member: _Member) -> bytes:
        """Return the bytes of the member that came last."""
        parts, rest = [self._start], member.size - len(self._start)
        while rest > 0:
            part = self._file.read(min(rest, _PART))
            if not part:
                raise self._damage("it is cut short")
            parts.append(part)
            rest -= len(part)
        return b"".join(parts)

    def is_image(self, member: _Member) -> bool:
        """Return whether the member that came last begins as an image."""
        self._start = self._file.read(min(16, member.size))
        return begins_as_an_image(self._start)

    def _parse(self, header: bytes) -> tuple[bytes, int, bytes]:
        """Kind, size and name from a header."""
        if len(header) < BLOCK:
            raise self._damage("it is cut short" if header or self._at else "it is empty")
        summed = sum(header[:148]) + sum(header[156:]) + 8 * ord(" ")
        if self._octal(header[148:156]) != summed:
            raise self._damage("it is damaged" if self._at else "it is no tar archive")
        kind = header[156:157]
        if kind == b"S":
            raise self._damage("it holds sparse files, which are not read")
        name, prefix = (part.partition(b"\0")[0] for part in (header[:100], header[345:500]))
        if header[257:263] == b"ustar\0" and prefix:  # GNU has times there
            name = prefix + b"/" + name
        field = header[124:136]
        # GNU writes what has more than eleven octal digits in binary.
        size = int.from_bytes(field[1:], "big") if field[0] == 0x80 else self._octal(field)
        if size > LARGEST:
            raise self._damage("it is damaged")
        return kind, size, name

    def _more(self, kind: bytes, size: int) -> dict[bytes, bytes]:
        """What an extended header says of what follows, of that what matters here."""
        if size > LONGEST_HEADER:
            raise self._damage(f"a header has {size:,} bytes, where at most {LONGEST_HEADER:,} are read")
        body = self.read(_Member(name="", kind=kind, size=size))
        if kind in b"LK":
            return {b"path": body.partition(b"\0")[0]} if kind == b"L" else {}
        found: dict[bytes, bytes] = {}
        at = 0
        while match := _RECORD.match(body, at):
            start, at = match.end(), at + int(match[1])
            value = body[start : at - 1]
            if not start < at <= len(body) or (match[2] == b"size" and not re.fullmatch(rb"\d{1,18}", value)):
                raise self._damage("it is damaged")
            if match[2].startswith(b"GNU.sparse."):
                found[b"sparse"] = b"yes"
            elif match[2] in (b"path", b"size"):
                found[match[2]] = value
        return found

    def _octal(self, field: bytes) -> int:
        match = _OCTAL.fullmatch(field)
        if match is None:
            raise self._damage("it is damaged" if self._at else "it is no tar archive")
        return int(match[1] or b"0", 8)

    def _damage(self, what: str) -> ValueError:
        return ValueError(f"{what} (after {self._at:,} bytes)" if self._at else what)


_OCTAL = re.compile(rb"[ \0]*([0-7]*)(?:[ \0].*)?", re.DOTALL)
_RECORD = re.compile(rb"(\d{1,7}) ([^=\n]+)=")
