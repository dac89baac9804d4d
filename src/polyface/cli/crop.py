"""``polyface crop``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from polyface.cli.job import JobCommand, job_arguments, run_job

if TYPE_CHECKING:
    from polyface.pipeline.detector import FaceDetector
    from polyface.plugins.manager import PluginManager


@click.command("crop", cls=JobCommand, short_help="Write each face as an image of its own.")
@job_arguments
def command(ctx: click.Context, /, inputs: tuple[str, ...], plugins: PluginManager, **overrides: Any) -> None:
    """Find the faces in images, and write each as an image of its own.

    --output names the folder: the faces of photos/sub/a.jpg become sub/a-1.jpg, sub/a-2.jpg and so on, the best first,
    and faces.jsonl has one line an image, which names them as crops. Further outputs, --resume and all else are as of
    polyface detect.

    --align wants a detector that gives eyes, nose and corners of the mouth; polyface detectors shows which do.

    Exit status: 0 if every image was read, 1 if some could not be (the rest is done, up to --max-errors), 2 for usage
    and configuration, 130 after Ctrl-C.
    """
    aligned = overrides.get("align") is not None

    def check(detector: FaceDetector) -> None:
        if aligned:
            from polyface.images.faces import check_landmarks

            check_landmarks(detector.spec.landmarks)

    run_job(ctx, inputs, plugins, overrides, needs_writer=True, check=check)
