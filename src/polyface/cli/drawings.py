"""The folder that receives the drawings and ``faces.jsonl``."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Any

from polyface.cli.tables import say
from polyface.errors import ConfigError
from polyface.settings.paths import resolve_path
from polyface.sources.files import Job
from polyface.storage.folders import LockedFolder

if TYPE_CHECKING:
    from polyface.images.reading import Decoded
    from polyface.results import Detections

LINES = "faces.jsonl"

JPEG_QUALITY = 90


class OutputFolder:
    """The folder that receives the drawings and ``faces.jsonl``; what it holds is whole at every moment.

    ``faces.jsonl`` has a line for each image of all runs into the folder. Where an image is done again its new line
    is added at once, and the one of before is taken away at the end, or, where the run is killed, by the next.

    Args:
        folder: made where there is none.
        jobs: the images that will be done.

    Raises:
        ConfigError: it cannot be written to, another run writes to it, its ``faces.jsonl`` is somebody else's, or a
            drawing would take the place of an image.
    """

    def __init__(self, folder: str, jobs: Sequence[Job] = ()) -> None:
        self.folder = resolve_path(folder)
        self._again = False
        with contextlib.ExitStack() as stack, _blaming(folder):
            self._place = stack.enter_context(LockedFolder(self.folder))
            if not self._place.locked:
                say(f"note: {folder} lies where no file can be locked; one run at a time!", err=True)
            self._known = self._compact()
            self._drawings = self._name(jobs)
            self._lines = self._place.open(LINES, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            stack.pop_all()

    def __enter__(self) -> OutputFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._place:
            os.close(self._lines)
            if not self._again:
                return
            try:
                self._compact()
            except OSError as obstacle:
                if error is None:
                    raise ConfigError(
                        f"{self.folder / LINES} still has the lines of before beside those of this run.",
                        why=[str(obstacle)],
                        fix="run it again, or take the last line of each image",
                    ) from obstacle

    def append(self, name: str, line: bytes) -> None:
        """Add the line of an image to ``faces.jsonl``, whole or not at all.

        Raises:
            OSError: it cannot be written, or the folder is no longer where it was.
        """
        self._place.check()
        if not self._place.holds(LINES, self._lines):
            raise OSError(f"{self.folder / LINES} was removed or replaced while it was written to")
        end = os.fstat(self._lines).st_size
        try:
            rest = memoryview(line + b"\n")
            while rest:  # nearly always once: a full disk takes a part, and then refuses
                rest = rest[os.write(self._lines, rest) :]
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(self._lines, end)
            raise
        self._again |= name in self._known
        self._known[name] = None

    def draw(self, job: Job, image: Decoded, faces: Detections) -> str:
        """Write the image with its faces drawn, a draft as it is, and return the drawing's path below the folder.

        Raises:
            OSError: it cannot be written.
            ValueError: it cannot be a JPEG: one has at most 65,500 pixels a side.
        """
        from polyface.images.drawing import draw_faces

        drawing = self._drawings[job.name]
        data = io.BytesIO()  # Pillow itself does not notice when a disk takes only a part
        draw_faces(image, faces).save(data, format="JPEG", quality=JPEG_QUALITY)
        with self._place.atomic_write(drawing) as stream:
            stream.write(data.getbuffer())
        return drawing.as_posix()

    def _name(self, jobs: Sequence[Job]) -> dict[str, PurePath]:
        """The drawing of each image: its own of a run before, or one that no other has, ``a-2_out.jpg``."""
        named: dict[str, PurePath] = {}
        taken = {_folded(drawing): name for name, drawing in self._known.items() if drawing is not None}
        first: Counter[str] = Counter()
        for job in jobs:
            if job.problem is None and job.name not in named:
                base = job.relative.with_suffix("")
                before = self._known.get(job.name)
                if before is not None and _is_named_after(before, base) and taken[_folded(before)] == job.name:
                    named[job.name] = before
                    continue
                for number in itertools.count(first[_folded(base)] + 1):
                    stem = base.name if number == 1 else f"{base.name}-{number}"
                    drawing = base.with_name(f"{stem}_out.jpg")
                    if taken.setdefault(_folded(drawing), job.name) == job.name:
                        break
                first[_folded(base)] = number
                named[job.name] = drawing
        self._refuse_images(jobs, named)
        return named

    def _refuse_images(self, jobs: Sequence[Job], named: dict[str, PurePath]) -> None:
        there = {_identity(self.folder / drawing, follow=False): name for name, drawing in named.items()}
        there.pop(None, None)
        if not there:
            return
        for job in jobs:
            for follow in (False, True):
                owner = there.get(_identity(job.path, follow=follow))
                if owner is not None:
                    raise ConfigError(
                        f"The drawing of {owner} would take the place of the image {self.folder / named[owner]}.",
                        fix=f"--output {shlex.quote(str(self.folder / 'out'))}",
                    )

    def _compact(self) -> dict[str, PurePath | None]:
        """Keep the last line of each image; return the images, and the drawing of each that has one.

        Raises:
            ConfigError: it is not a file of such lines.
            OSError: it cannot be read or written.
        """
        last: dict[str, tuple[int, int]] = {}
        drawings: dict[str, PurePath | None] = {}
        try:
            stream = os.fdopen(self._place.open(LINES, os.O_RDONLY), "rb")
        except FileNotFoundError:
            return {}
        with stream:
            count = position = 0
            for count, line in enumerate(stream, 1):
                record = _record(line)
                if record is not None:
                    name = record["image"]
                    last.pop(name, None)
                    last[name] = position, len(line)
                    drawings[name] = PurePath(record["drawing"]) if isinstance(record.get("drawing"), str) else None
                elif line.endswith(b"\n"):
                    raise ConfigError(
                        f"Line {count} of {self.folder / LINES} is not one that polyface writes.",
                        why=["its lines stay beside those of the images that are done now"],
                        fix=f"--output another-folder; or: rm {shlex.quote(str(self.folder / LINES))}",
                    )
                position += len(line)
                whole = line.endswith(b"\n")
            # Whoever has a second name for the file, a backup for one, keeps what it has.
            if len(last) == count and (count == 0 or whole) and os.fstat(stream.fileno()).st_nlink == 1:
                return drawings
            with self._place.atomic_write(PurePath(LINES)) as new, stream:
                for start, length in last.values():
                    stream.seek(start)
                    new.write(stream.read(length).rstrip(b"\n") + b"\n")
        return drawings


@contextlib.contextmanager
def _blaming(folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"The output folder {folder} cannot be written to.", why=[str(error)], fix="--output another-folder"
        ) from error


def _record(line: bytes) -> dict[str, Any] | None:
    """What a line says of an image, if it is one."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("image"), str) else None


def _is_named_after(drawing: PurePath, base: PurePath) -> bool:
    return drawing.parent == base.parent and bool(
        re.fullmatch(rf"{re.escape(base.name)}(-\d+)?_out\.jpg", drawing.name)
    )


def _identity(path: Path, *, follow: bool) -> tuple[int, int] | None:
    try:
        status = path.stat(follow_symlinks=follow)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _folded(path: PurePath) -> str:
    """What names that are one on some file system have in common: neither case nor the form of accents counts there."""
    return unicodedata.normalize("NFC", str(path).casefold())
