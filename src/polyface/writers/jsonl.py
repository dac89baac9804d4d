"""``faces.jsonl``: a line of JSON for each image."""

from __future__ import annotations

import itertools
import json
import os
from typing import TYPE_CHECKING, Any

from polyface.errors import ConfigError
from polyface.storage.files import json_bytes
from polyface.storage.places import OTHER_OUTPUT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import PurePath

    from polyface.results import Result
    from polyface.storage.places import Place


class JsonLines:
    """A file with a line for each image: :meth:`polyface.results.Result.to_dict` as JSON.

    It goes on with a file that is there: its lines stay, but for half a line that a killed run left at the end. In
    memory are the names of the images alone.

    Args:
        place: the file.
        name: another file of the place, such as its journal.

    Raises:
        ConfigError: it is somebody else's file.
        OSError: it cannot be written to.
    """

    def __init__(self, place: Place, name: PurePath | None = None) -> None:
        self._place = place
        self._name = name
        self._images: set[str] = set()
        self._failed: set[str] = set()
        self._read_images()
        self._lines = place.lines(name)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield each line as a table."""
        with self._place.read(self._name) as stream:
            yield from map(json.loads, stream)

    def has(self, name: str) -> bool:
        """Return whether there is a line of the image of that name."""
        return name in self._images

    def failed(self, name: str) -> bool:
        """Return whether that image failed; of several lines, the last one counts."""
        return name in self._failed

    def write(self, result: Result) -> None:
        """Add the line of a result, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        self._lines.add(json_bytes(result.to_dict()))
        self._note(result.name, failed=result.error is not None)

    def close(self) -> None:
        """Close the file; twice is fine."""
        self._lines.close()

    def _note(self, image: str, *, failed: bool) -> None:
        self._images.add(image)
        (self._failed.add if failed else self._failed.discard)(image)

    def _read_images(self) -> None:
        """Learn which images have a line, and see to it that the file can be added to."""
        try:
            stream = self._place.read(self._name)
        except FileNotFoundError:
            return
        with stream:
            count, whole = 0, True
            for line in stream:
                whole = line.endswith(b"\n")
                record = _read_line(line)
                if record is not None:
                    self._note(record["image"], failed=record.get("error") is not None)
                    count += 1
                elif whole:
                    path = self._place.path.with_name(self._name.name) if self._name else self._place.path
                    raise ConfigError(
                        f"Line {count + 1} of {path} is not one that polyface writes.",
                        why=["its lines stay beside those of the images that are done now"],
                        fix=OTHER_OUTPUT,
                    )
            # Whoever has a second name for the file, a backup for one, keeps what it has.
            if not whole or os.fstat(stream.fileno()).st_nlink > 1:
                with self._place.atomic_write(self._name) as new:
                    stream.seek(0)
                    new.writelines(line.rstrip(b"\n") + b"\n" for line in itertools.islice(stream, count))


def _read_line(line: bytes) -> dict[str, Any] | None:
    """What a line says of an image, if it is such a line."""
    try:
        record: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("image"), str) else None
