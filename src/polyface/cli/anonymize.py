"""``polyface anonymize``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from polyface.cli.job import JobCommand, job_arguments, run_job

if TYPE_CHECKING:
    from polyface.plugins.manager import PluginManager


@click.command("anonymize", cls=JobCommand, short_help="Write images with their faces made unrecognisable.")
@job_arguments
def command(ctx: click.Context, /, inputs: tuple[str, ...], plugins: PluginManager, **overrides: Any) -> None:
    """Find the faces in images, and write the images with their faces made unrecognisable.

    --output names the folder: photos/sub/a.jpg becomes sub/a.jpg, and faces.jsonl has one line an image, which names it
    as anonymized. Further outputs, --resume and all else are as of polyface detect. Plugins may make more: with
    polyface-video, clip.mp4 --output safe.mp4 makes a video without faces.

    Format, EXIF orientation and ICC profile of a file are kept, and nothing else of it: neither its position (GPS), nor
    the thumbnail, which shows the faces, nor XMP. What was not examined wholly is not written: an image with an error,
    one whose file is cut short, one of several frames, pages or views, and one with more faces than a limit let
    through. A face that the detector does not find is seen; a lower --score-threshold finds more.

    Exit status: 0 if every image was written, 1 if some could not be (the rest is done, up to --max-errors), 2 for
    usage and configuration, 130 after Ctrl-C.
    """
    run_job(ctx, inputs, plugins, overrides, needs_writer=True)
