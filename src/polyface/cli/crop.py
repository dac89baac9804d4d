"""``polyface crop``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from polyface.cli.job import job_arguments, run_job, writer_options
from polyface.cli.output import Command
from polyface.writers.plugin import CROPS

if TYPE_CHECKING:
    from polyface.pipeline.detector import FaceDetector
    from polyface.plugins.manager import PluginManager


@click.command("crop", cls=Command, short_help="Write each face as an image of its own.")
@writer_options(CROPS)
@job_arguments
def command(
    ctx: click.Context,
    /,
    inputs: tuple[str, ...],
    plugins: PluginManager,
    margin: float | None,
    align: int | None,
    **overrides: Any,
) -> None:
    """Find the faces in images, and write each as an image of its own.

    --output names the folder: the faces of photos/sub/a.jpg become sub/a-1.jpg, sub/a-2.jpg and so on, the best first,
    and faces.jsonl has one line an image, which names them as crops. Further outputs, --resume and all else are as of
    polyface detect.

    --align wants a detector that gives eyes, nose and corners of the mouth; polyface detectors shows which do.

    Exit status: 0 if every image was read, 1 if some could not be (the rest is done, up to --max-errors), 2 for usage
    and configuration, 130 after Ctrl-C.
    """

    def check(detector: FaceDetector) -> None:
        if align is not None:
            from polyface.images.faces import check_landmarks

            check_landmarks(detector.spec.landmarks)

    run_job(ctx, inputs, plugins, overrides, fill=CROPS, options={"margin": margin, "align": align}, check=check)
