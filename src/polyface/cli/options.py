"""Command-line options, made from the settings so that neither can lack what the other has."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from polyface.errors import Fix
from polyface.settings.loading import SETTINGS_RECORDS
from polyface.settings.record import as_text, describe, settings

if TYPE_CHECKING:
    from polyface.plugins.manager import PluginManager

F = TypeVar("F", bound=Callable[..., Any])

SOURCE = "option"
"""What a configuration error calls the command line."""


def flag(name: str) -> str:
    """Return the option that gives a setting."""
    return f"--{name.replace('_', '-')}"


def as_options(table: Mapping[str, Any]) -> str:
    """Return the options that give settings these values: ``--device cpu --no-clip``; ``None`` needs none."""
    keys = {key.name: key for key in settings(*SETTINGS_RECORDS)}
    words: list[str] = []
    for name, value in table.items():
        key = keys.get(name)  # none for `config`, an option that is no setting
        several = key is not None and key.metadata["repeat"] and not isinstance(value, str)
        if isinstance(value, bool):
            words.append(flag(name if value else f"no_{name}"))
        elif value is not None:
            for part in value if several else [value]:
                words += [flag(name), as_text(key, part)]
    return shlex.join(words)


def in_options(fix: Fix) -> str:
    """Return a fix as the command line writes it."""
    return fix.text(flag, as_options)


def config_options(names: Collection[str] | None = None) -> Callable[[F], F]:
    """Add ``--config`` and an option for each setting named (by default all), in the order of the settings."""
    help_of = {name: text for record in SETTINGS_RECORDS for name, text in describe(record).items()}

    def add(function: F) -> F:
        function = click.option("--config", "config_file", metavar="FILE", help="Configuration file to read.")(function)
        for key in reversed(settings(*SETTINGS_RECORDS)):
            name, about = flag(key.name), key.metadata
            kind: dict[str, Any] = {"metavar": about["wanted"], "multiple": about["repeat"]}
            if not about["wanted"]:
                name, kind = f"{name}/{flag(f'no_{key.name}')}", {"is_flag": True, "default": None}
            if names is None or key.name in names:
                text = re.sub(r"``(\w+)``", lambda named: flag(named[1]), help_of[key.name])
                kind |= {"help": text[:1].upper() + text[1:], "callback": _given}
                function = click.option(name, key.name, **kind)(function)
        return function

    return add


def _given(_ctx: click.Context, _parameter: click.Parameter, value: Any) -> Any:
    return None if value == () else value


json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")


def plugins_of(ctx: click.Context) -> PluginManager:
    """Return the plugins that the caller passed as click's ``obj``, or the installed ones."""
    from polyface.plugins.manager import PluginManager, installed_plugins

    return ctx.obj if isinstance(ctx.obj, PluginManager) else installed_plugins()


def pass_plugins(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the plugins as ``plugins``: see :func:`plugins_of`."""

    @click.pass_context
    def command(ctx: click.Context, *args: Any, **options: Any) -> Any:
        return function(*args, plugins=plugins_of(ctx), **options)

    return functools.update_wrapper(command, function)
