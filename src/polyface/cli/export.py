"""``polyface export``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from polyface.cli.options import SOURCE, as_options, config_options, json_option, pass_plugins
from polyface.cli.output import Command
from polyface.cli.tables import megabytes, print_json, print_table, say
from polyface.plugins.records import DetectorSpec
from polyface.settings.loading import load_config
from polyface.settings.paths import expand_user

if TYPE_CHECKING:
    from polyface.graphs.resolve import Export
    from polyface.plugins.manager import PluginManager
    from polyface.plugins.records import TensorSpec


@click.command("export", cls=Command, short_help="Export a network, to run it on machines without torch.")
@click.argument("detector")
@click.option("--to", "kind", default="onnx", show_default=True, metavar="KIND", help="Graph kind to export to.")
@config_options(["weights"])
@click.option("--output", metavar="DIR", help="Folder to export to, for --artifacts; default: the user's cache.")
@json_option
@pass_plugins
def command(
    detector: str,
    *,
    kind: str,
    output: str | None,
    config_file: str | None,
    as_json: bool,
    plugins: PluginManager,
    **overrides: Any,
) -> None:
    """Export a detector's network to a file, with free batch, height and width.

    `polyface detect` finds it in the user's cache by itself, and in a folder by --artifacts DIR. Carried to another
    machine, that folder runs without the framework; only a checkpoint of your own must go with it, since its sha256
    tells which graph is its. What is there already is not made again.
    """
    from rich.console import Console

    from polyface.graphs.resolve import export

    config = load_config(config_file, source=SOURCE, **overrides)
    folder = None if output is None else expand_user(output).absolute()
    with Console(stderr=True).status(f"exporting {detector} to {kind}"):
        done = export(detector, kind, config.weights, plugins, folder)
    chosen = {"detector": detector, "weights": config.weights, "artifacts": folder}
    print_graph(done, plugins.get(DetectorSpec, detector), "exported", chosen, as_json=as_json)


def print_graph(done: Export, spec: DetectorSpec, how: str, settings: Mapping[str, Any], *, as_json: bool) -> None:
    """Print what a stored graph is and where it comes from, and the command that runs it with these settings."""
    size = done.path.stat().st_size
    if as_json:
        print_json({"path": str(done.path), "size": size, "new": done.new, **done.manifest})
        return
    rows = [
        ("file", str(done.path)),
        ("size", megabytes(size)),
        ("sha256", done.manifest["sha256"]),
        ("input", _shape(spec.input)),
        ("outputs", ", ".join(map(_shape, spec.outputs))),
        *done.manifest["provenance"].items(),
    ]
    title = f"{spec.name} as {done.manifest['kind']}, {how}{'' if done.new else ' before'}"
    print_table(title, ("Fact", "Value"), rows)
    say("To run it:", f"  polyface detect IMAGE {as_options(settings)}")


def _shape(tensor: TensorSpec) -> str:
    return f"{tensor.name} ({', '.join(map(str, tensor.dims))})"
