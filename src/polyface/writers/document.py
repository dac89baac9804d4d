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


class Journaled:
    """A writer that keeps results as lines in a journal, a ``faces.jsonl`` beside its file, and makes that of them.

    The journal stays, whatever kills the run, so that ``--resume`` goes on with it. In memory are the names of the
    images alone.

    Args:
        place: the file.

    Attributes:
        place: as given.
        journal: the results in their order, those of the run before first.

    Raises:
        ConfigError: the file is there without its journal, or either is somebody else's.
        OSError: it cannot be written to.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        try:
            place.read(place.journal).close()
        except FileNotFoundError:
            if find_results(place.path):
                raise ConfigError(
                    f"{place.path} cannot be gone on with.",
                    why=[f"{place.journal}, of which polyface makes it, does not lie beside it"],
                    fix=Fix("put that back") | OTHER_OUTPUT,
                ) from None
        self.journal = JsonLines(place, place.journal)

    def has(self, name: str) -> bool:
        """Return whether there is a result of the image of that name."""
        return self.journal.has(name)

    def failed(self, name: str) -> bool:
        """Return whether the image of that name failed."""
        return self.journal.failed(name)

    def write(self, result: Result) -> None:
        """Add a result to the journal.

        Raises:
            OSError: it cannot be written.
        """
        self.journal.write(result)

    def close(self) -> None:
        """Close the journal; twice is fine."""
        self.journal.close()


class Document(Journaled, abc.ABC):
    """A file that is written at the end, such as CSV with a column for all that results turn out to have.

    It is made also of a run that was cut off, of the results up to there, and made anew by the next one. See
    :class:`Journaled` for the arguments and what is raised.
    """

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._closed = False

    @abc.abstractmethod
    def make(self, lines: Iterable[dict[str, Any]], stream: BinaryIO) -> None:
        """Write the document.

        Args:
            lines: the results in their order, as :meth:`polyface.results.Result.to_dict` has them; may be gone through
                more than once, and are best not held: there may be a million.
            stream: takes the place of the document once this returns.
        """

    def close(self) -> None:
        """Make the document; twice is fine.

        Raises:
            OSError: it cannot be written; the journal is whole.
        """
        if self._closed:
            return
        self._closed = True
        super().close()
        with self.place.atomic_write() as stream:
            self.make(self.journal, stream)
