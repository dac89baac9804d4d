"""What the commands share that find faces and write what comes of them: only their writers differ."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import click

from polyface.cli.options import SOURCE, F, config_options, flag, pass_plugins
from polyface.cli.output import echo, is_quiet, quiet_option
from polyface.cli.progress import Failures, note_left_out, report_progress
from polyface.cli.tables import print_table, say
from polyface.errors import ConfigError, Fix
from polyface.settings.loading import SETTINGS_RECORDS, load
from polyface.storage.files import json_bytes

if TYPE_CHECKING:
    from polyface.jobs.outputs import Output
    from polyface.jobs.run import Tally
    from polyface.pipeline.detector import FaceDetector
    from polyface.plugins.manager import PluginManager
    from polyface.plugins.records import WriterSpec
    from polyface.results import Result
    from polyface.settings.config import Job

ROWS = 20
"""The closing table lists so many images one by one, and only sums up the rest."""

_TYPES = {"int": int, "float": float, "str": str}


def job_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command images, folders and lists as ``inputs``, every setting as an option, the context and the plugins.

    The settings, and the option ``--config`` as ``config_file``, are what :func:`run_job` takes as ``overrides``.
    """
    inputs = click.argument("inputs", nargs=-1, required=True, metavar="IMAGE|FOLDER|TAR|@LIST...")
    command: Callable[..., Any] = inputs(config_options()(quiet_option(click.pass_context(pass_plugins(function)))))
    return command


def writer_options(spec: WriterSpec) -> Callable[[F], F]:
    """Add an option for each of a writer's own, which is ``None`` where it is not given."""

    def add(function: F) -> F:
        for option in reversed(spec.options):
            kind: dict[str, Any] = {"is_flag": True} if option.type == "bool" else {"type": _TYPES[option.type]}
            if option.choices:
                kind = {"type": click.Choice(option.choices)}
            shown = "" if option.default in (None, "") or option.default is False else f" By default {option.default}."
            text = option.help + shown
            function = click.option(flag(option.name), option.name, default=None, help=text, **kind)(function)
        return function

    return add


def run_job(
    ctx: click.Context,
    inputs: tuple[str, ...],
    plugins: PluginManager,
    overrides: dict[str, Any],
    *,
    fill: WriterSpec | None = None,
    options: Mapping[str, Any] | None = None,
    check: Callable[[FaceDetector], None] = lambda _: None,
) -> None:
    """Detect faces, have them written, and end the command with its exit status.

    Args:
        ctx: of the command.
        inputs: what the user named.
        plugins: where everything is looked up.
        overrides: the command's options that are settings.
        fill: the writer of core that folders get, and that has to have one; by default they get drawings.
        options: of that writer; ``None`` is its default.
        check: raises where the detector will not do.

    Raises:
        PolyfaceError: it cannot begin, or not go on.
    """
    from polyface.building import build_for_many
    from polyface.jobs.inputs import Inputs
    from polyface.jobs.run import Tally, leave_out_done, run
    from polyface.plugins.protocols import Search

    config, job = load(*SETTINGS_RECORDS, path=overrides.pop("config_file"), source=SOURCE, overrides=overrides)
    outputs = _outputs_of(job, plugins, fill, options or {})
    folders = tuple(output.path for output in outputs if output.spec.writes == "folder")
    items = Inputs(inputs, plugins, Search(formats=config.formats, skip=folders, follow_links=job.follow_links))
    tally = Tally(items.count())
    failures = Failures()
    rows: list[tuple[str, str]] = []
    started = time.perf_counter()
    with ExitStack() as stack:
        detector = stack.enter_context(build_for_many(config, plugins))
        check(detector)
        writers = [(output.given, stack.enter_context(output.open())) for output in outputs]
        kept = [writer for output, (_, writer) in zip(outputs, writers, strict=True) if output.spec.writes == "file"]
        todo = leave_out_done(items, kept, tally=tally) if job.resume else items
        progress = stack.enter_context(
            report_progress(tally.total, before=lambda: tally.before, as_json=job.json, failures=failures)
        )

        def report(result: Result) -> None:
            progress(result)
            if result.faces.truncated:
                what = f"a limit cut the faces at {len(result.faces)}; there were more over the threshold"
                if not is_quiet():
                    say(f"{result.name}: note: {what}", err=True)
            if job.json:
                echo(json_bytes(result.to_dict()))
            if len(rows) < ROWS:
                rows.append((result.name, "failed" if result.error else str(len(result.faces))))

        images = any(output.spec.wants_image for output in outputs)
        whole = f"what was written is whole{', and --resume goes on from there' if kept else ''}"
        # Closed before the detector and the writers are.
        results = stack.enter_context(closing(detector.stream(todo, keep_images=images)))
        try:
            finished = run(results, writers, tally=tally, report=report, max_errors=job.max_errors)
        except KeyboardInterrupt:
            failures.sum_up()
            say(f"interrupted after {tally.progress}; {whole}", err=True)
            ctx.exit(130)
    if not is_quiet():
        _report(tally, rows, time.perf_counter() - started, detector, err=job.json)
    note_left_out(items.left_out)
    failures.sum_up()
    if not finished:
        say(f"stopped after {tally.progress}: more than {job.max_errors} failed (--max-errors); {whole}", err=True)
    ctx.exit(1 if tally.failed or tally.failed_before else 0)


def _outputs_of(job: Job, plugins: PluginManager, fill: WriterSpec | None, options: Mapping[str, Any]) -> list[Output]:
    from polyface.jobs.outputs import IMAGES, parse_outputs
    from polyface.plugins.manager import CORE

    folder = IMAGES if fill is None else f"{CORE}/{fill.name}"
    given = {name: value for name, value in options.items() if value is not None}
    outputs = parse_outputs(job.output, plugins, resume=job.resume, folder=folder, options=given)
    if fill is not None and all(output.spec.name != fill.name for output in outputs):
        raise ConfigError(
            f"No output is a folder, which the writer '{fill.name}' would fill.",
            fix=Fix(settings={"output": f"{fill.name}/"}),
        )
    return outputs


def _report(tally: Tally, listed: list[tuple[str, str]], seconds: float, detector: FaceDetector, *, err: bool) -> None:
    execution = detector.execution
    rest = tally.items - len(listed)
    rows = [*listed, *([(f"... and {rest} more", "")] if rest else [])]
    count = f"{tally.items} image{'' if tally.items == 1 else 's'}"
    failed = f", {tally.failed} failed" if tally.failed else ""
    before = f", {tally.before} done before" if tally.before else ""
    before += f" ({tally.failed_before} of them failed)" if tally.failed_before else ""
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
