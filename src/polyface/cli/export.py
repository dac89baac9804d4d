"""``polyface export``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from polyface.cli.options import SOURCE, config_options, json_option, pass_plugins
from polyface.cli.output import Command
from polyface.cli.tables import print_json, print_table, say
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
    if as_json:
        print_json({"path": str(done.path), "size": done.path.stat().st_size, "new": done.new, **done.manifest})
        return
    print_graph(done, plugins.get(DetectorSpec, detector), "exported" if done.new else "exported before")
    run = ["polyface", "detect", "IMAGE", "--detector", detector]
    run += ["--weights", config.weights] if config.weights else []
    run += ["--artifacts", str(folder)] if folder else []
    say("To run it:", f"  {shlex.join(run)}")


def print_graph(done: Export, spec: DetectorSpec, how: str) -> None:
    """Print what a stored graph is and where it comes from, as a table."""
    rows = [
        ("file", str(done.path)),
        ("size", f"{done.path.stat().st_size / 1e6:.1f} MB"),
        ("sha256", done.manifest["sha256"]),
        ("input", _shape(spec.input)),
        ("outputs", ", ".join(map(_shape, spec.outputs))),
        *done.manifest["provenance"].items(),
    ]
    print_table(f"{spec.name} as {done.manifest['kind']}, {how}", ("Fact", "Value"), rows, wraps="Value")


def _shape(tensor: TensorSpec) -> str:
    return f"{tensor.name} ({', '.join(map(str, tensor.dims))})"
