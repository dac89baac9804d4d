"""``polyface weights``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import click

from polyface.cli.options import in_options, json_option, pass_plugins
from polyface.cli.output import Command
from polyface.cli.tables import megabytes, print_fixes, print_json, print_notes, print_table, say
from polyface.errors import NO_FIX, PolyfaceError, WeightsNotFoundError
from polyface.graphs.weights import Weights, path_of, select_weights
from polyface.plugins.records import DetectorSpec, WeightsFile
from polyface.plugins.records import as_json as record_as_json

if TYPE_CHECKING:
    from polyface.plugins.manager import PluginManager


@click.command("weights", cls=Command, short_help="Weights of detectors: terms, and whether they are here and whole.")
@click.argument("detectors", nargs=-1, metavar="[DETECTOR]...")
@json_option
@pass_plugins
def command(detectors: tuple[str, ...], as_json: bool, plugins: PluginManager) -> None:
    """List the weights of detectors, by default of all: size, licence, origin, and where they lie.

    Every file that is here is read: it is "verified" if its sha256 is the right one, else "damaged".
    """
    print_notes(plugins)
    chosen = {name: plugins.get(DetectorSpec, name) for name in detectors} or plugins.by_name(DetectorSpec)
    entries = [
        _entry(attrs.evolve(select_weights(spec, file.name), detector=name), file)
        for name, spec in chosen.items()
        for file in spec.weights
    ]
    if as_json:
        print_json(entries)
        return
    rows = [(entry["detector"], entry["status"], _description(entry)) for entry in entries]
    print_table("Weights", ("Detector", "Status", "Weights"), rows)
    print_fixes((f"{entry['name']} of {entry['detector']}", entry["fix"]) for entry in entries)
    bare = [name for name, spec in chosen.items() if not spec.weights]
    if bare:
        say(f"No weights are needed for {', '.join(bare)}.")


def _entry(weights: Weights, file: WeightsFile) -> dict[str, Any]:
    """What the record says of a file, whether it is here and whole, where, and what mends it where it is not."""
    path, fix = file.ref.target if file.ref else str(path_of(file)), NO_FIX
    try:
        status, path = "verified", str(weights.locate())
    except WeightsNotFoundError as error:
        status, fix = "not fetched", error.fix
    except PolyfaceError as error:  # another file than it should be, or gone from its package
        status, fix = "damaged", error.fix
    about = {"detector": weights.detector, **record_as_json(file)}
    return {**about, "status": status, "path": path, "fix": in_options(fix)}


def _description(entry: Mapping[str, Any]) -> str:
    missing = entry["status"] == "not fetched"
    where = "to be fetched to " if missing else "ships with the plugin, " if entry["ref"] else ""
    return "\n".join(
        [
            f"{entry['name']}, {megabytes(entry['size'])}",
            f"licence{', research only' if entry['research_only'] else ''}: {entry['license']}",
            f"origin: {entry['origin'] or 'not stated'}",
            f"{where}{entry['path']}",
        ]
    )
