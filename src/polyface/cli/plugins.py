"""``polyface plugins``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from polyface.cli.options import in_options, json_option, pass_plugins
from polyface.cli.output import Command
from polyface.cli.tables import print_json, print_notes, print_table
from polyface.plugins.kinds import KINDS, plural

if TYPE_CHECKING:
    from polyface.plugins.manager import PluginInfo, PluginManager


@click.command("plugins", cls=Command, short_help="Installed plugins, the broken among them.")
@json_option
@pass_plugins
def command(as_json: bool, plugins: PluginManager) -> None:
    """List the installed plugins: what each provides, and why a broken one does not."""
    infos = plugins.plugins
    if as_json:
        print_json([_as_json(info) for info in infos])
        return
    print_notes(plugins)
    rows = [(i.name, f"{i.distribution} {i.version}".rstrip(), i.status, "\n".join(_lines(i))) for i in infos]
    columns = ("Name", "Distribution", "Status", "Hooks, or why not")
    print_table("Plugins", columns, rows)


def _lines(info: PluginInfo) -> list[str]:
    if info.error is not None:
        return [*info.error.why, f"To fix it: {in_options(info.error.fix)}"]
    if info.disabled:
        return ["by POLYFACE_PLUGINS or POLYFACE_DISABLE_PLUGINS"]
    lines = [f"{plural(hook)}: {', '.join(_names(info, hook)) or 'none'}" for hook in info.hooks]
    return [*lines, *info.clashes] or ["none: it provides nothing"]


def _names(info: PluginInfo, hook: str) -> list[str]:
    return [record.name for record in info.provided(KINDS[hook].record)]


def _as_json(info: PluginInfo) -> dict[str, object]:
    return {
        "name": info.name,
        "distribution": info.distribution,
        "version": info.version,
        "target": info.target,
        "hooks": list(info.hooks),
        **{plural(hook): _names(info, hook) for hook in KINDS},
        "status": info.status,
        "error": None if info.error is None else str(info.error),
        "clashes": list(info.clashes),
    }
