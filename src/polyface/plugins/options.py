"""Options of a plugin, as its record declares them, checked before its code sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from polyface.errors import NO_FIX, ConfigError, Fix, nearest, quoted
from polyface.plugins.records import OptionSpec, OptionValue
from polyface.settings.config import Config
from polyface.settings.record import settings

if TYPE_CHECKING:
    from polyface.plugins.records import SourceSpec, StepSpec, WriterSpec


def check_options(
    owner: str, declared: Iterable[OptionSpec], given: Mapping[str, OptionValue], setting: str = "backend_options"
) -> dict[str, OptionValue | None]:
    """Return every option with its value or default.

    Args:
        owner: whose they are, for messages, such as ``"backend 'torch'"``.
        declared: by its record.
        given: by the user.
        setting: where they were given.

    Raises:
        ConfigError: there is no such option, or the value is wrong.
    """
    options = {option.name: option for option in declared}
    known = {key.name for key in settings(Config)}
    for name, value in given.items():
        if name not in options:
            raise ConfigError(
                f"The {owner} has no option {quoted(name)}{nearest(name, options) or '.'}",
                why=[f"its options: {', '.join(options) or 'none'}"],
                fix=Fix("set it by itself, for every backend, as", names=(name,)) if name in known else NO_FIX,
            )
        problem = options[name].problem(value)
        if problem:
            raise ConfigError(f"{setting}: {name} {problem}.", why=[options[name].help])
    return {name: given.get(name, option.default) for name, option in options.items()}


def own_options(spec: SourceSpec | StepSpec | WriterSpec, given: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    """Return of the options of a job those that a record has."""
    return {option.name: given[option.name] for option in spec.options if option.name in given}
