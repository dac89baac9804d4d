"""What a command that goes through many images says meanwhile."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from polyface.cli.output import results
from polyface.cli.tables import say
from polyface.errors import PolyfaceError


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow's warnings about odd files to itself; what matters of it becomes the image's error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield


@contextmanager
def progress(
    total: int, *, done: int = 0, as_json: bool = False, doing: str = "detecting"
) -> Iterator[Callable[[], None]]:
    """A progress bar on standard error, where somebody may see it; yields what counts one image.

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
        task = bar.add_task(doing, total=total, completed=done)
        yield lambda: bar.advance(task)


def one_line(error: PolyfaceError, path: Path) -> str:
    """Return an error about an image as one line, without the image's name, which stands beside it."""
    what = error.what.removeprefix(f"'{path}' ").rstrip(".")
    text = ": ".join(part for part in (what, "; ".join(why.rstrip(".") for why in error.why)) if part)
    return f"{text}; to fix it: {error.fix}" if error.fix else text


def note_left_out(left_out: Counter[str]) -> None:
    """Say on standard error what a search of folders left out, if anything."""
    if left_out:
        counts = ", ".join(f"{what} ({count})" for what, count in sorted(left_out.items()))
        say(f"note: left out of the folders: {counts}; what is named itself is read", err=True)
