"""``polyface config``."""

from __future__ import annotations

from typing import Any

import click

from polyface.cli.options import SOURCE, config_options, json_option
from polyface.cli.output import Command
from polyface.cli.tables import print_json, print_table
from polyface.settings.config import load_config, settings


@click.command("config", cls=Command, short_help="Effective settings, and where each comes from.")
@config_options([key.name for key in settings() if key.name != "json"])
@json_option
def command(config_file: str | None, as_json: bool, **overrides: Any) -> None:
    """Show every setting's effective value and where it comes from.

    From weakest to strongest: default, polyface.toml, [tool.polyface] in pyproject.toml, POLYFACE_* in the environment,
    options.
    """
    config = load_config(config_file, source=SOURCE, **overrides)
    values = config.as_dict()
    sources = {name: config.sources.get(name, "default") for name in values}
    if as_json:
        print_json({name: {"value": values[name], "source": sources[name]} for name in values})
        return
    print_table(
        "Settings",
        ("Setting", "Value", "Source"),
        [(name, _shown(name, value), sources[name]) for name, value in values.items()],
        wraps="Value",
    )


def _shown(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} = {item}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return ("x" if name == "infer_size" else ",").join(f"{item:g}" for item in value)
    unset = "the detector's" if name in ("weights", "score_threshold", "iou_threshold") else "none"
    return unset if value is None else str(value).lower() if isinstance(value, bool) else str(value)
