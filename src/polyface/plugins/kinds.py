"""Every kind of record that a plugin can provide.

A new kind is a record in :mod:`polyface.plugins.records`, a hook in :mod:`polyface.plugins.hookspecs` and a row here:
the manager, ``polyface plugins`` and the conformance kit are made from this table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from attrs import frozen

from polyface.plugins.protocols import Backend, Converter, Head, Quantizer
from polyface.plugins.records import (
    BackendSpec,
    CommandSpec,
    ConverterSpec,
    DetectorSpec,
    FamilySpec,
    Ref,
    SourceSpec,
    StepSpec,
    WriterSpec,
)


class Record(Protocol):
    """What records of every kind have."""

    @property
    def name(self) -> str:
        """How users select it, or how it is listed."""


@frozen(kw_only=True)
class Kind:
    """One kind of record.

    Args:
        record: its class.
        label: what one is called in messages; see :data:`PREFIX` for what several are.
        selected: a user selects one by its name, so that two distributions that provide the same clash.
        ref: the field that names its code.
        gives: for a record, the class or protocol of what that code makes; ``None`` for code that must be given more
            than the record says.
        make: makes it.
        beside: the kind whose hook yields it as well; empty for one that has a hook of its own.
    """

    record: type[Any]
    label: str
    selected: bool = True
    ref: Callable[[Any], Ref] = lambda record: record.factory
    gives: Callable[[Any], type[Any]] | None = None
    make: Callable[[Any], Any] = lambda record: record.factory.load()()
    beside: str = ""


def _command_class(_: CommandSpec) -> type[Any]:
    import click  # here, since no detector needs it

    return click.Command


PREFIX = "polyface_"
"""What the name of a hook begins with; the rest says what several of its records are, such as ``detectors``."""

KINDS = {
    "detectors": Kind(
        record=DetectorSpec,
        label="detector",
        ref=lambda record: record.head,
        gives=lambda _: Head,
        make=lambda record: record.make_head(),
    ),
    "families": Kind(record=FamilySpec, label="family", ref=lambda record: record.describe, beside="detectors"),
    "backends": Kind(record=BackendSpec, label="backend", gives=lambda _: Backend),
    "converters": Kind(
        record=ConverterSpec,
        label="converter",
        selected=False,
        gives=lambda record: Quantizer if record.calibrated else Converter,
    ),
    "writers": Kind(record=WriterSpec, label="writer"),
    "sources": Kind(record=SourceSpec, label="source"),
    "steps": Kind(record=StepSpec, label="step"),
    "commands": Kind(
        record=CommandSpec,
        label="command",
        ref=lambda record: record.command,
        gives=_command_class,
        make=lambda record: record.command.load(),
    ),
}
"""Each kind by what several of its records are called."""

HOOKS = {
    f"{PREFIX}{several}": tuple(kind.record for name, kind in KINDS.items() if several in (name, kind.beside))
    for several, kind in KINDS.items()
    if not kind.beside
}
"""The classes of records that each hook yields."""


def kind_of(record: type[Any]) -> Kind:
    """Return the kind whose records are of this class."""
    return next(kind for kind in KINDS.values() if issubclass(record, kind.record))
