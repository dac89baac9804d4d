"""``faces.jsonl``: a line of JSON for each image, of all runs."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from polyface.errors import ConfigError
from polyface.storage.files import json_bytes
from polyface.storage.places import OTHER_OUTPUT

if TYPE_CHECKING:
    from polyface.results import Result
    from polyface.storage.places import Place


class JsonLines:
    """A file with a line for each image of all runs that wrote to it: :meth:`polyface.results.Result.to_dict` as JSON.

    Where an image is done again its new line is added at once, and the one of before is taken away at the end, or,
    where the run is killed, by the next.

    Args:
        place: the file.

    Raises:
        ConfigError: it is somebody else's file.
        OSError: it cannot be written to.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._known = self._compact()
        self._lines = place.lines()
        self._again = False
        self._closed = False

    def write(self, result: Result) -> None:
        """Add the line of a result, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        self._lines.add(json_bytes(result.to_dict()))
        self._again |= result.name in self._known
        self._known.add(result.name)

    def close(self) -> None:
        """Take the lines away that others replaced; twice is fine.

        Raises:
            ConfigError: they cannot be taken away.
        """
        if self._closed:
            return
        self._closed = True
        self._lines.close()
        if self._again:
            try:
                self._compact()
            except OSError as error:
                raise ConfigError(
                    f"{self._place.path} still has the lines of before beside those of this run.",
                    why=[str(error)],
                    fix="run it again, or take the last line of each image",
                ) from error

    def _compact(self) -> set[str]:
        """Keep the last line of each image, and return the images."""
        last: dict[str, tuple[int, int]] = {}
        try:
            stream = self._place.read()
        except FileNotFoundError:
            return set()
        with stream:
            count, position, whole = 0, 0, True
            for count, line in enumerate(stream, 1):
                whole = line.endswith(b"\n")
                name = _image_of(line)
                if name is not None:
                    last.pop(name, None)
                    last[name] = position, len(line)
                elif whole:
                    path = self._place.path
                    raise ConfigError(
                        f"Line {count} of {path} is not one that polyface writes.",
                        why=["its lines stay beside those of the images that are done now"],
                        fix=OTHER_OUTPUT,
                    )
                position += len(line)
            # Whoever has a second name for the file, a backup for one, keeps what it has.
            if len(last) < count or not whole or os.fstat(stream.fileno()).st_nlink > 1:
                with self._place.atomic_write() as new:
                    for start, length in last.values():
                        stream.seek(start)
                        new.write(stream.read(length).rstrip(b"\n") + b"\n")
        return set(last)


def _image_of(line: bytes) -> str | None:
    """The name of the image that a line is about, if it is such a line."""
    try:
        record: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    name = record.get("image") if isinstance(record, dict) else None
    return name if isinstance(name, str) else None
