"""Command-line options, made from the settings so that neither can lack what the other has."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from polyface.settings.loading import SETTINGS_RECORDS
from polyface.settings.record import settings

F = TypeVar("F", bound=Callable[..., Any])

SOURCE = "option"
"""What a configuration error calls the command line."""


def config_options(names: Iterable[str] | None = None) -> Callable[[F], F]:
    """Add ``--config`` and an option for each setting named (by default all), in the order of the settings."""
    wanted = None if names is None else set(names)

    def add(function: F) -> F:
        function = click.option("--config", "config_file", metavar="FILE", help="Configuration file to read.")(function)
        for key in reversed(settings(*SETTINGS_RECORDS)):
            if wanted is not None and key.name not in wanted:
                continue
            flag = f"--{key.name.replace('_', '-')}"
            if not key.metadata["wanted"]:
                option = click.option(
                    f"{flag}/--no-{flag[2:]}", key.name, is_flag=True, default=None, help=key.metadata["help"]
                )
            else:
                option = click.option(
                    flag,
                    key.name,
                    metavar=key.metadata["wanted"],
                    help=key.metadata["help"],
                    multiple=key.metadata["repeat"],
                    callback=lambda _ctx, _parameter, value: None if value == () else value,
                )
            function = option(function)
        return function

    return add


json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")


def pass_plugins(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the plugins as ``plugins``: those that the caller passed as click's ``obj``, or the installed."""

    @click.pass_context
    def command(ctx: click.Context, *args: Any, **options: Any) -> Any:
        from polyface.plugins.manager import installed_plugins

        return function(*args, plugins=installed_plugins() if ctx.obj is None else ctx.obj, **options)

    return functools.update_wrapper(command, function)
