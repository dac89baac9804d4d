"""What a record's code requires, and loading it where that is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from polyface.errors import Reason, UnsupportedError
from polyface.machine.drivers import is_installed
from polyface.optional import install
from polyface.plugins.kinds import kind_of
from polyface.plugins.records import CommandSpec, Requirement, SourceSpec, WriterSpec


def missing(
    subject: str, requirements: Iterable[Requirement], installed: Callable[[str], bool] = is_installed
) -> list[Reason]:
    """Return one reason for each requirement that is not installed, each with the one command that installs all."""
    needs = [need for need in requirements if not installed(need.module)]
    fix = install(*(need.install for need in needs))
    return [Reason(subject=subject, why=f"{need.module} is not installed", fix=fix) for need in needs]


def load_code(record: WriterSpec | SourceSpec | CommandSpec) -> Any:
    """Return the code of a writer, a source or a command.

    Raises:
        UnsupportedError: something that it requires is not installed.
        ContractError: it cannot be imported.
    """
    kind = kind_of(type(record))
    name = f"{kind.label} '{record.name}'"
    if reasons := missing(name, record.requires):
        raise UnsupportedError(f"The {name} cannot be used here.", reasons)
    return kind.ref(record).load()
