"""``polyface matrix``."""

from __future__ import annotations

from typing import Any

import click

from polyface.cli.options import SOURCE, config_options, in_options, json_option, pass_plugins
from polyface.cli.output import Command
from polyface.cli.tables import print_fixes, print_json, print_notes, print_table
from polyface.errors import NO_FIX, explain
from polyface.plugins.manager import PluginManager
from polyface.plugins.records import BackendSpec, DetectorSpec, device_kind
from polyface.settings.config import Config
from polyface.settings.loading import load_config


@click.command("matrix", cls=Command, short_help="Which detector runs on which backend here.")
@config_options(["artifacts", "device", "precision"])
@click.option("--probe", is_flag=True, help="Build each pair and run it once, rather than read what is installed.")
@json_option
@pass_plugins
def command(config_file: str | None, probe: bool, as_json: bool, plugins: PluginManager, **overrides: Any) -> None:
    """Show which detector runs on which backend here, or why not and the command that mends it.

    Without --probe nothing heavy is loaded: "ready" means that all that is needed is installed and at hand. What
    --backend auto would pick for a detector is marked, with the reason.
    """
    config = load_config(config_file, source=SOURCE, **overrides).replace(weights=None, backend_options={})
    print_notes(plugins)
    cells = []
    for detector in plugins.by_name(DetectorSpec):
        picked, why = _pick(config.replace(detector=detector, backend="auto"), plugins, probe)
        for backend in plugins.by_name(BackendSpec):
            cell = _cell(config.replace(detector=detector, backend=backend), plugins, probe)
            cells.append({**cell, "auto": why if backend == picked else ""})
    if as_json:
        print_json(cells)
        return
    columns = ("Detector", "Backend", "Status", "How, or why not")
    print_table(
        f"Detectors and backends, device {config.device}, precision {config.precision}"
        + (", each built and run" if probe else ", by what is installed"),
        columns,
        [(*(cell[name] for name in ("detector", "backend", "status")), _detail(cell)) for cell in cells],
    )
    print_fixes((f"{cell['detector']} on {cell['backend']}", cell["fix"]) for cell in cells)


def _detail(cell: dict[str, str]) -> str:
    return cell["detail"] + (f"\nauto picks it: {cell['auto']}" if cell["auto"] else "")


def _cell(config: Config, plugins: PluginManager, probe: bool) -> dict[str, str]:
    """Whether a detector can run on a backend here, how, or why not and what mends it."""
    try:
        status, fix = "ready", NO_FIX
        detail = [_run_once(config, plugins) if probe else _route(config, plugins)]
    except Exception as error:  # noqa: BLE001 - finding out how a stranger's code fails is what a probe is for
        status = "no"
        detail, fix = explain(error)
    # The backend's note on the device, or on every device it has where none is named.
    kind = device_kind(config.device)
    notes = {c.note for c in plugins.get(BackendSpec, config.backend).capabilities if kind in ("auto", c.device)}
    detail += [] if "" in notes else sorted(notes)
    name = {"detector": config.detector, "backend": config.backend}
    return {**name, "status": status, "detail": "\n".join(detail), "fix": in_options(fix)}


def _pick(config: Config, plugins: PluginManager, probe: bool) -> tuple[str, str]:
    """The backend that ``auto`` takes, by the name it is listed under, and why; nothing twice where it takes none."""
    from polyface.building import build, resolve
    from polyface.graphs.plan import plan

    try:
        if probe:
            with build(config, plugins) as detector:
                spec, device = detector.backend, detector.execution.device
        else:
            selection = plan(resolve(config, plugins)).first
            spec, device = selection.backend, selection.device
    except Exception:  # noqa: BLE001 - the cells say of each backend why it cannot run, whatever it raised
        return "", ""
    name = next(name for name, other in plugins.by_name(BackendSpec).items() if other is spec)
    kind = device_kind(device)
    driven = kind in {claim.device for claim in spec.capabilities if claim.driver}
    among = f"with {kind}, whose driver is here" if config.device == "auto" and driven else "that could run it"
    return name, f"of the backends {among}, it has the highest preference ({spec.preference})"


def _route(config: Config, plugins: PluginManager) -> str:
    from polyface.building import resolve
    from polyface.graphs.plan import plan

    selection = plan(resolve(config, plugins)).first
    if selection.route.needs_weights:
        selection.weights.locate()
    return selection.route.description


def _run_once(config: Config, plugins: PluginManager) -> str:
    import numpy as np

    from polyface.building import build

    with build(config, plugins) as detector:
        detector.detect(np.zeros((64, 96, 3), np.uint8))
        run = detector.execution
        versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
        return f"{run.device}, {run.precision}; {detector.route}; {versions}"
