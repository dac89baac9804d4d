"""Finding plugins, and surviving them.

pluggy's own entry-point loader stops at the first plugin that raises, and leaves it half registered. Plugins are other
people's code, so this loader guards every step: a plugin that fails is kept with its error, provides nothing, and
disturbs no other.
"""

from __future__ import annotations

import functools
import importlib.metadata
import itertools
import os
import shlex
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pluggy
from attrs import field, frozen

from polyface.errors import (
    AmbiguousNameError,
    ConfigError,
    ContractError,
    Fix,
    PluginError,
    Reason,
    UnknownNameError,
    UnsupportedError,
    described,
    nearest,
    quoted,
)
from polyface.machine.drivers import is_installed
from polyface.optional import install
from polyface.plugins import hookspecs
from polyface.plugins.kinds import HOOKS, Record, kind_of
from polyface.plugins.records import CommandSpec, Requirement, SourceSpec, StepSpec, WriterSpec
from polyface.settings.values import read_flag

T = TypeVar("T", bound=Record)

CORE = "polyface"
"""Core's own distribution, whose writers and sources are there whatever plugins are chosen."""

UNKNOWN = "unknown"


@frozen(kw_only=True)
class PluginInfo:
    """What became of one plugin.

    Args:
        name: its entry point's name.
        distribution: the installed package it came with.
        version: that package's.
        target: what the entry point names.
        hooks: the hooks it implements.
        records: what it provides.
        error: why it provides nothing.
        disabled: left out by ``POLYFACE_PLUGINS`` or ``POLYFACE_DISABLE_PLUGINS``.
        clashes: names it shares with another distribution, one line each.
    """

    name: str
    distribution: str
    version: str = ""
    target: str = ""
    hooks: tuple[str, ...] = ()
    records: tuple[Record, ...] = ()
    error: PluginError | None = field(default=None, eq=False)
    disabled: bool = False
    clashes: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """``"ok"``, ``"failed"``, ``"disabled"`` or ``"clash"``."""
        if self.disabled:
            return "disabled"
        if self.error is not None:
            return "failed"
        return "clash" if self.clashes else "ok"

    def provided(self, kind: type[T]) -> tuple[T, ...]:
        """Return the records of one class."""
        return tuple(record for record in self.records if isinstance(record, kind))


class PluginManager:
    """The plugins of a process, and lookup of what they provide by name."""

    def __init__(self) -> None:
        self._pluggy = pluggy.PluginManager(hookspecs.GROUP)
        self._pluggy.add_hookspecs(hookspecs)
        self._infos: list[PluginInfo] = []

    @classmethod
    def discover(cls, environ: Mapping[str, str] | None = None) -> PluginManager:
        """Load every plugin installed with an entry point in the group ``polyface``.

        ``POLYFACE_PLUGINS=a,b`` loads only these, ``POLYFACE_DISABLE_PLUGINS=a,b`` all but these (each an entry point's
        or a distribution's name), and ``POLYFACE_STRICT_PLUGINS=1`` raises the first failure instead of keeping it.

        Raises:
            ConfigError: one of these names a plugin that is not installed, or the last says neither yes nor no.
            PluginError: a plugin failed, in strict mode.
        """
        environ = os.environ if environ is None else environ
        manager = cls()
        strict = read_flag("POLYFACE_STRICT_PLUGINS", environ)
        found = sorted(_found(), key=lambda pair: (pair[0].distribution, pair[0].name))
        names = {name for info, _ in found for name in (info.name, info.distribution)}
        only = _listed("POLYFACE_PLUGINS", environ, names)
        without = _listed("POLYFACE_DISABLE_PLUGINS", environ, names)
        for info, load in found:
            own = {info.name, info.distribution}
            if own & without or (only and info.distribution != CORE and not own & only):
                manager._infos.append(attrs.evolve(info, disabled=True))
                continue
            manager._add(info, load, strict=strict)
        return manager

    def register(self, plugin: object, *, name: str, distribution: str = "local") -> None:
        """Add a module or object with hook implementations, without an entry point.

        Raises:
            PluginError: it does not load, or breaks the contract.
        """
        self._add(PluginInfo(name=name, distribution=distribution, target=repr(plugin)), lambda: plugin, strict=True)

    def _add(self, info: PluginInfo, load: Callable[[], object], *, strict: bool) -> None:
        """Load one plugin and take its records; whatever goes wrong is kept, and raised if it is to be strict."""
        label = f"{info.distribution}:{info.name}"
        plugin = None
        try:
            plugin = load()
            hooks = self._hooks_of(plugin)
            self._pluggy.register(plugin, name=label)
            records = tuple(record for hook in hooks for record in _records_of(plugin, hook))
            self._check_names(info, records)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a stranger's code may raise anything: SystemExit, a Rust panic
            if plugin is not None and self._pluggy.get_plugin(label) is plugin:
                self._pluggy.unregister(name=label)
            failure = _failure(info, error)
            self._infos.append(attrs.evolve(info, error=failure))
            if strict:
                raise failure from error
            return
        self._infos.append(attrs.evolve(info, hooks=hooks, records=records))

    def _hooks_of(self, plugin: object) -> tuple[str, ...]:
        """The hooks the plugin implements; a name that is almost a hook is an error, not a plugin without hooks."""
        hooks = []
        for name in dir(plugin):
            marked = self._pluggy.parse_hookimpl_opts(plugin, name) is not None
            if marked and name not in HOOKS:
                raise ContractError(
                    f"{quoted(name)} is no hook of polyface{nearest(name, HOOKS) or '.'}",
                    why=[f"the hooks: {', '.join(HOOKS)}"],
                )
            if name in HOOKS and not marked:
                raise ContractError(
                    f"'{name}' is not marked as a hook implementation.", fix=f"put @polyface.hookimpl above def {name}"
                )
            if marked:
                hooks.append(name)
        return tuple(hooks)

    def _check_names(self, info: PluginInfo, records: Iterable[Record]) -> None:
        """One distribution may not provide a name twice: nothing could tell the two apart."""
        provided = [other.records for other in self._infos if other.distribution == info.distribution]
        names = [(type(record), record.name) for record in itertools.chain(*provided, records)]
        for kind, name in names:
            if names.count((kind, name)) > 1:
                raise ContractError(f"{info.distribution} provides '{name}' twice.")

    @property
    def plugins(self) -> tuple[PluginInfo, ...]:
        """Every plugin found, in the order of distribution and name, the broken and the disabled among them."""
        return tuple(attrs.evolve(info, clashes=self._clashes(info)) for info in self._infos)

    def _clashes(self, info: PluginInfo) -> tuple[str, ...]:
        lines = []
        for record in info.records:
            kind, provided = kind_of(type(record)), self._provided(type(record))
            others = [owner for owner, r in provided if owner != info.distribution and r.name == record.name]
            if others and kind.selected:
                lines.append(f"{kind.label} '{record.name}' is also provided by {', '.join(others)}")
        return tuple(lines)

    def all(self, kind: type[T]) -> tuple[T, ...]:
        """Return the records of a class, in the order of the plugins, which is that in which converters are tried."""
        return tuple(record for _, record in self._provided(kind))

    def by_name(self, kind: type[T]) -> dict[str, T]:
        """Return the records of a class by the name that selects each, sorted.

        Where a bare name is ambiguous, that is ``distribution/name``.
        """
        provided = sorted(self._provided(kind), key=lambda pair: (pair[1].name, pair[0]))
        names = [record.name for _, record in provided]
        return {
            record.name if names.count(record.name) == 1 else f"{distribution}/{record.name}": record
            for distribution, record in provided
        }

    def by_claim(self, kind: type[T], strength: Callable[[T], int]) -> T | None:
        """Return the record with the strongest claim on something; of equals core's own.

        Args:
            kind: the class of the records.
            strength: of a record's claim; 0 for none.

        Raises:
            AmbiguousNameError: two plugins claim it alike.
        """
        claims = [((strength(record), owner == CORE), owner, record) for owner, record in self._provided(kind)]
        claims = [claim for claim in claims if claim[0][0] > 0]
        strongest = [claim for claim in claims if claim[0] == max(claim[0] for claim in claims)]
        if len(strongest) > 1:
            raise AmbiguousNameError(
                "Several plugins would take it.",
                why=[f"{kind_of(kind).label} '{record.name}' of {owner}" for _, owner, record in strongest],
                fix="set POLYFACE_DISABLE_PLUGINS to leave one out",
            )
        return strongest[0][2] if strongest else None

    def get(self, kind: type[T], name: str) -> T:
        """Return the record of a class that ``name`` or ``distribution/name`` selects.

        Raises:
            UnknownNameError: nobody provides it.
            AmbiguousNameError: two distributions do.
        """
        what = kind_of(kind).label
        matches = [pair for pair in self._provided(kind) if name in (pair[1].name, f"{pair[0]}/{pair[1].name}")]
        if len(matches) == 1:
            return matches[0][1]
        if matches:
            owners = [distribution for distribution, _ in matches]
            raise AmbiguousNameError(
                f"The {what} name {quoted(name)} is ambiguous.",
                why=[f"'{name}' provided by: {', '.join(owners)}"],
                fix=f"name one of {', '.join(f'{owner}/{name}' for owner in owners)}",
            )
        known = list(self.by_name(kind))
        suspects: list[PluginInfo] = [info for info in self._infos if info.status != "ok"]
        enable = Fix("let POLYFACE_PLUGINS and POLYFACE_DISABLE_PLUGINS leave out none that has it")
        raise UnknownNameError(
            f"There is no {what} named {quoted(name)}{nearest(name, known) or '.'}",
            why=[
                f"available: {', '.join(known) or 'none'}",
                *(f"plugin '{i.name}' of {i.distribution}, which may provide it: {i.status}" for i in suspects),
            ],
            fix=Fix("see what is installed and what failed", command="polyface plugins")
            | (enable if any(info.disabled for info in suspects) else install("PLUGIN")),
        )

    def owner_of(self, record: Record) -> str:
        """Return the distribution that provides a record."""
        return next(info.distribution for info in self._infos if any(one is record for one in info.records))

    def _provided(self, kind: type[T]) -> list[tuple[str, T]]:
        return [(info.distribution, record) for info in self._infos for record in info.provided(kind)]


@functools.cache
def installed_plugins() -> PluginManager:
    """The process's plugins, discovered once."""
    return PluginManager.discover()


def missing(
    subject: str, requirements: Iterable[Requirement], installed: Callable[[str], bool] = is_installed
) -> list[Reason]:
    """Return one reason for each requirement that is not installed, each with the one command that installs all."""
    needs = [need for need in requirements if not installed(need.module)]
    fix = install(*(need.install for need in needs))
    return [Reason(subject=subject, why=f"{need.module} is not installed", fix=fix) for need in needs]


def load_code(record: WriterSpec | SourceSpec | StepSpec | CommandSpec) -> Any:
    """Return the code of a writer, a source, a step or a command.

    Raises:
        UnsupportedError: something that it requires is not installed.
        ContractError: it cannot be imported.
    """
    kind = kind_of(type(record))
    name = f"{kind.label} '{record.name}'"
    if reasons := missing(name, record.requires):
        raise UnsupportedError(f"The {name} cannot be used here.", reasons)
    return kind.ref(record).load()


def _found() -> Iterator[tuple[PluginInfo, Callable[[], object]]]:
    """Yield every entry point of the group with what loads it, one distribution at a time.

    ``importlib.metadata.entry_points`` would raise for all when one ``entry_points.txt`` is damaged, whoever's it is.
    """
    seen: set[tuple[str, str]] = set()
    for distribution in importlib.metadata.distributions():
        try:
            points = [(p.name, p.value, p.load) for p in distribution.entry_points.select(group=hookspecs.GROUP)]
        except Exception as error:  # noqa: BLE001 - anything may stand in the file
            where = str(getattr(distribution, "_path", ""))
            points = [("entry_points.txt", where, functools.partial(_raise, error, where))]
        if points:
            owner, version = _owner(distribution)
            # The first distribution of a name on the path hides the others, as it does for imports.
            fresh = [point for point in points if (owner, point[0]) not in seen or owner == UNKNOWN]
            for name, target, load in fresh:
                yield PluginInfo(name=name, distribution=owner, version=version, target=target), load
            seen.update((owner, name) for name, _, _ in points)


def _raise(error: Exception, where: str) -> object:
    raise PluginError(f"entry_points.txt in {where} cannot be read: {described(error)}") from error


def _owner(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    """Name and version of a distribution; an installation cut short leaves one without metadata."""
    metadata: Any = getattr(distribution, "metadata", None) or {}
    return metadata.get("Name") or UNKNOWN, metadata.get("Version") or ""


def _records_of(plugin: object, hook: str) -> tuple[Any, ...]:
    """Call one plugin's implementation of one hook, to the end, and check what it gives."""
    wanted = f"{hook} must yield {' or '.join(kind.__name__ for kind in HOOKS[hook])} records"
    given = getattr(plugin, hook)()
    if not isinstance(given, Iterable):
        raise ContractError(f"{wanted}, not return {quoted(given)}.")
    records = tuple(given)
    for record in records:
        if not isinstance(record, HOOKS[hook]):
            raise ContractError(f"{wanted}, not {quoted(record)}.")
    return records


def _listed(variable: str, environ: Mapping[str, str], names: Iterable[str]) -> set[str]:
    """The plugins that a variable lists, each of which must be one of ``names``."""
    listed = {name.strip() for name in environ.get(variable, "").split(",")} - {""}
    for name in sorted(listed.difference(names)):
        raise ConfigError(
            f"{variable} names {quoted(name)}, which is not installed{nearest(name, names) or '.'}",
            why=[f"installed: {', '.join(sorted(names)) or 'no plugins'}"],
        )
    return listed


def _failure(info: PluginInfo, error: BaseException) -> PluginError:
    """The error to keep for a plugin: what was raised, where, and how to go on without it."""
    kind = ContractError if isinstance(error, ContractError) else PluginError
    if isinstance(error, ContractError):
        why = [error.what, *error.why, *([str(error.fix)] if error.fix else [])]
    else:
        frames = traceback.extract_tb(error.__traceback__)
        where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
        why = [f"{described(error)}{where}"]
    failure = kind(
        f"The plugin '{info.name}' of {info.distribution} {info.version}".rstrip() + " could not be loaded.",
        why=why,
        fix=f"mend or `pip uninstall {shlex.quote(info.distribution)}`, "
        f"or set POLYFACE_DISABLE_PLUGINS={shlex.quote(info.name)}",
    )
    failure.__cause__ = error
    return failure
