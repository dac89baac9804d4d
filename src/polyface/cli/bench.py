"""``polyface bench``."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from polyface.cli.choices import METAVAR, SHARED_SETTINGS, parse_backends
from polyface.cli.options import SOURCE, config_options, in_options, json_option, pass_plugins
from polyface.cli.output import Command
from polyface.cli.progress import note_left_out, progress, report_progress
from polyface.cli.tables import megabytes, note, print_fixes, print_json, print_table, say
from polyface.errors import ConfigError, quoted
from polyface.plugins.records import BackendSpec
from polyface.settings import values
from polyface.settings.config import Config, one_view
from polyface.settings.loading import load_config
from polyface.settings.paths import expand_user, is_file

if TYPE_CHECKING:
    from polyface.measure.bench import Benchmark, Row
    from polyface.plugins.manager import PluginManager

SIZE = "480x640"


@click.command("bench", cls=Command, short_help="How fast detectors run, against each other.")
@click.argument("detectors", nargs=-1, metavar="[DETECTOR]...")
@click.option("--backends", metavar=METAVAR, help="What to run them on; default: the setting backend.")
@click.option("--sizes", metavar="HEIGHTxWIDTH,...", help=f"Sizes of the images, height first; default: {SIZE}.")
@click.option("--batches", metavar="COUNT,...", default="1", show_default=True, help="Images in one call.")
@click.option("--images", metavar="DIR|FILE", help="Images to run on, as they are or brought to --sizes.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random noise without them.")
@click.option("--rounds", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Turns of each row.")
@click.option("--plot", metavar="FILE", help="Draw the images per second, such as bench.png.")
@config_options(
    (*SHARED_SETTINGS, "backend", "scales", "flip", "tile", "tile_overlap", "merge", "clip", "backend_options")
)
@json_option
@pass_plugins
def command(
    detectors: tuple[str, ...],
    *,
    backends: str | None,
    sizes: str | None,
    batches: str,
    images: str | None,
    seed: int,
    rounds: int,
    plot: str | None,
    config_file: str | None,
    as_json: bool,
    plugins: PluginManager,
    **overrides: Any,
) -> None:
    """Time every detector on every backend at every size and batch.

    polyface bench retinaface-mobilenet025 --backends onnxruntime,torch,torch:bf16 --sizes 687x1024 --batches 1,8

    Each row has a process of its own, and all are in memory at once. They take turns, so that what else the machine
    does slows all of them down alike: trust the ratio, which is of images per second, to the first row of its size,
    round by round. The call that is timed goes from arrays to faces; a turn is one, or as many as fit into 0.1 seconds.
    In random noise there are hardly any faces to decode: --images has them, and each round takes the next ones.

    Exit status: 0 if every row was measured, 1 if one could not be (the rest is) or an image could not be read, 2 for
    usage and configuration, 130 after Ctrl-C (what was measured until then is shown).
    """
    from polyface.measure.bench import Benchmark, make_contenders, make_rows
    from polyface.measure.plots import draw_bars, make_figure
    from polyface.measure.rounds import Samples, machine, measure

    config = one_view(load_config(config_file, source=SOURCE, **overrides))
    choices = _choices(detectors or (config.detector,), backends, config, plugins)
    counts = parse_list("batches", batches.split(","), values.count)
    shapes = parse_list("sizes", (sizes or SIZE).split(","), values.size) if sizes or not images else [None]
    wanted = rounds * max(counts)
    named = [images] if images else []
    paths, failed = first_images(named, wanted, config, plugins, as_json=as_json, what=f"--images {images}")
    samples = [
        Samples(size=size, batch=count, paths=paths, seed=seed, formats=config.formats, max_pixels=config.max_pixels)
        for size in shapes
        for count in counts
    ]
    contenders = make_contenders(choices, samples)
    drawing = make_figure(expand_user(plot), rows=len(contenders)) if plot else None
    host = machine()
    note_busy(host)
    with progress(len(contenders) * rounds, as_json=as_json) as advance:
        measured, interrupted = measure([contender for _, contender in contenders], rounds=rounds, advance=advance)
    count = f"{len(paths)} image{'' if len(paths) == 1 else 's'}"
    source = f"{count} of {images}" if images else f"random noise (seed {seed})"
    rows = make_rows([config for config, _ in contenders], measured)
    report = Benchmark(rows=rows, source=source, rounds=rounds, machine=host)
    if as_json:
        print_json(report.to_dict(in_options))
    else:
        _print(report)
    if interrupted:
        say("interrupted; these are the rounds until then", err=True)
    if plot and report.measured:  # last: a full disk must not cost the figures
        draw_bars(drawing, expand_user(plot), report)
    whole = not failed and not report.unmeasured
    click.get_current_context().exit(130 if interrupted else 0 if whole else 1)


def _choices(
    detectors: Sequence[str], backends: str | None, config: Config, plugins: PluginManager
) -> dict[str, Config]:
    """The configuration of each detector on each backend, by what it is called.

    Raises:
        UnknownNameError: there is no such detector or backend; before anything is measured.
        PolyfaceError: as :func:`polyface.graphs.families.find_detector`.
        ConfigError: there are backend_options that no row would have.
    """
    from polyface.graphs.families import drop_family, find_detector

    found = {}
    several = any(map(is_file, detectors))  # what is said of their family is none of the others' affair
    for detector in detectors:
        own = drop_family(config) if several and not is_file(detector) else config
        find_detector(own.replace(detector=detector), plugins)
        named = parse_backends(backends, own) if backends is not None else {own.backend: own}
        for label, choice in named.items():
            if choice.backend != "auto":
                plugins.get(BackendSpec, choice.backend)
            found[f"{detector} on {label}"] = choice.replace(detector=detector)
    if config.backend_options and not any(choice.backend_options for choice in found.values()):
        owner = quoted(config.backend)
        what = f"backend_options are those of the setting backend, {owner}, which --backends does not name."
        raise ConfigError(what, fix="--backend NAME --backends NAME,...")
    return found


def parse_list(option: str, parts: Sequence[str], read: Callable[[Any], Any]) -> list[Any]:
    """Return the parts of an option's value, each once, read as a setting is.

    Raises:
        ConfigError: one of them cannot be.
    """
    try:
        return [read(part) for part in dict.fromkeys(parts)]
    except ValueError as error:
        raise ConfigError(f"--{option} {','.join(parts)}: each must be {error}.") from None


def note_busy(host: Mapping[str, Any]) -> None:
    """Say so where other work may disturb what is measured; ``host`` is what ``measure.rounds.machine`` says."""
    load = host["load"]
    if load and load[0] > host["usable_cores"] / 2:
        note(f"the machine is busy (load {load[0]} on {host['usable_cores']} cores)")


def first_images(
    inputs: Sequence[str], wanted: int, config: Config, plugins: PluginManager, *, as_json: bool, what: str
) -> tuple[tuple[Path, ...], int]:
    """Return the first images that can be read, at most as many as wanted, and how many of those before cannot be.

    Without inputs there are none.

    Raises:
        ConfigError: there are inputs, called ``what``, and not one image of them can be read.
    """
    from polyface.images.reading import read_file
    from polyface.jobs.inputs import Inputs
    from polyface.jobs.run import Tally, read_images
    from polyface.plugins.protocols import Search

    if not inputs:
        return (), 0
    tally = Tally()
    items = Inputs([*inputs], plugins, Search(formats=config.formats))
    read = functools.partial(read_file, formats=config.formats, max_pixels=config.max_pixels)
    with report_progress(None, as_json=as_json, doing="reading", failed="left out: ") as report:
        found = read_images(items, read, tally=tally, report=report)
        paths = [Path(item.image) for item, _ in itertools.islice(found, wanted)]
    note_left_out(items.left_out)
    if not paths:
        raise ConfigError(f"{what}: not one image could be read.")
    return tuple(paths), tally.failed


def _print(report: Benchmark) -> None:
    if report.measured:
        figures = ("Median", "Quartiles", "Images/s", "Ratio", "Load", "First call", "New shape", "Memory")
        columns = (*map(str.capitalize, report.columns), *figures)
        rows = [(*(row.axes[name] for name in report.columns), *_format_row(row)) for row in report.measured]
        if any(row.plain for row in report.measured):
            columns = (*columns, "To fp32")
            rows = [(*cells, _compare_to_fp32(row)) for cells, row in zip(rows, report.measured, strict=True)]
        print_table(report.title, columns, rows, wraps=columns[0])
        say("Ratio: images per second over those of the first row of its size, median of the rounds.")
    if report.unmeasured:
        failed = [(row.measured, row.axes) for row in report.unmeasured]
        whys = [(one.contender.label, axes["size"], axes["batch"], one.why) for one, axes in failed]
        print_table("Not measured", ("Row", "Size", "Batch", "Why"), whys)
        print_fixes((one.contender.label, in_options(one.fix)) for one, _ in failed)


def _compare_to_fp32(row: Row) -> str:
    """How fast a row is, held against the same in fp32, and in words where it is slower."""
    if row.fp32_ratio is None:
        return "-"
    return f"{row.fp32_ratio:.2f} x" + (", slower than fp32" if row.slower_than_fp32 else "")


def _format_row(row: Row) -> tuple[str, ...]:
    measured, memory = row.measured, row.measured.peak_memory
    low, median, high = measured.quartiles
    costs = (measured.load, measured.first_call, measured.new_shape)
    return (
        f"{median * 1000:.1f} ms",
        f"{low * 1000:.1f}-{high * 1000:.1f}",
        f"{measured.images_per_second:.1f}",
        f"{row.ratio:.2f} x",
        *("-" if one is None else f"{one * 1000:.0f} ms" for one in costs),
        "-" if memory is None else megabytes(memory),
    )
