"""``polyface plugins``, ``detectors``, ``backends`` and ``weights``: what is installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import click

from polyface.cli.options import in_options, json_option, pass_plugins
from polyface.cli.output import Command
from polyface.cli.tables import megabytes, print_fixes, print_json, print_notes, print_table, say
from polyface.errors import NO_FIX, PolyfaceError, WeightsNotFoundError
from polyface.graphs.weights import Weights, path_of, select_weights
from polyface.plugins.kinds import KINDS, PREFIX
from polyface.plugins.manager import missing
from polyface.plugins.records import BackendSpec, DetectorSpec, WeightsFile
from polyface.plugins.records import as_json as record_as_json

if TYPE_CHECKING:
    from polyface.plugins.manager import PluginInfo, PluginManager


@click.command("plugins", cls=Command, short_help="Installed plugins, the broken among them.")
@json_option
@pass_plugins
def list_plugins(as_json: bool, plugins: PluginManager) -> None:
    """List the installed plugins: what each provides, and why a broken one does not."""
    if as_json:
        print_json([_plugin_as_json(info) for info in plugins.plugins])
        return
    print_notes(plugins)
    rows = [
        (info.name, f"{info.distribution} {info.version}".rstrip(), info.status, "\n".join(_describe_plugin(info)))
        for info in plugins.plugins
    ]
    print_table("Plugins", ("Name", "Distribution", "Status", "Hooks, or why not"), rows)


def _describe_plugin(info: PluginInfo) -> list[str]:
    if info.error is not None:
        return [*info.error.why, f"To fix it: {in_options(info.error.fix)}"]
    if info.disabled:
        return ["by POLYFACE_PLUGINS or POLYFACE_DISABLE_PLUGINS"]
    lines = [f"{hook.removeprefix(PREFIX)}: {', '.join(_names(info, hook)) or 'none'}" for hook in info.hooks]
    return [*lines, *info.clashes] or ["none: it provides nothing"]


def _names(info: PluginInfo, hook: str) -> list[str]:
    return [record.name for record in info.provided(KINDS[hook].record)]


def _plugin_as_json(info: PluginInfo) -> dict[str, object]:
    return {
        "name": info.name,
        "distribution": info.distribution,
        "version": info.version,
        "target": info.target,
        "hooks": list(info.hooks),
        **{hook.removeprefix(PREFIX): _names(info, hook) for hook in KINDS},
        "status": info.status,
        "error": None if info.error is None else str(info.error),
        "clashes": list(info.clashes),
    }


@click.command("detectors", cls=Command, short_help="Installed detectors and their weights.")
@json_option
@pass_plugins
def list_detectors(as_json: bool, plugins: PluginManager) -> None:
    """List the installed detectors, with their landmarks, graph kinds and weights."""
    print_notes(plugins)
    if as_json:
        print_json([{**record_as_json(spec), "name": name} for name, spec in plugins.by_name(DetectorSpec).items()])
        return
    rows = [(name, _describe_detector(spec)) for name, spec in plugins.by_name(DetectorSpec).items()]
    print_table("Detectors", ("Name", "Description"), rows)


def _describe_detector(spec: DetectorSpec) -> str:
    weights = [
        f"weights: {file.name}, {megabytes(file.size)}, licence {file.license}{', packaged' if file.ref else ''}"
        for file in spec.weights
    ]
    return "\n".join(
        [
            spec.summary,
            f"landmarks: {', '.join(spec.landmarks) or 'none'}",
            f"graphs: {', '.join(dict.fromkeys(graph.kind for graph in spec.graphs))}",
            *(weights or ["weights: none needed"]),
        ]
    )


@click.command("backends", cls=Command, short_help="Installed backends, their devices and options.")
@json_option
@pass_plugins
def list_backends(as_json: bool, plugins: PluginManager) -> None:
    """List the installed backends: what each claims to run on, and its options for --backend-options."""
    print_notes(plugins)
    if as_json:
        print_json(
            [
                {**record_as_json(spec), "name": name, "missing": [r.why for r in missing(name, spec.requires)]}
                for name, spec in plugins.by_name(BackendSpec).items()
            ]
        )
        return
    rows = [(name, _describe_backend(name, spec)) for name, spec in plugins.by_name(BackendSpec).items()]
    print_table("Backends", ("Name", "Description"), rows)


def _describe_backend(name: str, spec: BackendSpec) -> str:
    claims = [
        f"{capability.device} in {', '.join(capability.precisions)}"
        + (f", of {', '.join(capability.accepts)}" if capability.accepts else "")
        + (f" ({capability.note})" if capability.note else "")
        for capability in spec.capabilities
    ]
    return "\n".join(
        [
            spec.summary,
            *(
                f"MISSING: {reason.why}; to have it: {in_options(reason.fix)}"
                for reason in missing(name, spec.requires)
            ),
            f"accepts: {', '.join(spec.accepts)}",
            f"claims: {'; '.join(claims)}",
            *(f"option {option.name} ({option.type}): {option.help}" for option in spec.options),
        ]
    )


@click.command("weights", cls=Command, short_help="Weights of detectors: terms, and whether they are here and whole.")
@click.argument("detectors", nargs=-1, metavar="[DETECTOR]...")
@json_option
@pass_plugins
def list_weights(detectors: tuple[str, ...], as_json: bool, plugins: PluginManager) -> None:
    """List the weights of detectors, by default of all: size, licence, origin, and where they lie.

    Every file that is here is read: it is "verified" if its sha256 is the right one, else "damaged".
    """
    print_notes(plugins)
    chosen = {name: plugins.get(DetectorSpec, name) for name in detectors} or plugins.by_name(DetectorSpec)
    entries = [
        _weights_entry(attrs.evolve(select_weights(spec, file.name), detector=name), file)
        for name, spec in chosen.items()
        for file in spec.weights
    ]
    if as_json:
        print_json(entries)
        return
    rows = [(entry["detector"], entry["status"], _describe_weights(entry)) for entry in entries]
    print_table("Weights", ("Detector", "Status", "Weights"), rows)
    print_fixes((f"{entry['name']} of {entry['detector']}", entry["fix"]) for entry in entries)
    bare = [name for name, spec in chosen.items() if not spec.weights]
    if bare:
        say(f"No weights are needed for {', '.join(bare)}.")


def _weights_entry(weights: Weights, file: WeightsFile) -> dict[str, Any]:
    """What the record says of a file, whether it is here and whole, where, and what mends it where it is not."""
    path, fix = file.ref.target if file.ref else str(path_of(file)), NO_FIX
    try:
        status, path = "verified", str(weights.locate())
    except WeightsNotFoundError as error:
        status, fix = "not fetched", error.fix
    except PolyfaceError as error:  # another file than it should be, or gone from its package
        status, fix = "damaged", error.fix
    about = {"detector": weights.detector, **record_as_json(file)}
    return {**about, "status": status, "path": path, "fix": in_options(fix)}


def _describe_weights(entry: Mapping[str, Any]) -> str:
    missing = entry["status"] == "not fetched"
    where = "to be fetched to " if missing else "ships with the plugin, " if entry["ref"] else ""
    return "\n".join(
        [
            f"{entry['name']}, {megabytes(entry['size'])}",
            f"licence{', research only' if entry['research_only'] else ''}: {entry['license']}",
            f"origin: {entry['origin'] or 'not stated'}",
            f"{where}{entry['path']}",
        ]
    )
