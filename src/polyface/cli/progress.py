"""What a command that goes through many images says meanwhile."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from polyface.cli.options import in_options
from polyface.cli.output import results
from polyface.cli.tables import note, say

if TYPE_CHECKING:
    from polyface.results import Result


@contextmanager
def progress(
    total: int | None, *, before: Callable[[], int] = lambda: 0, as_json: bool = False, doing: str = "detecting"
) -> Iterator[Callable[[], None]]:
    """A progress bar on standard error, where somebody may see it; yields what counts one.

    ``before`` says how many were done without being counted, which may still grow.

    There is none where standard output is a terminal, too, and receives JSON: nothing else belongs there then.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    stdout = results()
    beside_json = as_json and stdout is not None and stdout.isatty()
    disable = beside_json or not console.is_terminal
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, disable=disable) as bar:
        task = bar.add_task(doing, total=total, completed=before())
        count = itertools.count(1)
        yield lambda: bar.update(task, completed=before() + next(count))


@contextmanager
def report_progress(
    total: int | None,
    *,
    before: Callable[[], int] = lambda: 0,
    as_json: bool = False,
    doing: str = "detecting",
    failed: str = "",
) -> Iterator[Callable[[Result], None]]:
    """A progress bar that yields what is to be told of each result: it counts, and says an error at once.

    ``failed`` stands before the name of an image with an error; all else is as of :func:`progress`.
    """
    with progress(total, before=before, as_json=as_json, doing=doing) as advance:

        def report(result: Result) -> None:
            if result.error is not None:
                say(f"{failed}{result.name}: {one_line(result)}", err=True)
            advance()

        yield report


def one_line(result: Result) -> str:
    """Return why an image could not be examined, and what to do about it, in one line and without its name."""
    fix = result.error.fix if result.error else None
    return f"{result.reason}; to fix it: {in_options(fix)}" if fix else str(result.reason)


def note_left_out(left_out: Counter[str]) -> None:
    """Say on standard error what a search of folders and archives left out, if anything."""
    if left_out:
        counts = ", ".join(f"{what} ({count})" for what, count in sorted(left_out.items()))
        note(f"left out: {counts}; what is named itself is read")
