"""Standard output is for what a command has to say; what plugins and their runtimes print goes to standard error.

The command line owns its process, so it may switch what belongs to the process, and it does so before any thread
starts.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import IO, Any

import click

QUIET = f"{__name__}.quiet"
"""Where a context holds whether ``-q`` was given."""

_results: list[IO[Any] | None] = []  # while a command runs, where its results go


def _add_verbosity(ctx: click.Context, _: click.Parameter, count: int) -> None:
    ctx.meta[__name__] = ctx.meta.get(__name__, 0) + count


verbose_option = click.option(
    "-v",
    "--verbose",
    count=True,
    expose_value=False,
    callback=_add_verbosity,
    help="Say what is done, and why, on standard error; -vv says more.",
)
"""Before the command or after it; the two add up."""


def _be_quiet(ctx: click.Context, _: click.Parameter, quiet: bool) -> None:
    ctx.meta[QUIET] = quiet


quiet_option = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=_be_quiet,
    help="Say only what is wrong: no table, no progress bar, no notes.",
)


def is_quiet() -> bool:
    """Return whether the command that runs was given ``-q``."""
    ctx = click.get_current_context(silent=True)
    return ctx is not None and bool(ctx.meta.get(QUIET))


def set_verbosity(ctx: click.Context) -> None:
    """Have as much logged as ``-v`` or ``-q`` asked for so far.

    Raises:
        UsageError: it was both.
    """
    verbosity = ctx.meta.get(__name__, 0)
    if verbosity and ctx.meta.get(QUIET):
        raise click.UsageError("-q and -v contradict each other.", ctx=ctx)
    if ctx.meta.get(QUIET):
        for name in ("polyface", "polyface.settings"):
            logging.getLogger(name).setLevel(logging.ERROR)
    elif verbosity:
        logging.getLogger("polyface").setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)


class Command(click.Command):
    """A command that has standard output to itself: what others print meanwhile goes to standard error.

    It takes ``-v``.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        verbose_option(self)

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; help and version have been printed by then, to standard output as ever."""
        set_verbosity(ctx)
        _results.append(sys.stdout)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                return super().invoke(ctx)
        finally:
            _results.pop()


def results() -> IO[Any] | None:
    """Return standard output as a command may write to it; ``None`` where the program has none."""
    return _results[-1] if _results else sys.stdout


def echo(text: str | bytes) -> None:
    """Write a line to standard output, where there is one."""
    file = results()
    if file is not None:
        click.echo(text, file=file)


@contextlib.contextmanager
def own_stdout() -> Iterator[None]:
    """Let descriptor 1 be standard error, for libraries that print by themselves; ``sys.stdout`` goes where it went."""
    before = sys.stdout
    try:
        ours = os.name == "posix" and before.fileno() == 1
        errors = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # there is none, or it is no file
        ours = False
    if not ours:
        yield
        return
    before.flush()
    stream = os.fdopen(os.dup(1), "w", encoding=before.encoding, errors=before.errors, newline="\n")
    os.dup2(errors, 1)
    sys.stdout = stream
    try:
        yield
    finally:
        sys.stdout = before
        os.dup2(stream.fileno(), 1)
        with contextlib.suppress(OSError):  # what cannot be written has been reported by whoever wrote it
            stream.close()
