"""``polyface weights``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import click
from attrs import frozen

from polyface.cli.options import in_options, json_option, pass_plugins
from polyface.cli.output import Command
from polyface.cli.tables import megabytes, print_json, print_notes, print_table, say
from polyface.errors import PolyfaceError, WeightsNotFoundError
from polyface.graphs.weights import Weights, path_of, select_weights
from polyface.plugins.records import DetectorSpec, WeightsFile
from polyface.plugins.records import as_json as record_as_json

if TYPE_CHECKING:
    from polyface.plugins.manager import PluginManager


@frozen(kw_only=True)
class Entry:
    """A file of weights: whether it is here and whole, where, and the command that mends it where it is not."""

    detector: str
    file: WeightsFile
    status: str
    path: str
    fix: str = ""


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
        print_json([_as_json(entry) for entry in entries])
        return
    rows = [(entry.detector, entry.status, _description(entry)) for entry in entries]
    print_table("Weights", ("Detector", "Status", "Weights"), rows, wraps="Weights")
    # Below the table, where a terminal's width does not cut a command in pieces.
    for entry in entries:
        if entry.fix:
            say(f"For {entry.file.name} of {entry.detector}:", f"  {entry.fix}")
    bare = [name for name, spec in chosen.items() if not spec.weights]
    if bare:
        say(f"No weights are needed for {', '.join(bare)}.")


def _entry(weights: Weights, file: WeightsFile) -> Entry:
    found: dict[str, Any] = {"detector": weights.detector, "file": file}
    try:
        return Entry(**found, status="verified", path=str(weights.locate()))
    except WeightsNotFoundError as error:
        return Entry(**found, status="not fetched", path=str(path_of(file)), fix=in_options(error.fix))
    except PolyfaceError as error:  # another file than it should be, or gone from its package
        return Entry(
            **found,
            status="damaged",
            path=file.ref.target if file.ref else str(path_of(file)),
            fix=in_options(error.fix),
        )


def _description(entry: Entry) -> str:
    file = entry.file
    where = "to be fetched to " if entry.status == "not fetched" else "ships with the plugin, " if file.ref else ""
    return "\n".join(
        [
            f"{file.name}, {megabytes(file.size)}",
            f"licence{', research only' if file.research_only else ''}: {file.license}",
            f"origin: {file.origin or 'not stated'}",
            f"{where}{entry.path}",
        ]
    )


def _as_json(entry: Entry) -> dict[str, object]:
    return {
        "detector": entry.detector,
        **record_as_json(entry.file),
        "status": entry.status,
        "path": entry.path,
        "fix": entry.fix,
    }
