"""``polyface detect``."""

from __future__ import annotations

import errno
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click
from attrs import field, mutable

from polyface.cli.options import SOURCE, config_options, pass_plugins
from polyface.cli.output import Command, echo
from polyface.cli.progress import one_line, progress, quiet_pillow
from polyface.cli.tables import json_bytes, print_table, say
from polyface.errors import ConfigError, ImageError, PluginError, PolyfaceError, described
from polyface.settings.config import load_config

if TYPE_CHECKING:
    from polyface.cli.drawings import OutputFolder
    from polyface.images.reading import Decoded
    from polyface.pipeline.detector import FaceDetector
    from polyface.plugins.manager import PluginManager
    from polyface.results import Detections
    from polyface.sources.files import Job

FATAL = {errno.EACCES, errno.EDQUOT, errno.EIO, errno.ENOSPC, errno.EPERM, errno.EROFS}
"""What keeps every drawing from being written, not the one."""

ROWS = 20
"""The closing table lists so many images one by one, and only sums up the rest."""


@mutable
class Tally:
    """What was done so far."""

    rows: list[tuple[str, str, str]] = field(factory=list)
    images: int = 0
    faces: int = 0
    failed: int = 0
    seconds: float = 0.0
    stages: dict[str, float] = field(factory=dict)

    def add(self, name: str, faces: int, seconds: float, stages: Mapping[str, float], *, failed: bool) -> None:
        """Count one image; ``stages`` has the seconds of each, where they were asked for."""
        self.images += 1
        self.failed += failed
        self.faces += faces
        self.seconds += seconds
        for stage, spent in stages.items():
            self.stages[stage] = self.stages.get(stage, 0.0) + spent
        if len(self.rows) < ROWS:
            self.rows.append((name, "failed" if failed else str(faces), f"{seconds * 1000:.0f} ms"))


@click.command("detect", cls=Command, short_help="Find the faces in images and folders.")
@click.argument("inputs", nargs=-1, required=True, metavar="IMAGE|FOLDER...")
@config_options()
@click.pass_context
@pass_plugins
def command(
    ctx: click.Context, /, inputs: tuple[str, ...], config_file: str | None, plugins: PluginManager, **overrides: Any
) -> None:
    """Find the faces in images, and in every image below folders.

    In folders, links to other folders are followed; hidden files and folders are left out, and counted at the end.

    With --output, writes each image with its faces drawn as NAME_out.jpg, and faces.jsonl with one line an image,
    which says which drawing is its own. The lines of earlier runs stay; an image that is done again gets a new one in
    the place of its old. One run at a time writes to a folder. With --json, writes the same lines to standard output.
    With --timing, each line has the image's seconds by stage, and a table at the end their sums.

    Exit status: 0 if every image was read, 1 if some could not be (the rest is done), 2 for usage and configuration.
    """
    from polyface.building import create_detector
    from polyface.cli.drawings import OutputFolder
    from polyface.cli.progress import note_left_out
    from polyface.sources.files import find_images

    config = load_config(config_file, source=SOURCE, **overrides)
    left_out: Counter[str] = Counter()
    jobs = find_images(inputs, config.output, formats=config.formats, left_out=left_out)
    tally = Tally()
    with ExitStack() as stack:
        stack.enter_context(quiet_pillow())
        detector = stack.enter_context(create_detector(config=config, plugins=plugins))
        folder = stack.enter_context(OutputFolder(config.output, jobs)) if config.output else None
        try:
            with progress(len(jobs), as_json=config.json) as advance:
                for job in jobs:
                    _do(job, detector, folder, tally, to_stdout=config.json)
                    advance()
        except KeyboardInterrupt:
            say(f"interrupted after {tally.images} of {len(jobs)}; what was written is whole", err=True)
            ctx.exit(130)
        except OSError as error:
            if folder is None or isinstance(error, BrokenPipeError):
                raise
            raise ConfigError(
                f"Cannot write to {config.output}.",
                why=[str(error), f"{tally.images} of {len(jobs)} images were done; what was written is whole"],
            ) from error
        _report(tally, detector, err=config.json)
        note_left_out(left_out)
    ctx.exit(1 if tally.failed else 0)


def _do(job: Job, detector: FaceDetector, folder: OutputFolder | None, tally: Tally, *, to_stdout: bool) -> None:
    """Read one image, find its faces, and write what was found; what is wrong with it is written, too."""
    started = time.perf_counter()
    line: dict[str, Any] = {"image": job.name, "width": None, "height": None, "faces": []}
    line |= {"truncated": False, "drawing": None, "error": None}
    timing: dict[str, float] = {}
    try:
        image = _read(job, detector)
        read = time.perf_counter() - started
        line["height"], line["width"] = image.shape
        faces = detector.detect(image)
        line["faces"], line["truncated"] = faces.to_dicts(), faces.truncated
        if faces.truncated:
            say(
                f"{job.name}: note: a limit cut the faces at {len(faces)}; there were more over the threshold", err=True
            )
        drawing = time.perf_counter()
        if folder is not None:
            line["drawing"] = _draw(job, image, faces, folder)
        if faces.timing is not None:
            timing = {**faces.timing, "read": read + faces.timing["read"], "draw": time.perf_counter() - drawing}
            line["timing"] = {stage: round(seconds, 6) for stage, seconds in timing.items()}
    except PluginError:
        raise  # the plugin is at fault, and would be for every image
    except PolyfaceError as error:
        line["error"] = one_line(error, job.path)
    except MemoryError:
        line["error"] = "does not fit into memory; to fix it: lower --max-side or --pad-to"
    seconds = time.perf_counter() - started
    if line["error"]:
        say(f"{job.name}: {line['error']}", err=True)
    text = json_bytes(line)
    if folder is not None:
        folder.append(job.name, text)
    tally.add(job.name, len(line["faces"]), seconds, timing, failed=line["error"] is not None)
    if to_stdout:
        echo(text)


def _read(job: Job, detector: FaceDetector) -> Decoded:
    """Read one image; whatever is wrong with its path is its error."""
    if job.problem:
        raise ImageError(job.problem)
    try:
        return detector.read(job.path)
    except PolyfaceError:
        raise
    except (OSError, RecursionError, ValueError) as error:
        raise ImageError("it cannot be read", why=[described(error)]) from error


def _draw(job: Job, image: Decoded, faces: Detections, folder: OutputFolder) -> str:
    """Draw one image, and return where; what stands in the way of it alone is its error, a full disk everybody's."""
    try:
        return folder.draw(job, image, faces)
    except PolyfaceError:
        raise
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) in FATAL:
            raise
        raise ImageError("its faces cannot be drawn", why=[str(error)]) from error


def _report(tally: Tally, detector: FaceDetector, *, err: bool) -> None:
    run = detector.execution
    rest = tally.images - len(tally.rows)
    rows = [*tally.rows, *([(f"... and {rest} more", "", "")] if rest else [])]
    count = f"{tally.images} image{'' if tally.images == 1 else 's'}"
    totals = (f"{count}, {tally.failed} failed" if tally.failed else count, str(tally.faces), f"{tally.seconds:.2f} s")
    title = f"{detector.spec.name} on {detector.backend.name}, {run.device}, {run.precision}"
    print_table(title, ("Image", "Faces", "Time"), rows, wraps="Image", totals=totals, err=err)
    if tally.stages:
        _report_stages(tally, err=err)


def _report_stages(tally: Tally, *, err: bool) -> None:
    whole, done = sum(tally.stages.values()), tally.images - tally.failed

    def row(stage: str, seconds: float) -> tuple[str, ...]:
        return stage, f"{seconds:.3f} s", f"{seconds / done * 1000:.2f} ms", f"{seconds / whole:.1%}"

    rows = [row("NMS" if stage == "nms" else stage, seconds) for stage, seconds in tally.stages.items()]
    columns = ("Stage", "Time", "An image", "Share")
    print_table("Where the time went", columns, rows, wraps="Stage", totals=row("all", whole), err=err)
