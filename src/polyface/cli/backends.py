"""``polyface backends``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from polyface.cli.options import in_options, json_option, pass_plugins
from polyface.cli.output import Command
from polyface.cli.tables import print_json, print_notes, print_table
from polyface.plugins.records import BackendSpec
from polyface.plugins.records import as_json as record_as_json
from polyface.plugins.requirements import missing

if TYPE_CHECKING:
    from polyface.plugins.manager import PluginManager


@click.command("backends", cls=Command, short_help="Installed backends, their devices and options.")
@json_option
@pass_plugins
def command(as_json: bool, plugins: PluginManager) -> None:
    """List the installed backends: what each claims to run on, and its options for --backend-options."""
    print_notes(plugins)
    if as_json:
        print_json(
            [
                {**record_as_json(spec), "name": name, "missing": [r.why for r in missing(name, spec.requires)]}
                for name, spec in plugins.by_name(BackendSpec).items()
            ]
        )
        return
    rows = [(name, _description(name, spec)) for name, spec in plugins.by_name(BackendSpec).items()]
    print_table("Backends", ("Name", "Description"), rows)


def _description(name: str, spec: BackendSpec) -> str:
    claims = [
        f"{capability.device} in {', '.join(capability.precisions)}"
        + (f", of {', '.join(capability.accepts)}" if capability.accepts else "")
        + (f" ({capability.note})" if capability.note else "")
        for capability in spec.capabilities
    ]
    return "\n".join(
        [
            spec.summary,
            *(
                f"MISSING: {reason.why}; to have it: {in_options(reason.fix)}"
                for reason in missing(name, spec.requires)
            ),
            f"accepts: {', '.join(spec.accepts)}",
            f"claims: {'; '.join(claims)}",
            *(f"option {option.name} ({option.type}): {option.help}" for option in spec.options),
        ]
    )
