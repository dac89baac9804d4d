"""What a command that goes through many images says meanwhile."""

from __future__ import annotations

import datetime as dt
import itertools
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from attrs import Factory, field, mutable

from polyface.cli.options import in_options
from polyface.cli.output import is_quiet, results
from polyface.cli.tables import note, say

if TYPE_CHECKING:
    from rich.console import Console

    from polyface.results import Result

TOLD = 5
"""So many images that fail for the same reason are told at once, unless ``-v`` is given."""

NAMED = 3
"""So many of them are named in the summary."""

REASONS = 50
"""So many reasons are told apart."""


@contextmanager
def progress(
    total: int | None, *, before: Callable[[], int] = lambda: 0, as_json: bool = False, doing: str = "detecting"
) -> Iterator[Callable[[], None]]:
    """A progress bar on standard error, where somebody may see it; yields what counts one.

    ``before`` says how many were done without being counted, which may still grow.

    There is none where standard output is a terminal, too, and receives JSON: nothing else belongs there then.
    """
    console = _terminal(as_json=as_json)
    if console is None:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}"))
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(doing, total=total, completed=before(), pace="")
        count, started = itertools.count(1), time.monotonic()

        def advance() -> None:
            done, completed = next(count), before()
            completed += done
            left = None if total is None else total - completed
            bar.update(task, completed=completed, pace=pace(done, time.monotonic() - started, left))

        yield advance


def _terminal(*, as_json: bool) -> Console | None:
    """Where a bar goes, if anywhere; rich is loaded only then, or to find that out."""
    stdout = results()
    if is_quiet() or (as_json and stdout is not None and stdout.isatty()):
        return None
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_terminal else None


def pace(done: int, seconds: float, left: int | None) -> str:
    """Return how many images a second were done, and how long the rest will take at that rate, where that is known.

    What a run before has done has no part in it.
    """
    rate = done / max(seconds, 1e-6)
    text = f"{rate:.3g}/s" if rate < 100 else f"{rate:.0f}/s"
    return text if left is None else f"{text}, {dt.timedelta(seconds=round(left / rate))} left"


@contextmanager
def report_progress(
    total: int | None,
    *,
    before: Callable[[], int] = lambda: 0,
    as_json: bool = False,
    doing: str = "detecting",
    failed: str = "",
    failures: Failures | None = None,
) -> Iterator[Callable[[Result], None]]:
    """A progress bar that yields what is to be told of each result: it counts, and says an error at once.

    ``failed`` stands before the name of an image with an error. ``failures`` are told there, and the caller sums them
    up; by default that is done when the bar is gone. All else is as of :func:`progress`.
    """
    told = Failures() if failures is None else failures
    try:
        with progress(total, before=before, as_json=as_json, doing=doing) as advance:

            def report(result: Result) -> None:
                if result.error is not None:
                    told.tell(result, failed)
                advance()

            yield report
    finally:
        if failures is None:
            told.sum_up()


@mutable
class _Reason:
    """What several images failed for: the words of the first, and what mends it, however many ways that is said."""

    words: str
    count: int = 0
    names: list[str] = field(factory=list)
    fixes: list[str] = field(factory=list)


@mutable
class Failures:
    """Images with an error: the first of each reason are told at once, and all are summed up in the end.

    What differs only in numbers is one reason.
    """

    _reasons: dict[str, _Reason] = field(factory=dict, init=False)
    _all: bool = field(default=Factory(lambda: logging.getLogger("polyface").isEnabledFor(logging.INFO)), init=False)

    def tell(self, result: Result, before: str = "") -> None:
        """Count an image, and say what is wrong with it, unless that was said of others often enough."""
        words = str(result.reason)
        key = re.sub(r"\d[\d,.x]*", "0", words)
        if key not in self._reasons and len(self._reasons) >= REASONS:
            key, words = "", "other reasons"
        reason = self._reasons.setdefault(key, _Reason(words))
        reason.count += 1
        if len(reason.names) < NAMED:
            reason.names.append(result.name)
        if reason.count <= TOLD or self._all:
            fix = _fix_of(result)
            new = fix and fix not in reason.fixes
            if new and len(reason.fixes) < TOLD:
                reason.fixes.append(fix)
            say(f"{before}{result.name}: {result.reason}{f'; to fix it: {fix}' if new else ''}", err=True)
        elif reason.count == TOLD + 1:
            say("... further images that fail for that reason are counted at the end", err=True)

    def sum_up(self) -> None:
        """Say how many images failed for which reason, where not all were told."""
        if all(reason.count <= TOLD for reason in self._reasons.values()):
            return
        say(f"failed: {sum(reason.count for reason in self._reasons.values())} images", err=True)
        for reason in sorted(self._reasons.values(), key=lambda reason: -reason.count):
            names = ", ".join(reason.names) + (", ..." if reason.count > len(reason.names) else "")
            fix = f"; to fix it: {reason.fixes[0]}" if reason.fixes else ""
            say(f"  {reason.count}: {reason.words} ({names}){fix}", err=True)


def _fix_of(result: Result) -> str:
    return in_options(result.error.fix) if result.error and result.error.fix else ""


def one_line(result: Result) -> str:
    """Return why an image could not be examined, and what to do about it, in one line and without its name."""
    fix = _fix_of(result)
    return f"{result.reason}; to fix it: {fix}" if fix else str(result.reason)


def note_left_out(left_out: Counter[str]) -> None:
    """Say on standard error what a search of folders and archives left out, if anything."""
    if left_out:
        counts = ", ".join(f"{what} ({count})" for what, count in sorted(left_out.items()))
        note(f"left out: {counts}; what is named itself is read")
