"""``polyface quantize``."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from polyface.cli.export import print_graph
from polyface.cli.options import SOURCE, config_options, json_option, pass_plugins
from polyface.cli.output import Command
from polyface.cli.progress import one_line, progress, quiet_pillow
from polyface.cli.tables import print_json, say
from polyface.errors import ConfigError, ImageError
from polyface.settings.config import Config, load_config
from polyface.settings.paths import expand_user

if TYPE_CHECKING:
    from polyface.plugins.manager import PluginManager
    from polyface.sources.files import Job

SETTINGS = ("weights", "artifacts", "max_side", "formats", "max_pixels", "infer_size", "fit", "pad_to")


@click.command("quantize", cls=Command, short_help="Make a network of 8-bit numbers, calibrated on your images.")
@click.argument("detector")
@click.option(
    "--images", required=True, metavar="DIR", help="Folder of images like those to come; 20 to 200 are enough."
)
@click.option(
    "--count", type=click.IntRange(min=1), default=100, show_default=True, help="Calibrate on at most so many of them."
)
@click.option("--to", "kind", default="onnx-int8", show_default=True, metavar="KIND", help="Graph kind to make.")
@config_options(SETTINGS)
@click.option("--output", metavar="DIR", help="Folder to store it in, for --artifacts; default: the user's cache.")
@json_option
@click.pass_context
@pass_plugins
def command(
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

    from polyface.cli.progress import note_left_out
    from polyface.graphs.quantize import quantize
    from polyface.sources.files import find_images

    config = load_config(config_file, source=SOURCE, detector=detector, **overrides)
    folder = None if output is None else expand_user(output).absolute()
    left_out: Counter[str] = Counter()
    jobs = _spread(find_images([str(expand_user(images))], formats=config.formats, left_out=left_out), count)
    note_left_out(left_out)
    with quiet_pillow():
        paths = _readable(jobs, config, as_json=as_json)
        if not paths:
            raise ConfigError(
                f"There is nothing to calibrate '{detector}' with.",
                why=[f"none of the images of {images} can be read"],
                fix="--images DIR, a folder with images like those to come",
            )
        with Console(stderr=True).status(f"quantizing {detector} to {kind}, on {len(paths)} images"):
            done = quantize(config, plugins, paths, kind, folder)
    if as_json:
        print_json({"path": str(done.path), "size": done.path.stat().st_size, "new": done.new, **done.manifest})
    else:
        print_graph(done, plugins.detector(detector), "quantized" if done.new else "quantized before")
        chosen = ["--weights", config.weights] if config.weights else []
        where = ["--artifacts", str(folder)] if folder else []
        run = ["polyface", "detect", "IMAGE", "--detector", detector, "--precision", "int8", *chosen, *where]
        say("To run it:", f"  {shlex.join(run)}")
        say("What it costs in accuracy is for your own images to say:")
        say(f"  {shlex.join(_comparison(detector, images, [*chosen, *where]))}")
    ctx.exit(1 if len(paths) < len(jobs) else 0)


def _comparison(detector: str, images: str, options: Sequence[str]) -> list[str]:
    return ["polyface", "compare", detector, "--backends", "onnxruntime,onnxruntime:int8", "--images", images, *options]


def _spread(jobs: Sequence[Job], count: int) -> list[Job]:
    """At most ``count`` of the jobs, evenly spread."""
    if len(jobs) <= count:
        return list(jobs)
    return [jobs[index * len(jobs) // count] for index in range(count)]


def _readable(jobs: Sequence[Job], config: Config, *, as_json: bool) -> list[Path]:
    """The images that can be read; what is wrong with the others goes to standard error."""
    from polyface.images.reading import read_image

    paths = []
    with progress(len(jobs), as_json=as_json, doing="reading") as advance:
        for job in jobs:
            try:
                if job.problem:
                    raise ImageError(job.problem)
                read_image(job.path, formats=config.formats, max_pixels=config.max_pixels)
                paths.append(job.path)
            except ImageError as error:
                say(f"{job.name}: {one_line(error, job.path)}", err=True)
            advance()
    return paths
