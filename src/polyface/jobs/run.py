"""The one loop: results go through the writers, and are counted and reported."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import attrs
from attrs import field, mutable

from polyface.errors import (
    ConfigError,
    ContractError,
    Fix,
    ImageError,
    PluginError,
    PolyfaceError,
    plugin_errors,
    quoted,
)
from polyface.pipeline.stream import read_item
from polyface.plugins.protocols import Finishing, KnowsFailures, Resumable, Writer
from polyface.results import Item, Result
from polyface.storage.places import OTHER_OUTPUT

T = TypeVar("T")

WRITE = "write"
"""The stage that counts the seconds of the writers; in what a writer gets, those of the writers before it."""


@mutable
class Tally:
    """What a job has done so far.

    Attributes:
        total: how many items there are; ``None`` where that is not known.
        before: how many of them a run before has done, and this one leaves out.
        failed_before: how many of those failed, as far as a writer knows.
        items: how many this run has done, failed ones among them.
        failed: how many could not be examined, or not be written.
        faces: how many were found.
        stages: the seconds of each stage, where they are measured.
        timed: how many items these are of.
    """

    total: int | None = None
    before: int = 0
    failed_before: int = 0
    items: int = 0
    failed: int = 0
    faces: int = 0
    stages: dict[str, float] = field(factory=dict)
    timed: int = 0

    @property
    def progress(self) -> str:
        """How many were done, by runs before as well, such as ``"2 of 5"``."""
        done = self.before + self.items
        return str(done) if self.total is None else f"{done} of {self.total}"

    def add(self, result: Result) -> None:
        """Count a result."""
        self.items += 1
        self.failed += result.error is not None
        self.faces += len(result.faces)
        self.timed += result.timing is not None
        for stage, spent in (result.timing or {}).items():
            self.stages[stage] = self.stages.get(stage, 0.0) + spent


def run(
    results: Iterable[Result],
    writers: Sequence[tuple[str, Writer]] = (),
    *,
    tally: Tally,
    report: Callable[[Result], None] = lambda _: None,
    finishing: Callable[[str], None] = lambda _: None,
    max_errors: int | None = None,
) -> bool:
    """Give each result to the writers, in their order, count it, and report it.

    What a writer makes of a result is in the ``extra`` of what the next one gets. A writer that has a result of that
    name does not get it: a run before did, or the image was named twice. A result that a writer cannot take
    bears the error from there on, and that writer gets it once more, as the error that it is now.

    Args:
        results: as of :meth:`polyface.FaceDetector.stream`.
        writers: each with what its place is called; they stay open.
        tally: counts, and is right at any moment, whatever ends the run.
        report: told of each result, as the last writer leaves it.
        finishing: told of each place where something is made of the whole run now, which may take its time.
        max_errors: stop after more than so many that failed in this run; ``None`` is never.

    Returns:
        Whether it went through all results.

    Raises:
        ConfigError: a place cannot be written to any more.
        PluginError: the code of a writer fails.
        PolyfaceError: a writer cannot make what it makes of a whole run.
    """
    for given in results:
        result = given
        for place, writer in writers:
            if not (isinstance(writer, Resumable) and writer.has(result.name)):
                result = _write(result, place, writer, tally)
        tally.add(result)
        report(result)
        if max_errors is not None and tally.failed > max_errors:
            return False
    for place, writer in writers:
        if isinstance(writer, Finishing):
            finishing(place)
            _finish(place, writer, tally)
    return True


def leave_out_done(items: Iterable[Item], writers: Sequence[Writer], *, tally: Tally) -> Iterator[Item]:
    """Yield the items that one of the writers has no result of; the rest is not even read.

    Args:
        items: as a source yields them.
        writers: those that keep results, at least one; one that is not ``Resumable`` has none.
        tally: counts what is left out.
    """
    for item in items:
        if all(isinstance(writer, Resumable) and writer.has(item.name) for writer in writers):
            tally.before += 1
            tally.failed_before += any(isinstance(one, KnowsFailures) and one.failed(item.name) for one in writers)
        else:
            yield item


def read_images(
    items: Iterable[Item], read: Callable[[Any], T], *, tally: Tally, report: Callable[[Result], None]
) -> Iterator[tuple[Item, T]]:
    """Yield each item and its image; one that cannot be read is reported, and left out.

    Args:
        items: as a source yields them.
        read: returns the image of what :attr:`polyface.results.Item.image` holds.
        tally: counts every item.
        report: told of every item before it is yielded, or in its place.

    Raises:
        PluginError: the code of a plugin fails.
    """
    for item in items:
        image = read_item(read, item)
        result = Result(name=item.name, error=image if isinstance(image, PolyfaceError) else None, item=item)
        tally.add(result)
        report(result)
        if not isinstance(image, PolyfaceError):
            yield item, image


def _write(result: Result, place: str, writer: Writer, tally: Tally) -> Result:
    started = time.perf_counter()
    try:
        with plugin_errors(*_failed(place), but=(OSError,)):
            made = writer.write(result)
            if not isinstance(made, Mapping | None):
                raise ContractError(f"A writer must return a table or None, not {quoted(made)}.")
            written = attrs.evolve(result, extra={**result.extra, **made}) if made else result
    except PluginError:
        raise
    except OSError as error:
        raise _cannot_write(place, error, tally) from error
    except (PolyfaceError, MemoryError) as error:
        if result.error is not None:
            return result
        short = ImageError(f"there is too little memory to write it to {place}", fix=OTHER_OUTPUT)
        failure = error if isinstance(error, PolyfaceError) else short
        return _write(attrs.evolve(result, error=failure), place, writer, tally)
    if written.timing is None:
        return written
    spent = written.timing.get(WRITE, 0.0) + time.perf_counter() - started
    return attrs.evolve(written, timing={**written.timing, WRITE: spent})


def _finish(place: str, writer: Finishing, tally: Tally) -> None:
    try:
        with plugin_errors(*_failed(place), but=(OSError,)):
            writer.finish()
    except OSError as error:
        raise _cannot_write(place, error, tally) from error


def _failed(place: str) -> tuple[str, Fix]:
    return f"The writer of {place} failed.", Fix("mend its plugin") | OTHER_OUTPUT


def _cannot_write(place: str, error: OSError, tally: Tally) -> ConfigError:
    done = f"{tally.progress} images were done; what was written is whole"
    return ConfigError(f"Cannot write to {place}.", why=[str(error), done])
