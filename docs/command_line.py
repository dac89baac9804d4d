"""The command line as the site shows it: with the commands of plugins, which polyface imports only when they run."""

from __future__ import annotations

import click

from polyface.cli import PluginCommand, group

_context = click.Context(group)
_found = ((name, group.get_command(_context, name)) for name in group.list_commands(_context))

commands = click.Group(
    group.name,
    {name: one.load() if isinstance(one, PluginCommand) else one for name, one in _found if one is not None},
    params=group.params,
    help=group.help,
)
