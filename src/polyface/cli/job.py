"""What the commands share that find faces and write what comes of them: only their writers differ."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from polyface.cli.options import SOURCE, config_options, flag, pass_plugins, plugins_of
from polyface.cli.output import Command, echo, is_quiet, quiet_option
from polyface.cli.progress import Failures, note_left_out, report_progress
from polyface.cli.tables import print_table, say
from polyface.errors import ConfigError, Fix
from polyface.settings.loading import SETTINGS_RECORDS, load
from polyface.storage.files import json_bytes

if TYPE_CHECKING:
    from polyface.jobs.inputs import Inputs
    from polyface.jobs.outputs import Output
    from polyface.jobs.run import Tally
    from polyface.pipeline.detector import FaceDetector
    from polyface.plugins.manager import PluginManager
    from polyface.plugins.protocols import Step
    from polyface.plugins.records import OptionSpec, OptionValue, SourceSpec, StepSpec, WriterSpec
    from polyface.results import Result
    from polyface.settings.config import Job

    _Participant: TypeAlias = WriterSpec | SourceSpec | StepSpec

LOG = logging.getLogger(__name__)

ROWS = 20
"""The closing table lists so many images one by one, and only sums up the rest."""

_TYPES = {"int": int, "float": float, "str": str}


class JobCommand(Command):
    """A command with the options of all that may take part: sources, steps, and the writers that are for it."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the parameters, those of plugins among them."""
        *own, last = super().get_params(ctx)
        return [*own, *map(_as_option, self.plugin_options(ctx).values()), last]

    def plugin_options(self, ctx: click.Context) -> dict[str, list[OptionSpec]]:
        """Return the options of plugins by name: several may have one of that name; none replaces the command's own."""
        if _OPTIONS not in ctx.meta:
            own = {parameter.name for parameter in super().get_params(ctx)}
            found: dict[str, list[OptionSpec]] = {}
            for spec in _participants(plugins_of(ctx), self.name or ""):
                for option in spec.options:
                    if option.name.removeprefix("no_") in own:
                        LOG.warning("the option '%s' of '%s' cannot be given: polyface has one", option.name, spec.name)
                    else:
                        found.setdefault(option.name, []).append(option)
            ctx.meta[_OPTIONS] = found
        options: dict[str, list[OptionSpec]] = ctx.meta[_OPTIONS]
        return options


_OPTIONS = f"{__name__}.options"
"""Where a command's context has the options of plugins."""


def _participants(plugins: PluginManager, command: str) -> Iterator[_Participant]:
    """Yield all that may take part in a command."""
    from polyface.plugins.records import SourceSpec, StepSpec, WriterSpec

    yield from (spec for spec in plugins.all(WriterSpec) if spec.is_for(command))
    yield from plugins.all(SourceSpec)
    yield from plugins.all(StepSpec)


def _as_option(several: list[OptionSpec]) -> click.Option:
    """One option for all of a name, as the first says; it is ``None`` where it is not given."""
    option = several[0]
    name, kind = flag(option.name), _type_of(several)
    if option.type == "bool":
        name, kind = f"{name}/{flag(f'no_{option.name}')}" if option.default else name, {"is_flag": True}
    shown = option.default not in (None, "") and not isinstance(option.default, bool)
    text = f"{option.help} By default {option.default}." if shown else option.help
    return click.Option([name, option.name], default=None, help=text, **kind)


def _type_of(several: list[OptionSpec]) -> dict[str, Any]:
    """What click checks; the record of whatever takes the value checks the rest."""
    option = several[0]
    if all(one.choices for one in several):
        return {"type": click.Choice(list(dict.fromkeys(choice for one in several for choice in one.choices)))}
    if option.type in _TYPES:
        return {"type": _TYPES[option.type]}
    from polyface.settings.values import table

    def read(text: str) -> Any:
        return table(f"{option.name}={text}")[option.name]

    return {"type": read, "metavar": "[NUMBER,...]"}


def job_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command images, folders and lists as ``inputs``, every setting as an option, the context and the plugins.

    The settings, and the option ``--config`` as ``config_file``, are what :func:`run_job` takes as ``overrides``.
    """
    inputs = click.argument("inputs", nargs=-1, required=True, metavar="IMAGE|FOLDER|TAR|@LIST...")
    command: Callable[..., Any] = inputs(config_options()(quiet_option(click.pass_context(pass_plugins(function)))))
    return command


def run_job(
    ctx: click.Context,
    inputs: tuple[str, ...],
    plugins: PluginManager,
    overrides: dict[str, Any],
    *,
    needs_writer: bool = False,
    check: Callable[[FaceDetector], None] = lambda _: None,
) -> None:
    """Detect faces, have them written, and end the command with its exit status.

    Args:
        ctx: of the command.
        inputs: what the user named.
        plugins: where everything is looked up.
        overrides: the command's options, those of :meth:`JobCommand.plugin_options` among them.
        needs_writer: whether one of the writers has to be one that is for this command alone.
        check: raises where the detector will not do.

    Raises:
        PolyfaceError: it cannot begin, or not go on.
    """
    from polyface.building import build_for_many
    from polyface.jobs.inputs import Inputs
    from polyface.jobs.run import Tally, leave_out_done, run
    from polyface.jobs.steps import open_steps, run_steps
    from polyface.plugins.protocols import Search

    options = _pop_options(ctx, overrides)
    config, job = load(*SETTINGS_RECORDS, path=overrides.pop("config_file"), source=SOURCE, overrides=overrides)
    outputs = _outputs_of(job, plugins, ctx.command.name or "", options, needs_writer=needs_writer)
    skip = tuple(output.path for output in outputs if output.spec.writes == "folder")
    items = Inputs(inputs, plugins, Search(formats=config.formats, skip=skip, follow_links=job.follow_links), options)
    steps = open_steps(options, plugins)
    _check_use(options, outputs, items, steps, _participants(plugins, ctx.command.name or ""))
    tally = Tally(items.count())
    failures = Failures()
    rows: list[tuple[str, str]] = []
    started = time.perf_counter()
    with ExitStack() as stack:
        detector = stack.enter_context(build_for_many(config, plugins))
        check(detector)
        writers = [(output.given, stack.enter_context(output.open())) for output in outputs]
        kept = [writer for output, (_, writer) in zip(outputs, writers, strict=True) if output.spec.writes == "file"]
        # A step must see all that it would see in an undisturbed run; the writers get nothing that they have.
        todo = leave_out_done(items, kept, tally=tally) if kept and not steps else items
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

        whole = f"what was written is whole{', and --resume goes on from there' if kept else ''}"
        # Closed before the detector and the writers are.
        found = stack.enter_context(
            closing(detector.stream(todo, keep_images=any(output.spec.wants_image for output in outputs)))
        )
        results = stack.enter_context(closing(run_steps(found, steps)))
        try:
            finished = run(
                results, writers, tally=tally, report=report, finishing=_say_finishing, max_errors=job.max_errors
            )
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


def _say_finishing(place: str) -> None:
    """Say what goes on once all images are done."""
    if not is_quiet():
        say(f"making {place} of what was found", err=True)


def _pop_options(ctx: click.Context, overrides: dict[str, Any]) -> dict[str, OptionValue]:
    """Take the options of plugins that were given out of those of the command."""
    if not isinstance(ctx.command, JobCommand):
        return {}
    given = {name: overrides.pop(name, None) for name in ctx.command.plugin_options(ctx)}
    return {name: value for name, value in given.items() if value is not None}


def _check_use(
    options: Mapping[str, OptionValue],
    outputs: Iterable[Output],
    items: Inputs,
    steps: Iterable[tuple[StepSpec, Step]],
    participants: Iterable[_Participant],
) -> None:
    """Refuse an option of nothing that takes part: it would do nothing, and nobody would notice."""
    from polyface.plugins.records import StepSpec

    known = [*participants]
    ends = [spec for spec in known if not isinstance(spec, StepSpec)]
    used: list[_Participant] = [*(output.spec for output in outputs), *items.specs]
    heeded = {option.name for spec in used for option in spec.options}
    # A step shares the options of sources and writers, and alone does nothing by them.
    shared = {option.name for spec in ends for option in spec.options}
    heeded |= {option.name for spec, _ in steps for option in spec.options} - shared
    for name in options.keys() - heeded:
        whose = [_name(spec) for spec in known if any(option.name == name for option in spec.options)]
        raise ConfigError(
            f"{flag(name)} would do nothing here.",
            why=[f"it is for {', '.join(whose)}, and nothing that was given selects that"],
            fix="leave it out",
        )


def _name(spec: _Participant) -> str:
    from polyface.plugins.records import SourceSpec, StepSpec

    if isinstance(spec, StepSpec):
        return f"the step '{spec.name}' ({', '.join(map(flag, spec.on))})"
    return f"the {'source' if isinstance(spec, SourceSpec) else 'writer'} '{spec.name}'"


def _outputs_of(
    job: Job, plugins: PluginManager, command: str, options: Mapping[str, OptionValue], *, needs_writer: bool
) -> list[Output]:
    from polyface.jobs.outputs import parse_outputs
    from polyface.plugins.records import WriterSpec

    outputs = parse_outputs(job.output, plugins, resume=job.resume, command=command, options=options)
    own = [spec for spec in plugins.all(WriterSpec) if command in spec.commands]
    if needs_writer and not any(output.spec in own for output in outputs):
        filled = [f"'{spec.name}'" for spec in own if spec.writes == "folder"]
        raise ConfigError(
            f"No output is a folder, which the writer {' or '.join(filled)} would fill.",
            why=[f"the writer '{spec.name}' makes files {', '.join(spec.endings)}" for spec in own if spec.endings],
            fix=Fix(settings={"output": f"{own[0].name}/"}),
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
