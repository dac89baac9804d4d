"""``polyface detect``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from polyface.cli.job import JobCommand, job_arguments, run_job

if TYPE_CHECKING:
    from polyface.plugins.manager import PluginManager


@click.command("detect", cls=JobCommand, short_help="Find the faces in images and folders.")
@job_arguments
def command(ctx: click.Context, /, inputs: tuple[str, ...], plugins: PluginManager, **overrides: Any) -> None:
    """Find the faces in images, and in every image below folders.

    In folders, links to other folders are followed, each folder once, unless --no-follow-links is given. Hidden files
    and folders are left out, and counted at the end.
    The images of a tar archive (.tar, .tar.gz, .tgz), such as a shard of WebDataset, are read without unpacking it.
    @LIST reads the paths in a text file, a line each, and - those on standard input; zero bytes may part them, too.

    --output says what is written, and may stand several times. A folder gets each image with its faces drawn, as
    NAME_out.jpg, and faces.jsonl with one line an image, which says which drawing is its own. A file gets what its
    ending says: .jsonl, .csv, .coco.json, .wider.txt and those of plugins; WRITER:PATH names the writer. One run at a
    time writes to a folder. With --json, writes the lines to standard output. With --timing, each line has the image's
    seconds by stage, and a table at the end their sums. --batch-size is how many images at most go through the
    network together.

    --resume goes on where a run before ended, however that was, with the same outputs and images: what every file of
    results has is not done again, and in the end all is as if nothing had happened. New images follow. Without it, a
    file that has results is refused.

    Exit status: 0 if every image was read, 1 if some could not be (the rest is done, up to --max-errors), 2 for usage
    and configuration, 130 after Ctrl-C.
    """
    run_job(ctx, inputs, plugins, overrides)
