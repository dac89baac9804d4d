"""The commands that store something: weights that are fetched, graphs that are exported or quantized."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from polyface.cli.choices import find_named
from polyface.cli.options import SOURCE, as_options, config_options, json_option, pass_plugins
from polyface.cli.output import Command
from polyface.cli.progress import note_left_out, report_progress
from polyface.cli.tables import megabytes, note, print_json, print_table, printable, say, say_error
from polyface.errors import ConfigError, PolyfaceError
from polyface.graphs.weights import Weights, select_weights
from polyface.plugins.records import DetectorSpec
from polyface.settings.loading import load_config
from polyface.settings.paths import expand_user

if TYPE_CHECKING:
    from polyface.graphs.resolve import Export
    from polyface.plugins.manager import PluginManager
    from polyface.plugins.records import TensorSpec
    from polyface.settings.config import Config

CALIBRATION_SETTINGS = (
    "family",
    "family_options",
    "weights",
    "artifacts",
    "max_side",
    "formats",
    "max_pixels",
    "infer_size",
    "fit",
    "pad_to",
)
"""What decides which network is calibrated, and how images are prepared for it."""


@click.command("fetch", cls=Command, short_help="Download the weights of detectors.")
@click.argument("detectors", nargs=-1, required=True, metavar="DETECTOR...")
@click.option("--weights", metavar="NAME", help="Weights to fetch, where they are not the detector's default.")
@click.option("--offline", is_flag=True, help="Transfer nothing, only check what is here; as POLYFACE_OFFLINE=1.")
@click.pass_context
@pass_plugins
def fetch_weights(
    ctx: click.Context, detectors: tuple[str, ...], weights: str | None, offline: bool, plugins: PluginManager
) -> None:
    """Download the weights of detectors into polyface's home, and check their sha256; what is there is only checked.

    Exit status: 0 if all weights are there, 1 if some could not be fetched (the rest is), 2 for usage.
    """
    from polyface.graphs.fetch import fetch

    failed = 0
    # All names are looked up before anything is transferred.
    choices = {name: select_weights(find_named(name, plugins), weights) for name in detectors}
    for name, choice in choices.items():
        try:
            with _progress(choice) as progress:
                path = fetch(attrs.evolve(choice, detector=name), offline=offline, notice=note, progress=progress)
        except ConfigError:
            raise  # it is wrong for all
        except PolyfaceError as error:
            failed += 1
            say_error(error)
        else:
            say(f"{name}: {_origin(choice)}{path or ''}")
    ctx.exit(1 if failed else 0)


def _origin(weights: Weights) -> str:
    if weights.file is None:
        return "your own file: " if weights.own else "needs no weights"
    ships = "ships with the plugin, " if weights.file.ref else ""
    return f"{weights.file.name}, {ships}verified: "


@contextmanager
def _progress(weights: Weights) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, where somebody may see it, from the first byte on."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    disable = not console.is_terminal
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, disable=disable) as bar:
        total = weights.file.size if weights.file else None
        task = bar.add_task(printable(f"{weights.detector}: {weights.label}"), total=total, visible=False)
        yield lambda received: bar.update(task, completed=received, visible=True)


@click.command("export", cls=Command, short_help="Export a network, to run it on machines without torch.")
@click.argument("detector")
@click.option("--to", "kind", default="onnx", show_default=True, metavar="KIND", help="Graph kind to export to.")
@config_options(["family", "family_options", "weights"])
@click.option("--output", metavar="DIR", help="Folder to export to, for --artifacts; default: the user's cache.")
@json_option
@pass_plugins
def export_graph(
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

    from polyface.graphs.families import find_detector
    from polyface.graphs.resolve import export

    config = load_config(config_file, source=SOURCE, detector=detector, **overrides)
    folder = None if output is None else expand_user(output).absolute()
    with Console(stderr=True).status(f"exporting {detector} to {kind}"):
        done = export(config, plugins, kind, folder)
    chosen = {**_choice(config), "artifacts": folder}
    _print_graph(done, find_detector(config, plugins)[0], "exported", chosen, as_json=as_json)


@click.command("quantize", cls=Command, short_help="Make a network of 8-bit numbers, calibrated on your images.")
@click.argument("detector")
@click.option(
    "--images", required=True, metavar="DIR", help="Folder of images like those to come; 20 to 200 are enough."
)
@click.option(
    "--count", type=click.IntRange(min=1), default=100, show_default=True, help="Calibrate on at most so many of them."
)
@click.option("--to", "kind", default="onnx-int8", show_default=True, metavar="KIND", help="Graph kind to make.")
@config_options(CALIBRATION_SETTINGS)
@click.option("--output", metavar="DIR", help="Folder to store it in, for --artifacts; default: the user's cache.")
@json_option
@click.pass_context
@pass_plugins
def quantize_graph(
    ctx: click.Context,
    /,
    *,
    detector: str,
    images: str,
    count: int,
    kind: str,
    output: str | None,
    config_file: str | None,
    as_json: bool,
    plugins: PluginManager,
    **overrides: Any,
) -> None:
    """Make a detector's network one of 8-bit numbers, for --precision int8.

    The ranges of its numbers are taken from the images in --images, prepared as for detecting: give --max-side,
    --infer-size or --pad-to as you will when you detect. Of more than --count images, that many are taken, evenly
    spread. Only the ranges are stored. What was made of the same images before is not made again; what was made of
    others is replaced.

    Exit status: 0 if every image was read, 1 if some could not be (the rest is used), 2 for usage and configuration.
    """
    from rich.console import Console

    from polyface.graphs.families import find_detector
    from polyface.graphs.resolve import quantize
    from polyface.images.reading import read_file
    from polyface.jobs.inputs import Inputs
    from polyface.jobs.run import Tally, read_images
    from polyface.pipeline.calibration import Calibration
    from polyface.plugins.protocols import Search

    config = load_config(config_file, source=SOURCE, detector=detector, **overrides)
    folder = None if output is None else expand_user(output).absolute()
    found = Inputs([images], plugins, Search(formats=config.formats))
    if found.count() is None:
        why = "its images are no files of their own, which could be read again"
        raise ConfigError(f"--images {images} cannot be calibrated with.", why=[why], fix="unpack them into a folder")
    there = list(found)
    count = min(count, len(there))
    items = [there[index * len(there) // count] for index in range(count)]
    note_left_out(found.left_out)
    read = functools.partial(read_file, formats=config.formats, max_pixels=config.max_pixels)
    with report_progress(len(items), as_json=as_json, doing="reading") as report:
        paths = [Path(item.image) for item, _ in read_images(items, read, tally=Tally(), report=report)]
    if not paths:
        raise ConfigError(
            f"There is nothing to calibrate '{detector}' with.",
            why=[f"none of the images of {images} can be read"],
            fix="--images DIR, a folder with images like those to come",
        )
    with Console(stderr=True).status(f"quantizing {detector} to {kind}, on {len(paths)} images"):
        spec, _ = find_detector(config, plugins)
        calibration = Calibration(config, spec, paths)
        done = quantize(config, plugins, calibration, kind, folder)
    where = {**_choice(config), "artifacts": folder}
    chosen = {"detector": detector, "precision": "int8", **where}
    _print_graph(done, spec, "quantized", chosen, as_json=as_json)
    if not as_json:
        where.pop("detector")
        compared = as_options({"backends": "onnxruntime,onnxruntime:int8", "images": images, **where})
        say("What it costs in accuracy is for your own images to say:")
        say(f"  polyface compare {shlex.quote(detector)} {compared}")
    ctx.exit(1 if len(paths) < len(items) else 0)


def _choice(config: Config) -> dict[str, Any]:
    """The settings that choose the network."""
    names = ("detector", "family", "family_options", "weights")
    return {name: getattr(config, name) or None for name in names}


def _print_graph(done: Export, spec: DetectorSpec, how: str, settings: Mapping[str, Any], *, as_json: bool) -> None:
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
