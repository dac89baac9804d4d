"""``polyface compare``."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import attrs
import click

from polyface.cli.choices import METAVAR, SHARED_SETTINGS, parse_backends
from polyface.cli.options import SOURCE, config_options, json_option, pass_plugins
from polyface.cli.output import Command
from polyface.cli.progress import note_left_out, report_progress
from polyface.cli.tables import print_json, print_table, say
from polyface.errors import ConfigError, quoted
from polyface.settings.config import Config, one_view
from polyface.settings.loading import load_config
from polyface.settings.paths import expand_user

if TYPE_CHECKING:
    from polyface.jobs.inputs import Inputs
    from polyface.jobs.run import Tally
    from polyface.measure.compare import Comparison, Precisions, Sample
    from polyface.measure.differences import FaceDifference
    from polyface.plugins.manager import PluginManager
    from polyface.results import Result

RANDOM = "random"
"""What ``--images`` calls the noise; a folder of that name is ``./random``."""


@click.command("compare", cls=Command, short_help="How far a detector's backends lie apart.")
@click.argument("detector")
@click.option("--backends", required=True, metavar=METAVAR, help="Two or more, the first as reference.")
@click.option(
    "--images",
    default=RANDOM,
    show_default=True,
    metavar=f"DIR|FILE|{RANDOM}",
    help="Images, or noise of several sizes.",
)
@click.option(
    "--ground-truth", metavar="DIR|FILE", help="Of WIDER FACE, for average precision on --images, its folder of events."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random noise.")
@config_options(SHARED_SETTINGS)
@json_option
@pass_plugins
def command(
    detector: str,
    *,
    backends: str,
    images: str,
    ground_truth: str | None,
    seed: int,
    config_file: str | None,
    as_json: bool,
    plugins: PluginManager,
    **overrides: Any,
) -> None:
    """Run a detector on several backends, or on one in several precisions, and show how far they lie apart.

    polyface compare retinaface-mobilenet025 --backends torch,onnxruntime,torch:bf16@cpu --images photos/

    Compares the network's raw heads, then the faces found, matched by IoU. Faces at a threshold, which rounding alone
    may find or lose, are set apart. Each backend is held against the table of tolerances for its precision. With
    --ground-truth, shows each backend's average precision as well; --preset widerface-original has its thresholds.

    Exit status: 0 if all lie within, 1 if one is over or an image could not be read, 2 for usage and configuration.
    """
    from polyface.building import create_detector
    from polyface.jobs.inputs import Inputs
    from polyface.jobs.run import Tally
    from polyface.measure.compare import NOISE, compare
    from polyface.measure.differences import tolerance_of
    from polyface.measure.widerface import read_truth
    from polyface.plugins.protocols import Search

    config = one_view(load_config(config_file, source=SOURCE, **overrides)).replace(detector=detector)
    configs = parse_backends(backends, config)
    first, *others = configs.values()
    if not others:
        raise ConfigError(
            f"--backends names {quoted(backends)} alone: there is nothing to compare it with.",
            fix=f"--backends {shlex.quote(backends)},ANOTHER; `polyface matrix` shows what can run",
        )
    for other in others:  # before the detectors are made, which may take minutes
        tolerance_of(first.precision, other.precision)
    folder = None if images == RANDOM else images
    if ground_truth is not None and not (folder and expand_user(folder).is_dir()):
        raise ConfigError(
            "--ground-truth wants the images that it is about.", fix="--images WIDER_val/images, with its folders"
        )
    truth = None if ground_truth is None else read_truth(expand_user(ground_truth))
    items = None if folder is None else Inputs([folder], plugins, Search(formats=config.formats))
    total = len(NOISE) if items is None else items.count()
    if items is not None:
        note_left_out(items.left_out)
    tally = Tally()
    with ExitStack() as stack:
        detectors = {
            label: stack.enter_context(create_detector(config=one, plugins=plugins)) for label, one in configs.items()
        }
        report = stack.enter_context(report_progress(total, as_json=as_json, failed="left out: "))
        comparison = compare(detectors, _samples(items, seed, config, tally, report), truth=truth)
    if as_json:
        print_json({**comparison.to_dict(), "failed": tally.failed, "noise_seed": seed if folder is None else None})
    else:
        unread = f", {tally.failed} could not be read" if tally.failed else ""
        _print(comparison, unread if folder else " of random noise")
    over = any(pair.over for pair in comparison.pairs)
    click.get_current_context().exit(1 if tally.failed or over else 0)


def _samples(
    items: Inputs | None, seed: int, config: Config, tally: Tally, report: Callable[[Result], None]
) -> Iterator[Sample]:
    """Each image that can be read as a sample of its own; without items, the random ones."""
    from polyface.images.reading import read_image
    from polyface.jobs.run import read_images
    from polyface.measure.compare import Sample, noise
    from polyface.results import Result

    if items is None:
        for sample in noise(seed):
            report(Result(name=sample.names[0]))
            yield sample
        return
    read = functools.partial(read_image, formats=config.formats, max_pixels=config.max_pixels)
    for item, image in read_images(items, read, tally=tally, report=report):
        yield Sample(names=[item.relative.with_suffix("").as_posix()], images=[image])


def _print(report: Comparison, source: str) -> None:
    run, precisions = report.execution, report.average_precision
    say(
        f"{report.detector} on {report.images} image{'' if report.images == 1 else 's'}{source}; "
        f"the reference is {report.label} ({run.device}, {run.precision})",
        "",
    )
    print_table(
        "Raw heads: absolute differences, and relative to the head's largest number",
        ("Backend", "Output", "Max", "Mean", "Median", "Rel. max", "Rel. mean", "Rel. median", "Cosine"),
        [
            (pair.label, head.output, *map(_short, (*head.absolute, *head.relative)), f"{head.cosine:.7f}")
            for pair in report.pairs
            for head in pair.heads
        ],
        wraps="Backend",
    )
    print_table(
        "Faces, matched by IoU; differences are the largest",
        ("Backend", "Found", "Matched", "At a threshold", "Unmatched", "Least IoU", "Box", "Landmark", "Score"),
        [(pair.label, *_faces(pair.faces)) for pair in report.pairs],
        wraps="Backend",
    )
    if precisions is not None:
        print_table(
            "Average precision in percent, and the difference from the reference in points",
            ("Backend", *(subset.capitalize() for subset in precisions)),
            [
                (report.label, *("-" if value is None else f"{value:.2f}" for value in precisions.values())),
                *((pair.label, *_points(precisions, pair.average_precision or {})) for pair in report.pairs),
            ],
            wraps="Backend",
        )
    names = [key.name for key in attrs.fields(type(report.pairs[0].need))]
    rows = []
    for pair in report.pairs:
        needs = (f"{_short(getattr(pair.need, name))} of {getattr(pair.allowed, name):g}" for name in names)
        rows.append((pair.label, *needs, f"over: {', '.join(pair.over)}" if pair.over else "ok"))
    columns = ("Backend", *map(str.capitalize, names), "Verdict")
    print_table("Tolerance needed, of the one allowed", columns, rows)


def _points(reference: Precisions, own: Precisions) -> list[str]:
    pairs = [(own[subset], value) for subset, value in reference.items()]
    return ["-" if one is None or value is None else f"{one:.2f} ({one - value:+.2f})" for one, value in pairs]


def _faces(faces: FaceDifference) -> tuple[str, ...]:
    counts = map(str, (faces.matched, faces.near, faces.unmatched))
    pixels = (f"{_short(most)} px" for most in (faces.box, faces.landmark))
    return (f"{faces.actual} for {faces.expected}", *counts, f"{faces.iou:.4f}", *pixels, _short(faces.score))


def _short(value: float) -> str:
    return f"{value:.2g}"
