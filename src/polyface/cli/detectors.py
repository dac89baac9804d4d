"""``polyface detectors``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from polyface.cli.options import json_option, pass_plugins
from polyface.cli.output import Command
from polyface.cli.tables import megabytes, print_json, print_notes, print_table
from polyface.plugins.records import DetectorSpec
from polyface.plugins.records import as_json as record_as_json

if TYPE_CHECKING:
    from polyface.plugins.manager import PluginManager


@click.command("detectors", cls=Command, short_help="Installed detectors and their weights.")
@json_option
@pass_plugins
def command(as_json: bool, plugins: PluginManager) -> None:
    """List the installed detectors, with their landmarks, graph kinds and weights."""
    print_notes(plugins)
    if as_json:
        print_json([{**record_as_json(spec), "name": name} for name, spec in plugins.by_name(DetectorSpec).items()])
        return
    rows = [(name, _description(spec)) for name, spec in plugins.by_name(DetectorSpec).items()]
    print_table("Detectors", ("Name", "Description"), rows)


def _description(spec: DetectorSpec) -> str:
    weights = [
        f"weights: {file.name}, {megabytes(file.size)}, licence {file.license}{', packaged' if file.ref else ''}"
        for file in spec.weights
    ]
    return "\n".join(
        [
            spec.summary,
            f"landmarks: {', '.join(spec.landmarks) or 'none'}",
            f"graphs: {', '.join(dict.fromkeys(graph.kind for graph in spec.graphs))}",
            *(weights or ["weights: none needed"]),
        ]
    )
