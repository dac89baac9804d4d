"""``polyface ray``."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pyarrow as pa

from polyface.cli.options import SOURCE, config_options, pass_plugins
from polyface.cli.output import Command, is_quiet, quiet_option
from polyface.cli.progress import Failures, note_left_out, progress
from polyface.cli.tables import print_table, say
from polyface.errors import ConfigError, Fix, ImageError, PolyfaceError, quoted, shortened
from polyface.jobs.inputs import Inputs
from polyface.machine.cores import default_threads
from polyface.plugins.protocols import Search
from polyface.results import Result
from polyface.settings.config import Config, Job
from polyface.settings.loading import load
from polyface.settings.record import settings
from polyface_ray.actors import PartFinder
from polyface_ray.dataset import Actors, fit_actors
from polyface_ray.parts import Folder, Part, Plan, describe_run, plan_images, plan_tables
from polyface_ray.runtime import data, ray
from polyface_ray.storage import is_uri

if TYPE_CHECKING:
    from polyface.plugins.manager import PluginManager

SIZE = 1000
"""Images of a part, unless the user says otherwise."""

PATIENCE = 10.0
"""Seconds in which a cluster must be reached."""


@click.group("ray", short_help="Find the faces on many machines, by Ray.")
def command() -> None:
    """Find faces on all machines of a Ray cluster, or on all cores of this one."""


@command.command("detect", cls=Command, short_help="Find the faces in images, in parts.")
@click.argument("inputs", nargs=-1, required=True, metavar="IMAGE|FOLDER|@LIST|PARQUET...")
@click.option("--output", required=True, metavar="DIR", help="Folder of the parts; every machine must reach it.")
@click.option("--column", metavar="NAME", help="The inputs are Parquet, and their images in this column.")
@click.option(
    "--part-size", type=click.IntRange(1), default=SIZE, metavar="COUNT", help=f"Images of a part; by default {SIZE}."
)
@click.option(
    "--actors", type=click.IntRange(1), metavar="COUNT", help="Detectors at once; by default all there is room for."
)
@click.option(
    "--address", metavar="ADDRESS", help="Of a Ray cluster; by default RAY_ADDRESS, and else Ray is started here."
)
@config_options([*(key.name for key in settings(Config)), "resume", "follow_links"])
@quiet_option
@click.pass_context
@pass_plugins
def detect(
    ctx: click.Context,
    /,
    *,
    inputs: tuple[str, ...],
    output: str,
    column: str | None,
    part_size: int,
    actors: int | None,
    address: str | None,
    config_file: str | None,
    plugins: PluginManager,
    **overrides: Any,
) -> None:
    """Find the faces in images, folders, lists or Parquet files, and write Parquet files of faces.

    Inputs and output are paths that every machine has, or URIs: s3://, gs://, abfs://, hdfs://. With --column NAME the
    inputs are Parquet files and folders of them; the column has the bytes of image files, or paths, and all others are
    kept.

    The output is part-000000.parquet and so on, whose rows are those of polyface-parquet. Each actor has one detector,
    and as many CPUs as --threads says, by default 1; with --device cuda it has a GPU as well.

    --resume goes on where a run before ended, however that was: parts that are there are not done again. Input and
    settings must be those of that run.

    Exit status: 0 if every image was read, 1 if some could not be, 2 for usage and configuration, 130 after Ctrl-C.
    """
    config, job = load(Config, Job, path=config_file, source=SOURCE, overrides=overrides)
    plan = _plan(inputs, plugins, config, job, output=output, column=column, size=part_size)
    folder = Folder(os.path.abspath(output) if not is_uri(output) else output)  # noqa: PTH100 - links stay
    done = folder.begin(describe_run(config, plan, column=column, size=part_size), resume=job.resume)
    todo = [part for part in plan.parts if part.name not in {*done}]
    before, failed_before = folder.count_failed(done)
    failures, tally = Failures(), Tally()
    started = time.perf_counter()
    try:
        if todo:
            _connect(address)
            found = _run(fit_actors(config), todo, column=column, output=folder.location, most=actors)
            with progress(plan.images, before=lambda: before) as advance:
                for row in found:
                    tally.add(row)
                    for name, reason in row["told"]:
                        failures.tell(Result(name=name, error=ImageError(reason)))
                    for _ in range(row["images"]):
                        advance()
    except KeyboardInterrupt:
        there = len(folder.list_parts())  # some of them were done, and not told yet
        say(f"interrupted after {there} of {len(plan.parts)} parts; --resume goes on from there", err=True)
        ctx.exit(130)
    folder.end()
    _report(tally, before, failed_before, time.perf_counter() - started)
    ctx.exit(1 if tally.failed or failed_before else 0)


class Tally:
    """What became of the parts of this run."""

    def __init__(self) -> None:
        self.parts = self.images = self.faces = self.failed = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a part: a row of :data:`polyface_ray.actors.DONE`."""
        self.parts += 1
        self.images += row["images"]
        self.faces += row["faces"]
        self.failed += row["failed"]


def _plan(
    inputs: Sequence[str],
    plugins: PluginManager,
    config: Config,
    job: Job,
    *,
    output: str,
    column: str | None,
    size: int,
) -> Plan:
    if column is not None:
        return plan_tables(inputs, size, column, config)
    for location in inputs:
        if location.lower().endswith(".parquet"):
            what = f"{shortened(location, 500)} is Parquet: which of its columns has the images?"
            raise ConfigError(what, fix="--column NAME")
    skip = () if is_uri(output) else (Path(output),)
    items = Inputs(inputs, plugins, Search(formats=config.formats, skip=skip, follow_links=job.follow_links))
    plan = plan_images(items, size)
    note_left_out(items.left_out)
    return plan


def _connect(address: str | None) -> None:
    """Connect to a cluster, or start one of this machine's cores.

    Raises:
        ConfigError: there is none at that address.
    """
    if ray.is_initialized():
        return
    there = address or os.environ.get("RAY_ADDRESS")
    own = {} if there else {"num_cpus": default_threads(), "include_dashboard": False}
    try:
        if there:
            _knock(there)
        ray.init(address=there, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ValueError, OSError, ray.exceptions.RaySystemError) as error:
        if not there:
            raise
        raise ConfigError(
            f"There is no Ray cluster at {quoted(there)}.",
            why=[str(error)],
            fix=Fix("start one", command="ray start --head") | "leave out --address and RAY_ADDRESS for this machine",
        ) from error


def _knock(address: str) -> None:
    """See that something listens at an address that has a port: Ray asks for minutes.

    Raises:
        OSError: nothing does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), PATIENCE).close()


def _run(
    actors: Actors, parts: Sequence[Part], *, column: str | None, output: str, most: int | None
) -> Iterator[dict[str, Any]]:
    """Yield what becomes of each part, in the order in which they are done.

    Raises:
        ConfigError: there is no room for so many actors.
        PolyfaceError: a part cannot be done.
    """
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # A block each: what an actor is given, and does again if it dies.
    tables = [pa.table({"part": [part.to_json()]}) for part in parts]
    count = actors.check(min(actors.room, len(parts)) if most is None else most, "actors")
    found = data.from_arrow(tables).map_batches(
        PartFinder,
        fn_constructor_kwargs={"config": actors.config, "column": column, "output": output},
        batch_size=None,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=1),
        **actors.options,
    )
    try:
        for row in found.iter_rows():
            if row["problem"] is not None:
                raise PolyfaceError(f"{row['part']} cannot be made.", why=[row["problem"]])
            yield row
    except ray.exceptions.RayError as error:
        raise PolyfaceError(
            "Ray cannot go on.",
            why=[str(error)],
            fix=Fix("look into Ray's logs", settings={"resume": True}),
        ) from error


def _report(tally: Tally, before: int, failed_before: int, seconds: float) -> None:
    if is_quiet():
        return
    rows = [("in this run", str(tally.images), str(tally.faces), str(tally.failed))]
    if before:
        rows.append(("done before", str(before), "", str(failed_before)))
    title = f"{tally.parts} part{'' if tally.parts == 1 else 's'} in {seconds:.1f} s"
    print_table(title, ("", "Images", "Faces", "Failed"), rows)
