"""What a job writes: the writers that ``--output`` selects."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
from attrs import field, frozen

from polyface.errors import ConfigError, Fix, nearest, plugin_errors, quoted
from polyface.jobs.inputs import longest
from polyface.plugins.manager import CORE, PluginManager, load_code
from polyface.plugins.options import check_options, own_options
from polyface.plugins.protocols import Resumable, Writer
from polyface.plugins.records import OptionValue, WriterSpec
from polyface.settings.paths import resolve_path, split_output
from polyface.storage.places import JOURNAL, OTHER_OUTPUT, Place, find_results

LOG = logging.getLogger(__name__)

LINES = f"{CORE}/jsonl", "faces.jsonl"
"""The writer that every folder gets as well, and its file there."""


@frozen(kw_only=True)
class Output:
    """A place and what writes there.

    Args:
        given: as the user named it.
        path: the file or the folder, absolute.
        spec: the record of the writer.
        options: of the writer; those that are left out have their defaults.
        implied: whether it comes with a folder; it gives way to what the user named at that place.
    """

    given: str
    path: Path
    spec: WriterSpec
    options: Mapping[str, OptionValue] = field(factory=dict)
    implied: bool = False

    @contextlib.contextmanager
    def open(self) -> Iterator[Writer]:
        """Open the writer, and close it in the end.

        Raises:
            ConfigError: the place cannot be written to, another process writes there, the writer cannot go on with what
                a run before wrote, or an option is wrong.
            UnsupportedError: the writer requires something that is not installed.
            PluginError: the writer's own code fails.
        """
        found = self.results
        options = check_options(f"writer '{self.spec.name}'", self.spec.options, self.options, self.spec.name)
        with contextlib.ExitStack() as stack:
            try:
                place = stack.enter_context(Place(self.path, folder=self.spec.writes == "folder"))
                if not place.locked:
                    LOG.warning("%s lies where no file can be locked; one run at a time!", self.given)
                self._refuse_others()
                with plugin_errors(*self._failed("start"), but=(OSError,)):
                    writer: Writer = load_code(self.spec)(place, **options)
            except OSError as error:
                raise ConfigError(
                    f"The output {self.given} cannot be written to.", why=[str(error)], fix=OTHER_OUTPUT
                ) from error
            try:
                if found and not isinstance(writer, Resumable):
                    what = f"The writer '{self.spec.name}' cannot go on with what a run before wrote: {found}."
                    raise ConfigError(what, fix=OTHER_OUTPUT)
                yield writer
            except BaseException:
                with contextlib.suppress(Exception):  # what ended the job is what the user wants to know
                    writer.close()
                raise
            try:
                with plugin_errors(*self._failed("finish"), but=(OSError,)):
                    writer.close()
            except OSError as error:
                raise ConfigError(
                    f"The output {self.given} cannot be finished.",
                    why=[str(error), "what was found is kept"],
                    fix=Fix("mend that, and run it again", settings={"resume": True}),
                ) from error

    @property
    def results(self) -> Path | None:
        """The file that holds the results of a run before; ``None`` where there are none, and of a folder."""
        return None if self.spec.writes == "folder" else find_results(self.path)

    def _refuse_others(self) -> None:
        """Refuse a folder that another writer filled: its images would count as done."""
        if not self.spec.makes:
            return
        lines = self.path / LINES[1]
        try:
            with lines.open("rb") as stream:
                first = json.loads(stream.readline())
        except (OSError, ValueError, RecursionError):
            return  # there is none yet, or it is not of polyface, as its own writer says
        if isinstance(first, dict) and {"image", "faces", "error"} <= first.keys() and self.spec.makes not in first:
            raise ConfigError(
                f"{self.given} was not filled by the writer '{self.spec.name}'.",
                why=[f"the lines of {lines} do not say '{self.spec.makes}'"],
                fix=OTHER_OUTPUT,
            )

    def _failed(self, what: str) -> tuple[str, Fix]:
        return f"The writer '{self.spec.name}' failed to {what}.", Fix("mend its plugin") | OTHER_OUTPUT


def parse_outputs(
    outputs: Sequence[str],
    plugins: PluginManager,
    *,
    resume: bool = False,
    command: str = "detect",
    options: Mapping[str, OptionValue] | None = None,
) -> list[Output]:
    """Return what is written where: writers that fill folders first, so that what they make is in the others' lines.

    An output is a file whose ending selects its writer, ``WRITER:PATH``, or a folder, which gets what the command's
    writer of folders makes: of ``detect`` the images with their faces drawn. A folder gets ``faces.jsonl`` as well,
    which says what in it is of which image, whether its writer is named or not.

    Args:
        outputs: as of ``--output``.
        plugins: where the writers are looked up.
        resume: go on with what a run before wrote; otherwise there must be nothing.
        command: the one that asks: endings and folders select the writers that are for it.
        options: of these writers; each gets those that it has.

    Raises:
        ConfigError: no writer takes such a file or fills folders, two write to one place, there can be no such path,
            one has the results of a run before, or none would tell with what to go on.
        UnknownNameError: there is no writer of that name.
        AmbiguousNameError: two plugins have that name, or make files of that ending.
    """
    parsed = [output for text in outputs for output in _parse(text, plugins, command)]
    named = {output.path for output in parsed if not output.implied}
    found = [output for output in parsed if not (output.implied and output.path in named)]
    found = [
        attrs.evolve(one, options=own_options(one.spec, options or {})) if one.spec.is_for(command) else one
        for one in found
    ]
    for output in found:
        if [other.path for other in found].count(output.path) > 1:
            raise ConfigError(f"Two outputs write to {output.path}.", fix="name each place once")
        if not resume and output.results:
            fix = Fix("to go on with them", settings={"resume": True}) | OTHER_OUTPUT
            raise ConfigError(f"{output.results} has the results of a run before.", fix=fix)
    if resume and not found:
        raise ConfigError(
            "There is nothing to resume.",
            why=["a file of results says what a run before has done, and no output is one"],
            fix=Fix("add one", settings={"output": "jsonl:faces.jsonl"}),
        )
    return sorted(found, key=lambda output: output.spec.writes != "folder")


def _parse(text: str, plugins: PluginManager, command: str) -> Iterator[Output]:
    name, path = split_output(text)
    if path.endswith(JOURNAL):
        raise ConfigError(f"{quoted(text)} ends as the journal of an output does.", fix=OTHER_OUTPUT)
    if not path:
        raise ConfigError(f"{quoted(text)} names no output.", why=["is a variable of the shell unset?"])
    whole = resolve_path(path if name else text)
    folder = whole.is_dir() or text.endswith(("/", os.sep)) or not whole.suffix
    if name or folder:
        writer = plugins.get(WriterSpec, name) if name else _filler(text, plugins, command)
        yield Output(given=text, path=whole, spec=writer)
        if writer.writes == "folder":
            yield Output(given=text, path=whole / LINES[1], spec=plugins.get(WriterSpec, LINES[0]), implied=True)
        return
    file = whole.name.lower()
    spec = plugins.by_claim(WriterSpec, lambda spec: spec.is_for(command) and longest(spec.endings, file.endswith))
    if spec is None:
        known = sorted(end for spec in plugins.all(WriterSpec) if spec.is_for(command) for end in spec.endings)
        raise ConfigError(
            f"No writer makes a file {quoted(whole.suffix)}{nearest(whole.suffix, known) or '.'}",
            why=[f"the endings: {', '.join(known)}"],
            fix=Fix("for a folder of that name", settings={"output": f"{text}/"}),
        )
    yield Output(given=text, path=whole, spec=spec)


def _filler(text: str, plugins: PluginManager, command: str) -> WriterSpec:
    """The writer that fills folders for a command."""
    spec = plugins.by_claim(WriterSpec, lambda spec: spec.writes == "folder" and command in spec.commands)
    if spec is None:
        named = Fix("name a writer", settings={"output": f"images:{text}"})
        raise ConfigError(f"No writer fills folders for 'polyface {command}'.", fix=named)
    return spec
