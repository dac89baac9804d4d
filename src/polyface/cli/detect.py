"""``polyface detect``."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from polyface.cli.options import SOURCE, config_options, pass_plugins
from polyface.cli.output import Command, echo
from polyface.cli.progress import note_left_out, report_progress
from polyface.cli.tables import print_table, say
from polyface.settings.loading import SETTINGS_RECORDS, load
from polyface.storage.files import json_bytes

if TYPE_CHECKING:
    from polyface.jobs.run import Tally
    from polyface.pipeline.detector import FaceDetector
    from polyface.plugins.manager import PluginManager
    from polyface.results import Result

ROWS = 20
"""The closing table lists so many images one by one, and only sums up the rest."""


@click.command("detect", cls=Command, short_help="Find the faces in images and folders.")
@click.argument("inputs", nargs=-1, required=True, metavar="IMAGE|FOLDER|@LIST...")
@config_options()
@click.pass_context
@pass_plugins
def command(
    ctx: click.Context, /, inputs: tuple[str, ...], config_file: str | None, plugins: PluginManager, **overrides: Any
) -> None:
    """Find the faces in images, and in every image below folders.

    In folders, links to other folders are followed; hidden files and folders are left out, and counted at the end.
    @LIST reads the paths in a text file, a line each, and @- those on standard input.

    --output says what is written, and may stand several times. A folder gets each image with its faces drawn, as
    NAME_out.jpg, and faces.jsonl with one line an image, which says which drawing is its own. A file gets what its
    ending says: .jsonl, .csv, .coco.json, .wider.txt and those of plugins; WRITER:PATH names the writer. One run at a
    time writes to a folder. With --json, writes the lines to standard output. With --timing, each line has the image's
    seconds by stage, and a table at the end their sums. --batch-size is how many images are read, and go through the
    network together, at a time.

    --resume goes on where a run before ended, however that was, with the same outputs and images: what every file of
    results has is not done again, and in the end all is as if nothing had happened. New images follow. Without it, a
    file that has results is refused.

    Exit status: 0 if every image was read, 1 if some could not be (the rest is done), 2 for usage and configuration,
    130 after Ctrl-C.
    """
    from polyface.building import create_detector
    from polyface.jobs.inputs import Inputs
    from polyface.jobs.outputs import parse_outputs
    from polyface.jobs.run import Tally, leave_out_done, run
    from polyface.plugins.protocols import Search

    config, job = load(*SETTINGS_RECORDS, path=config_file, source=SOURCE, overrides=overrides)
    outputs = parse_outputs(job.output, plugins, resume=job.resume)
    folders = tuple(output.path for output in outputs if output.spec.writes == "folder")
    items = Inputs(inputs, plugins, Search(formats=config.formats, skip=folders))
    tally = Tally(items.count())
    rows: list[tuple[str, str]] = []
    started = time.perf_counter()
    with ExitStack() as stack:
        detector = stack.enter_context(create_detector(config=config, plugins=plugins))
        writers = [(output.given, stack.enter_context(output.open())) for output in outputs]
        kept = [writer for output, (_, writer) in zip(outputs, writers, strict=True) if output.spec.writes == "file"]
        todo = leave_out_done(items, kept, tally=tally) if job.resume else items
        progress = stack.enter_context(report_progress(tally.total, before=lambda: tally.before, as_json=job.json))

        def report(result: Result) -> None:
            progress(result)
            if result.faces.truncated:
                what = f"a limit cut the faces at {len(result.faces)}; there were more over the threshold"
                say(f"{result.name}: note: {what}", err=True)
            if job.json:
                echo(json_bytes(result.to_dict()))
            if len(rows) < ROWS:
                rows.append((result.name, "failed" if result.error else str(len(result.faces))))

        images = any(output.spec.wants_image for output in outputs)
        try:
            run(detector.stream(todo, keep_images=images), writers, tally=tally, report=report)
        except KeyboardInterrupt:
            goes_on = ", and --resume goes on from there" if kept else ""
            say(f"interrupted after {tally.progress}; what was written is whole{goes_on}", err=True)
            ctx.exit(130)
    _report(tally, rows, time.perf_counter() - started, detector, err=job.json)
    note_left_out(items.left_out)
    ctx.exit(1 if tally.failed else 0)


def _report(tally: Tally, listed: list[tuple[str, str]], seconds: float, detector: FaceDetector, *, err: bool) -> None:
    execution = detector.execution
    rest = tally.items - len(listed)
    rows = [*listed, *([(f"... and {rest} more", "")] if rest else [])]
    count = f"{tally.items} image{'' if tally.items == 1 else 's'}"
    failed = f", {tally.failed} failed" if tally.failed else ""
    before = f", {tally.before} done before" if tally.before else ""
    totals = (f"{count}{failed}{before}, {seconds:.2f} s", str(tally.faces))
    title = f"{detector.spec.name} on {detector.backend.name}, {execution.device}, {execution.precision}"
    print_table(title, ("Image", "Faces"), rows, wraps="Image", totals=totals, err=err)
    if not tally.stages:
        return
    whole = sum(tally.stages.values())

    def row(stage: str, seconds: float) -> tuple[str, ...]:
        return stage, f"{seconds:.3f} s", f"{seconds / tally.timed * 1000:.2f} ms", f"{seconds / whole:.1%}"

    shares = [row("NMS" if stage == "nms" else stage, seconds) for stage, seconds in tally.stages.items()]
    columns = ("Stage", "Time", "An image", "Share")
    print_table("Where the time went", columns, shares, wraps="Stage", totals=row("all", whole), err=err)
