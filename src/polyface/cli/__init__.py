"""The command line: modules of commands, each loaded when it is used."""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import pkgutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from polyface._version import __version__
from polyface.cli.output import own_stdout, set_verbosity, verbose_option
from polyface.optional import is_frozen

if TYPE_CHECKING:
    from polyface.plugins.records import CommandSpec

COMMANDS = {
    "detect": "detect:command",
    "crop": "crop:command",
    "anonymize": "anonymize:command",
    "compare": "compare:command",
    "evaluate": "evaluate:command",
    "bench": "bench:command",
    "tune": "tune:command",
    "fetch": "storing:fetch_weights",
    "weights": "listings:list_weights",
    "export": "storing:export_graph",
    "quantize": "storing:quantize_graph",
    "plugins": "listings:list_plugins",
    "detectors": "listings:list_detectors",
    "backends": "listings:list_backends",
    "matrix": "listings:show_matrix",
    "config": "config:command",
}


class PluginCommand(click.Command):
    """A command of a plugin, whose module is imported when it is used."""

    def __init__(self, spec: CommandSpec) -> None:
        super().__init__(spec.name, short_help=spec.summary)
        self.spec = spec

    def load(self) -> click.Command:
        """Return the plugin's own command.

        Raises:
            UnsupportedError: something that it requires is not installed.
            ContractError: it cannot be imported, or is no command.
        """
        from polyface.errors import ContractError
        from polyface.plugins.manager import load_code

        command = load_code(self.spec)
        if not isinstance(command, click.Command):
            raise ContractError(f"The command '{self.name}' is no click.Command.", why=[self.spec.command.target])
        return command

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the options of the plugin's own command, which runs in the place of this one."""
        return self.load().make_context(*args, **extra)


class Commands(click.Group):
    """A group that imports a command's module when it needs it, and prints polyface's errors as messages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which a newcomer needs them, and then those of plugins."""
        return [*COMMANDS, *_plugin_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by name; polyface's own come before those of plugins."""
        if cmd_name in COMMANDS:
            command: click.Command = pkgutil.resolve_name(f"polyface.cli.{COMMANDS[cmd_name]}")
            return command
        from polyface.cli.options import plugins_of

        commands = _plugin_commands(ctx)
        if cmd_name in commands:
            return PluginCommand(commands[cmd_name])
        for spec in commands.values():
            if spec.name == cmd_name:  # of several plugins: the error says of which
                plugins_of(ctx).get(type(spec), cmd_name)
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest commands where there is none of that name."""
        from polyface.errors import nearest, quoted

        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"No such command {quoted(args[0])}{nearest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        with _messages(), _notes():
            set_verbosity(ctx)  # for commands of plugins, which have no -v of ours
            return super().invoke(ctx)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the options before the command; the help lists the commands of plugins."""
        with _messages():
            return super().make_context(*args, **extra)


def _plugin_commands(ctx: click.Context) -> dict[str, CommandSpec]:
    from polyface.cli.options import plugins_of
    from polyface.plugins.records import CommandSpec

    return {name: spec for name, spec in plugins_of(ctx).by_name(CommandSpec).items() if name not in COMMANDS}


@contextlib.contextmanager
def _messages() -> Iterator[None]:
    """Turn what the user can mend into a message and exit status 2, not a traceback.

    Of the user's text click repeats no more than a message bears, and nothing that steers a terminal.
    """
    try:
        from polyface.errors import PolyfaceError, shortened  # within, since Ctrl-C may come here

        yield
    except KeyboardInterrupt:  # click's own status is 1, which is that of an image that failed
        click.echo("interrupted", err=True)
        raise click.exceptions.Exit(130) from None
    except (BrokenPipeError, click.exceptions.NoArgsIsHelpError):
        raise  # click ends the program quietly; the help has nothing of the user's
    except (PolyfaceError, OSError) as error:
        from polyface.cli.tables import say_error

        say_error(error)
        raise click.exceptions.Exit(2) from error
    except click.ClickException as error:
        from polyface.cli.tables import printable

        text = printable(shortened(error.format_message(), 500))
        if isinstance(error, click.UsageError):
            raise click.UsageError(text, ctx=error.ctx) from error
        raise click.ClickException(text) from error


@contextlib.contextmanager
def _notes() -> Iterator[None]:
    """Say on standard error what polyface logs, each once: what an image's file is like, and which settings count.

    ``-v`` shows more: :func:`polyface.cli.output.verbose_option`.
    """
    import logging

    from polyface.cli.tables import say

    said: set[str] = set()

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            noted = record.levelno >= logging.WARNING or record.name == settings.name
            text = f"{'note' if noted else record.levelname.lower()}: {record.getMessage()}"
            if text not in said:
                said.add(text)
                say(text, err=True)

    loggers = logger, settings = logging.getLogger("polyface"), logging.getLogger("polyface.settings")
    handler, levels = Notes(), [logger.level for logger in loggers]
    logger.addHandler(handler)
    settings.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


HELP = """Any face detector on any runtime.

\b
polyface detect photos/ --output out/   find the faces, draw them, list them
polyface matrix                         what can run here, and what is missing
"""


@click.group(
    cls=Commands, help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="polyface")
@verbose_option
def group() -> None:
    """The command ``polyface``."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exits with 0, with 1 if a part could not be done, with 2 for usage and settings, and with 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A letter that the console's encoding lacks must not end a run: it is shown as its escape.
            stream.reconfigure(errors="backslashreplace")
    # Processes that are started from here (of `polyface bench`) import nothing from the current folder, either.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    # What is left at the end goes with the process: to search it for cycles takes longer than a small network's run.
    atexit.register(gc.freeze)
    # Pillow's of odd files; what matters of that becomes the image's error.
    warnings.filterwarnings("ignore", module="PIL")
    if is_frozen():  # a process that `bench` starts is this program again
        import multiprocessing

        multiprocessing.freeze_support()
    with own_stdout():
        group(args, prog_name="polyface")
