"""Which pictures to read, and what is written about them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from polyface.errors import ConfigError
from polyface.weights import expanded

if TYPE_CHECKING:
    from polyface.imaging import Picture
    from polyface.results import Detections

SUFFIXES = {".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
"""What a file in a folder must end in to be read; a file named by itself is read whatever it ends in."""

JPEG_QUALITY = 90


@frozen(kw_only=True)
class Job:
    """One picture to do: its name as the user would write it, where it lies, and what its drawing is called.

    Args:
        name: the path as given, or as found below a folder that was given.
        path: where it lies.
        drawing: below the output folder.
        problem: why it cannot be read, when that is known already.
    """

    name: str
    path: Path
    drawing: Path
    problem: str | None = None


def find_pictures(inputs: Iterable[str], output: str | None = None) -> list[Job]:
    """Return a job for every picture named and every picture below a folder named, sorted within each folder.

    A path that does not exist, a folder without pictures and one that cannot be listed are jobs, too, with their
    problem. The output folder is not searched, so that a second run does not read what the first one drew.

    Raises:
        ConfigError: an input is an empty text, the output folder is one of the folders to read, or a drawing would
            take the place of a picture.
    """
    skip = resolved(output) if output else None
    taken: set[str] = set()
    jobs = []
    for name in inputs:
        if not name:
            raise ConfigError("An empty text names no picture.", why=["is a variable of the shell unset?"])
        root = Path(name)
        if root.is_dir():
            if skip == root.resolve():
                raise ConfigError(
                    f"The output folder {output} is the folder to read: its drawings would be the next run's pictures.",
                    fix=f"--output {shlex.quote(str(root / 'out'))}",
                )
            found = [(path, path.relative_to(root), reason) for path, reason in _walk(root, skip)]
            problem: str | None = "the folder has no pictures"
        else:
            found = []
            problem = None if root.exists() else "there is no such file or folder"
        for path, relative, obstacle in found or [(root, Path(root.name), problem)]:
            jobs.append(Job(name=str(path), path=path, drawing=_free(relative, taken), problem=obstacle))
    if skip is not None:
        pictures = {resolved(job.path) for job in jobs}
        for job in jobs:
            if skip / job.drawing in pictures:
                raise ConfigError(
                    f"The drawing of {job.name} would take the place of the picture {skip / job.drawing}.",
                    fix=f"--output {shlex.quote(str(skip / 'out'))}",
                )
    return jobs


def resolved(path: str | Path) -> Path:
    """Return the absolute path without links, ``~`` expanded.

    Raises:
        ConfigError: there cannot be such a path.
    """
    whole = expanded(path)
    try:
        return whole.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"{str(path)!r} is no path.", why=[str(error)]) from error


def _walk(root: Path, skip: Path | None) -> Iterator[tuple[Path, str | None]]:
    """Every picture below a folder, and every folder that cannot be listed with the reason."""
    closed: list[OSError] = []
    for folder, folders, files in os.walk(root, onerror=closed.append):
        folders[:] = sorted(name for name in folders if Path(folder, name).resolve() != skip)
        paths = [Path(folder, name) for name in sorted(files) if Path(name).suffix.lower() in SUFFIXES]
        # A pipe would be waited on for ever; a link to nothing is a picture that is missing.
        yield from ((path, None) for path in paths if path.is_file() or not path.exists())
    for error in closed:
        yield Path(error.filename), f"the folder cannot be listed: {error.strerror}"


def _free(relative: Path, taken: set[str]) -> Path:
    """A name that no other drawing has: ``a.jpg`` and ``a.png`` become ``a_out.jpg`` and ``a-2_out.jpg``."""
    for number in range(1, len(taken) + 2):
        stem = relative.stem if number == 1 else f"{relative.stem}-{number}"
        drawing = relative.parent / f"{stem}_out.jpg"
        if str(drawing).casefold() not in taken:
            break
    taken.add(str(drawing).casefold())
    return drawing


class OutputFolder:
    """The folder that receives the drawings and ``faces.jsonl``; what it holds is whole at every moment.

    Raises:
        ConfigError: it cannot be written to.
    """

    def __init__(self, folder: str) -> None:
        self.folder = resolved(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Unbuffered, so that a line is one write: an interrupted run ends with a whole line.
            self._lines = (self.folder / "faces.jsonl").open("wb", buffering=0)
        except OSError as error:
            raise ConfigError(
                f"The output folder {folder} cannot be written to.", why=[str(error)], fix="--output another-folder"
            ) from error

    def __enter__(self) -> OutputFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()

    def append(self, line: bytes) -> None:
        """Add a line to ``faces.jsonl``."""
        self._lines.write(line + b"\n")

    def draw(self, job: Job, picture: Picture, faces: Detections) -> None:
        """Write the picture with its faces drawn, aside first and then into its place.

        Raises:
            OSError: it cannot be written.
            ValueError: it cannot be a JPEG: one has at most 65,500 pixels a side.
        """
        from polyface.drawing import draw_faces

        path = self.folder / job.drawing
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.folder / f".{os.getpid()}.part"  # short: the drawing's own name may be as long as names can be
        try:
            draw_faces(picture, faces).save(aside, format="JPEG", quality=JPEG_QUALITY)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
