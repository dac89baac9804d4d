"""Documents: files that are of one piece, made of a journal that has a line for each result."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from polyface.errors import ConfigError, Fix
from polyface.storage.places import OTHER_OUTPUT, find_results
from polyface.writers.jsonl import JsonLines

if TYPE_CHECKING:
    from polyface.results import Result
    from polyface.storage.places import Place


def was_examined(line: Mapping[str, Any]) -> bool:
    """Return whether the faces in a line are those of the image, not a failure; one may be found and not be drawn."""
    return line["error"] is None or bool(line["faces"])


class Document(abc.ABC):
    """A file that is written at the end, such as CSV with a column for all that results turn out to have.

    Until then, and whatever kills the run, the results are lines in the journal, a ``faces.jsonl`` beside it. It stays,
    so that ``--resume`` goes on with it and makes the document anew. In memory are the names of the images alone.

    Args:
        place: the file.

    Raises:
        ConfigError: the document is there without its journal, or either is somebody else's.
        OSError: it cannot be written to.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._closed = False
        try:
            place.read(place.journal).close()
        except FileNotFoundError:
            if find_results(place.path):
                raise ConfigError(
                    f"{place.path} cannot be gone on with.",
                    why=[f"{place.journal}, of which polyface makes it, does not lie beside it"],
                    fix=Fix("put that back") | OTHER_OUTPUT,
                ) from None
        self._journal = JsonLines(place, place.journal)

    @abc.abstractmethod
    def make(self, lines: Iterable[dict[str, Any]], stream: BinaryIO) -> None:
        """Write the document.

        Args:
            lines: the results in their order, as :meth:`polyface.results.Result.to_dict` has them; may be gone through
                more than once, and are best not held: there may be a million.
            stream: takes the place of the document once this returns.
        """

    def has(self, name: str) -> bool:
        """Return whether there is a result of the image of that name."""
        return self._journal.has(name)

    def failed(self, name: str) -> bool:
        """Return whether the image of that name failed."""
        return self._journal.failed(name)

    def write(self, result: Result) -> None:
        """Add a result to the journal.

        Raises:
            OSError: it cannot be written.
        """
        self._journal.write(result)

    def close(self) -> None:
        """Make the document; twice is fine.

        Raises:
            OSError: it cannot be written; the journal is whole.
        """
        if self._closed:
            return
        self._closed = True
        self._journal.close()
        with self._place.atomic_write() as stream:
            self.make(self._journal, stream)
