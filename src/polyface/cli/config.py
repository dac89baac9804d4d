"""``polyface config``, which needs no plugins."""

from __future__ import annotations

from typing import Any

import attrs
import click

from polyface.cli.options import SOURCE, config_options, json_option
from polyface.cli.output import Command
from polyface.cli.tables import print_json, print_table
from polyface.graphs.families import settle
from polyface.settings.config import Config, Job
from polyface.settings.loading import SETTINGS_RECORDS, load
from polyface.settings.paths import is_file
from polyface.settings.record import as_text, settings


@click.command("config", cls=Command, short_help="Effective settings, and where each comes from.")
@config_options([key.name for key in settings(*SETTINGS_RECORDS) if key.name != "json"])
@json_option
def command(config_file: str | None, as_json: bool, **overrides: Any) -> None:
    """Show every setting's effective value and where it comes from.

    From weakest to strongest: default, polyface.toml, [tool.polyface] in pyproject.toml, POLYFACE_* in the environment,
    options. Of a detector that is an ONNX file, what mine.toml beside mine.onnx says is stronger than all but options.
    """
    config, job = load(Config, Job, path=config_file, source=SOURCE, overrides=overrides)
    shown = {
        name: {"value": value, "source": record.sources.get(name, "default")}
        for record in (settle(config) if is_file(config.detector) else config, job)
        for name, value in record.as_dict().items()
    }
    if as_json:
        print_json(shown)
        return
    entries = zip(settings(*SETTINGS_RECORDS), shown.values(), strict=True)
    rows = [(key.name, _show_value(key, entry["value"]), entry["source"]) for key, entry in entries]
    print_table("Settings", ("Setting", "Value", "Source"), rows, wraps="Value")


def _show_value(key: attrs.Attribute[Any], value: Any) -> str:
    unset = "the detector's" if key.name in ("weights", "score_threshold", "iou_threshold") else "none"
    return unset if value is None else as_text(key, value) or "none"
