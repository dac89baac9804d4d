"""Tables for people, JSON for programs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from polyface.cli.options import in_options
from polyface.cli.output import echo, is_quiet, results
from polyface.errors import LONGEST_PART, PolyfaceError, shortened
from polyface.optional import install, is_frozen
from polyface.storage.files import json_bytes

if TYPE_CHECKING:
    from polyface.plugins.manager import PluginManager

STYLES = {
    **dict.fromkeys(("ok", "ready", "verified"), "green"),
    **dict.fromkeys(("clash", "not fetched"), "yellow"),
    **dict.fromkeys(("failed", "no", "damaged"), "red"),
    "disabled": "dim",
}

UNLIMITED = 10_000
"""Columns of a line that no terminal shows: what is piped is not folded, so that it can be searched."""


def megabytes(size: int) -> str:
    """Return a number of bytes as text for a table."""
    return f"{size / 1e6:.1f} MB"


def say(*lines: str, err: bool = False) -> None:
    """Write lines to standard output or standard error; what others wrote in them cannot steer a terminal.

    All that the command line says goes through this, :func:`print_table` or :func:`json_bytes`.
    """
    text = "\n".join(map(printable, lines))
    if err:
        click.echo(text, err=True)
    else:
        echo(text)


def note(text: str) -> None:
    """Write a line to standard error that informs, and is no error; with ``-q`` nothing."""
    if not is_quiet():
        say(f"note: {text}", err=True)


def say_error(error: Exception) -> None:
    """Write an error to standard error."""
    text = error.message(in_options) if isinstance(error, PolyfaceError) else str(error)
    say(*f"error: {shortened(text, 10 * LONGEST_PART)}".split("\n"), err=True)


def print_json(value: Any) -> None:
    """Write a value to standard output as indented JSON, in UTF-8."""
    echo(json_bytes(value, indent=2))


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    wraps: str = "",
    totals: Sequence[str] = (),
    err: bool = False,
) -> None:
    """Write a table to standard output, or to standard error; a cell that is a status gets its colour.

    A narrow terminal folds the column ``wraps``, by default the last; the others stay whole. ``totals`` are a last row.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def text(cell: str, style: str = "") -> Text:
        # Text, not str: what plugins and files say must not be read as rich markup.
        lines = "\n".join(map(printable, cell.split("\n")))
        return Text(lines, style=style or STYLES.get(cell, ""))

    table = Table(box=box.SIMPLE, pad_edge=False, show_footer=bool(totals))
    for index, column in enumerate(columns):
        footer = text(totals[index], "bold") if totals else ""
        table.add_column(column, footer=footer, overflow="fold", no_wrap=column != (wraps or columns[-1]))
    for row in rows:
        table.add_row(*map(text, row))
    # Plain text: the names of emojis alone take longer to load than a table to print.
    console = Console(file=None if err else results(), stderr=err, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNLIMITED
    console.print(text(title, "bold"), table)


def print_fixes(fixes: Iterable[tuple[str, str]]) -> None:
    """Say below a table, where a terminal's width cuts no command in pieces, what mends which of its rows, by name."""
    rows: dict[str, list[str]] = {}
    for name, fix in fixes:
        rows.setdefault(fix, []).append(name)
    for fix, names in rows.items():
        if fix:
            say(f"For {', '.join(dict.fromkeys(names))}:", f"  {fix}")


def printable(text: str) -> str:
    """Return ``text`` with escapes for what a terminal would obey, and for what is not UTF-8 in a file's name."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_notes(plugins: PluginManager) -> None:
    """Say on standard error what a table of what is installed cannot show: what failed to load, or that all is bare."""
    failed = [info.name for info in plugins.plugins if info.status == "failed"]
    if failed:
        note(f"could not be loaded: {', '.join(failed)}; `polyface plugins` says why")
    if not plugins.plugins:
        hint = in_options(install("polyface-retinaface", "polyface-onnxruntime[cpu]"))
        where = "in this program" if is_frozen() else "installed"
        note(f"no plugin is {where}; to have a detector and a backend: {hint}")
