"""Images whose names are numbered, which are read as one video."""

from __future__ import annotations

import os
import re
from pathlib import PurePath

from attrs import frozen

from polyface.errors import ConfigError, quoted

PREFIX = "frames:"
"""How what names them begins."""


@frozen
class Numbered:
    """Images of one folder, whose names differ in a number.

    Args:
        folder: as it was named; empty is the current one.
        before: what names have before the number.
        digits: how many it has at least, with zeros.
        after: what names have after it.
    """

    folder: str
    before: str
    digits: int
    after: str

    @classmethod
    def of(cls, location: str) -> Numbered:
        """Read what names them, such as ``frames:shots/%05d.png``.

        Raises:
            ConfigError: it names none.
        """
        folder, name = os.path.split(os.path.expanduser(location.removeprefix(PREFIX)))  # noqa: PTH111 - as of videos
        found = re.fullmatch(r"(.*)%(?:0?(\d+))?d(.*)", name, re.DOTALL)
        if found is None:
            raise ConfigError(
                f"{quoted(location)} names no sequence of images.",
                why=["%d stands for a number in the names of files, %05d for one of five digits"],
                fix="write frames:folder/%05d.png",
            )
        return cls(folder, found[1], int(found[2] or 1), found[3])

    @property
    def pattern(self) -> str:
        """How FFmpeg calls them, with each ``%`` doubled that stands for itself."""
        folder, before, after = (part.replace("%", "%%") for part in (self.folder, self.before, self.after))
        return os.path.join(folder, f"{before}%0{self.digits}d{after}")  # noqa: PTH118 - a text with other rules

    @property
    def title(self) -> str:
        """What they are called together: the folder, and what their names have in common."""
        folder = os.path.basename(os.path.abspath(self.folder or "."))  # noqa: PTH100, PTH119 - it may be ".."
        parts = (folder, self.before, PurePath(f"x{self.after}").stem[1:])
        kept = [part for given in parts if (part := re.sub(r"[^\w.]+", "-", given).strip("-._"))]
        return "-".join(kept) or "frames"

    def name(self, number: int) -> str:
        """The name of the file of a number."""
        return f"{self.before}{number:0{self.digits}}{self.after}"

    def find_first(self) -> int | None:
        """Return the lowest number of a file that is there; ``None`` without one."""
        numbered = re.compile(f"{re.escape(self.before)}(\\d+){re.escape(self.after)}", re.ASCII | re.DOTALL)
        folder = self.folder or "."
        names = os.listdir(folder) if os.path.isdir(folder) else []  # noqa: PTH112, PTH208 - there may be a million
        found = ((int(match[1]), name) for name in names if (match := numbered.fullmatch(name)))
        return min((number for number, name in found if name == self.name(number)), default=None)
