"""The command line as the site shows it: with the commands of plugins, which polyface imports only when they run.

And with the options that writers, sources and steps give to a command: sphinx-click reads the attribute ``params``,
where these are not.
"""

from __future__ import annotations

import click

from polyface.cli import PluginCommand, group
from polyface.cli.job import JobCommand

_context = click.Context(group)
_found = ((name, group.get_command(_context, name)) for name in group.list_commands(_context))


def _whole(command: click.Command) -> click.Command:
    """Return a command with all of its options in ``params``."""
    if isinstance(command, PluginCommand):
        return command.load()
    if isinstance(command, JobCommand):
        *params, _ = command.get_params(click.Context(command))  # the last one is --help
        return click.Command(command.name, params=params, help=command.help, short_help=command.short_help)
    return command


commands = click.Group(
    group.name,
    {name: _whole(command) for name, command in _found if command is not None},
    params=group.params,
    help=group.help,
)
