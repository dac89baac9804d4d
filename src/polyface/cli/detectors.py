"""``polyface detectors``."""

from __future__ import annotations

import click

from polyface.cli.options import json_option
from polyface.cli.output import Command
from polyface.cli.tables import megabytes, print_json, print_notes, print_table
from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import DetectorSpec
from polyface.plugins.records import as_json as record_as_json


@click.command("detectors", cls=Command, short_help="Installed detectors and their weights.")
@json_option
def command(as_json: bool) -> None:
    """List the installed detectors, with their landmarks, graph kinds and weights."""
    plugins = installed_plugins()
    print_notes(plugins)
    if as_json:
        print_json([{**record_as_json(spec), "name": name} for name, spec in plugins.detectors.items()])
        return
    rows = [(name, _description(spec)) for name, spec in plugins.detectors.items()]
    print_table("Detectors", ("Name", "Description"), rows, wraps="Description")


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
