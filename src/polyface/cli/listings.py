"""The commands that list what is installed and what can run here."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import click

from polyface.cli import COMMANDS
from polyface.cli.choices import find_named
from polyface.cli.options import SOURCE, config_options, in_options, json_option, pass_plugins
from polyface.cli.output import Command
from polyface.cli.tables import megabytes, print_fixes, print_json, print_notes, print_table, say
from polyface.errors import NO_FIX, PolyfaceError, Reason, WeightsNotFoundError, explain
from polyface.graphs.weights import Weights, path_of, select_weights
from polyface.plugins.kinds import KINDS, PREFIX
from polyface.plugins.manager import missing
from polyface.plugins.records import (
    BackendSpec,
    CommandSpec,
    DetectorSpec,
    FamilySpec,
    OptionSpec,
    WeightsFile,
    device_kind,
)
from polyface.plugins.records import as_json as record_as_json
from polyface.settings.config import Config
from polyface.settings.loading import load_config
from polyface.settings.record import part_as_text

if TYPE_CHECKING:
    from polyface.pipeline.detector import FaceDetector
    from polyface.plugins.manager import PluginInfo, PluginManager

PROBED = (480, 640)
"""Height and width of the noise on which a probe holds a precision against fp32."""

PROBES = 5
"""Calls of each, in turn."""


@click.command("plugins", cls=Command, short_help="Installed plugins, the broken among them.")
@json_option
@pass_plugins
def list_plugins(as_json: bool, plugins: PluginManager) -> None:
    """List the installed plugins: what each provides, and why a broken one does not."""
    if as_json:
        print_json([_plugin_as_json(info, plugins) for info in plugins.plugins])
        return
    print_notes(plugins)
    rows = [
        (
            info.name,
            f"{info.distribution} {info.version}".rstrip(),
            info.status,
            "\n".join(_describe_plugin(info, plugins)),
        )
        for info in plugins.plugins
    ]
    print_table("Plugins", ("Name", "Distribution", "Status", "Hooks, or why not"), rows)


def _describe_plugin(info: PluginInfo, plugins: PluginManager) -> list[str]:
    if info.error is not None:
        return [*info.error.why, f"To fix it: {in_options(info.error.fix)}"]
    if info.disabled:
        return ["by POLYFACE_PLUGINS or POLYFACE_DISABLE_PLUGINS"]
    lines = [
        f"{several}: {', '.join(names) or 'none'}"
        for several, names in _names(info).items()
        if names or f"{PREFIX}{several}" in info.hooks
    ]
    unreached = [f"command '{name}' is never reached: polyface has its own" for name in _unreached(info, plugins)]
    return [*lines, *info.clashes, *unreached] or ["none: it provides nothing"]


def _unreached(info: PluginInfo, plugins: PluginManager) -> list[str]:
    """The plugin's commands in whose place polyface runs its own; by ``distribution/name`` there is always a way."""
    taken = COMMANDS.keys() & plugins.by_name(CommandSpec).keys()
    return [record.name for record in info.provided(CommandSpec) if record.name in taken]


def _names(info: PluginInfo) -> dict[str, list[str]]:
    return {several: [record.name for record in info.provided(kind.record)] for several, kind in KINDS.items()}


def _plugin_as_json(info: PluginInfo, plugins: PluginManager) -> dict[str, object]:
    return {
        "name": info.name,
        "distribution": info.distribution,
        "version": info.version,
        "target": info.target,
        "hooks": list(info.hooks),
        **_names(info),
        "status": info.status,
        "error": None if info.error is None else str(info.error),
        "clashes": list(info.clashes),
        "unreached": _unreached(info, plugins),
    }


@click.command("detectors", cls=Command, short_help="Installed detectors, their weights, and families of ONNX files.")
@json_option
@pass_plugins
def list_detectors(as_json: bool, plugins: PluginManager) -> None:
    """List the installed detectors, with their landmarks, graph kinds and weights.

    Below them, the families that an ONNX file of your own may be of: --detector FILE --family NAME runs it.
    """
    print_notes(plugins)
    if as_json:
        kinds: dict[str, type[DetectorSpec | FamilySpec]] = {"detectors": DetectorSpec, "families": FamilySpec}
        print_json(
            {
                several: [{**record_as_json(spec), "name": name} for name, spec in plugins.by_name(kind).items()]
                for several, kind in kinds.items()
            }
        )
        return
    rows = [(name, "\n".join(_describe_detector(spec))) for name, spec in plugins.by_name(DetectorSpec).items()]
    print_table("Detectors", ("Name", "Description"), rows)
    rows = [
        (name, "\n".join([spec.summary, *_describe_options(spec.parameters)]))
        for name, spec in plugins.by_name(FamilySpec).items()
    ]
    if rows:
        print_table("Families of ONNX files", ("Name", "Description"), rows)


def _describe_detector(spec: DetectorSpec) -> list[str]:
    weights = [
        f"weights: {file.name}, {megabytes(file.size)}, licence {file.license}{', packaged' if file.ref else ''}"
        for file in spec.weights
    ]
    return [
        spec.summary,
        f"landmarks: {', '.join(spec.landmarks) or 'none'}",
        f"graphs: {', '.join(dict.fromkeys(graph.kind for graph in spec.graphs))}",
        *(weights or ["weights: none needed"]),
    ]


@click.command("backends", cls=Command, short_help="Installed backends, their devices and options.")
@json_option
@pass_plugins
def list_backends(as_json: bool, plugins: PluginManager) -> None:
    """List the installed backends: what each claims to run on, and its options for --backend-options."""
    print_notes(plugins)
    found = [(name, spec, missing(name, spec.requires)) for name, spec in plugins.by_name(BackendSpec).items()]
    if as_json:
        print_json([{**record_as_json(spec), "name": name, "missing": [r.why for r in m]} for name, spec, m in found])
        return
    rows = [(name, "\n".join(_describe_backend(spec, reasons))) for name, spec, reasons in found]
    print_table("Backends", ("Name", "Description"), rows)


def _describe_backend(spec: BackendSpec, reasons: Sequence[Reason]) -> list[str]:
    claims = [
        f"{capability.device} in {', '.join(capability.precisions)}"
        + (f", of {', '.join(capability.accepts)}" if capability.accepts else "")
        + (f" ({capability.note})" if capability.note else "")
        for capability in spec.capabilities
    ]
    return [
        spec.summary,
        *(f"MISSING: {reason.why}; to have it: {in_options(reason.fix)}" for reason in reasons),
        f"accepts: {', '.join(spec.accepts)}",
        f"claims: {'; '.join(claims)}",
        *_describe_options(spec.options),
    ]


def _describe_options(options: Iterable[OptionSpec]) -> Iterator[str]:
    for option in options:
        default = "" if option.default is None else f", default {part_as_text(option.default)}"
        yield f"option {option.name} ({option.type}{default}): {option.help}"


@click.command("weights", cls=Command, short_help="Weights of detectors: terms, and whether they are here and whole.")
@click.argument("detectors", nargs=-1, metavar="[DETECTOR]...")
@json_option
@pass_plugins
def list_weights(detectors: tuple[str, ...], as_json: bool, plugins: PluginManager) -> None:
    """List the weights of detectors, by default of all: size, licence, origin, and where they lie.

    Every file that is here is read: it is "verified" if its sha256 is the right one, else "damaged".
    """
    print_notes(plugins)
    chosen = {name: find_named(name, plugins) for name in detectors} or plugins.by_name(DetectorSpec)
    entries = [
        _weights_entry(attrs.evolve(select_weights(spec, file.name), detector=name), file)
        for name, spec in chosen.items()
        for file in spec.weights
    ]
    if as_json:
        print_json(entries)
        return
    rows = [(entry["detector"], entry["status"], "\n".join(_describe_weights(entry))) for entry in entries]
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


def _describe_weights(entry: Mapping[str, Any]) -> list[str]:
    missing = entry["status"] == "not fetched"
    where = "to be fetched to " if missing else "ships with the plugin, " if entry["ref"] else ""
    return [
        f"{entry['name']}, {megabytes(entry['size'])}",
        f"licence{', research only' if entry['research_only'] else ''}: {entry['license']}",
        f"origin: {entry['origin'] or 'not stated'}",
        f"{where}{entry['path']}",
    ]


@click.command("matrix", cls=Command, short_help="Which detector runs on which backend here.")
@config_options(["detector", "family", "family_options", "artifacts", "device", "precision"])
@click.option("--probe", is_flag=True, help="Build each pair and run it once, rather than read what is installed.")
@json_option
@pass_plugins
def show_matrix(config_file: str | None, probe: bool, as_json: bool, plugins: PluginManager, **overrides: Any) -> None:
    """Show which detector runs on which backend here, or why not and the command that mends it.

    Of all detectors that are installed, or of the one that --detector names, which may be an ONNX file.
    Without --probe nothing heavy is loaded: "ready" means that all that is needed is installed and at hand. What
    --backend auto would pick for a detector is marked, with the reason. --probe says also where another --precision is
    slower here than fp32, by a few runs of both, which for a large network take half a minute; `polyface tune`
    measures it on your images.
    """
    from polyface.graphs.families import drop_family, find_detector

    config = load_config(config_file, source=SOURCE, **overrides).replace(weights=None, backend_options={})
    detectors = [*plugins.by_name(DetectorSpec)]
    if config.sources.get("detector") == SOURCE:
        find_detector(config, plugins)  # what is wrong with it is wrong on every backend
        detectors = [config.detector]
    else:
        config = drop_family(config)
    print_notes(plugins)
    cells = []
    for detector in detectors:
        picked, why = _pick(config.replace(detector=detector, backend="auto"), plugins, probe)
        for backend in plugins.by_name(BackendSpec):
            cell = _cell(config.replace(detector=detector, backend=backend), plugins, probe)
            cells.append({**cell, "auto": why if backend == picked else ""})
    if as_json:
        print_json(cells)
        return
    how = "each built and run" if probe else "by what is installed"
    title = f"Detectors and backends, device {config.device}, precision {config.precision}, {how}"
    rows = [(cell["detector"], cell["backend"], cell["status"], _detail(cell)) for cell in cells]
    print_table(title, ("Detector", "Backend", "Status", "How, or why not"), rows)
    print_fixes((f"{cell['detector']} on {cell['backend']}", cell["fix"]) for cell in cells)


def _detail(cell: dict[str, str]) -> str:
    return cell["detail"] + (f"\nauto picks it: {cell['auto']}" if cell["auto"] else "")


def _cell(config: Config, plugins: PluginManager, probe: bool) -> dict[str, str]:
    """Whether a detector can run on a backend here, how, or why not and what mends it."""
    try:
        status, fix = "ready", NO_FIX
        detail = [_how(config, plugins, probe)]
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


def _how(config: Config, plugins: PluginManager, probe: bool) -> str:
    """How a detector is to run, by what is installed; for a probe, how it did run once."""
    import numpy as np

    from polyface.building import build, resolve
    from polyface.graphs.plan import plan

    if not probe:
        selection = plan(resolve(config, plugins)).first
        if selection.route.needs_weights:
            selection.weights.locate()
        return selection.route.description
    with build(config, plugins) as detector:
        detector.detect(np.zeros((64, 96, 3), np.uint8))
        run = detector.execution
        versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
        how = f"{run.device}, {run.precision}; {detector.route}; {versions}"
        return how + _slower_than_fp32(detector, plugins)


def _slower_than_fp32(detector: FaceDetector, plugins: PluginManager) -> str:
    """Say that a detector in another precision is slower than in fp32 on the same device, if it is; else nothing.

    What cannot run in fp32 is not held against it: the cell of fp32 says why.
    """
    import numpy as np

    from polyface.building import build
    from polyface.measure.rounds import is_slower, take_turns

    device, precision = detector.execution.device, detector.execution.precision
    if precision == "fp32":
        return ""
    try:
        with build(detector.config.replace(device=device, precision="fp32"), plugins) as plain:
            image = np.random.default_rng(0).integers(0, 256, (*PROBED, 3), np.uint8)
            calls = [functools.partial(one.raw_heads, [image]) for one in (detector, plain)]
            take_turns(calls, rounds=1)  # the first call at a shape compiles for it
            ours, theirs = take_turns(calls, rounds=PROBES)
    except Exception:  # noqa: BLE001 - whatever a stranger's code raises; the precision asked for did run
        return ""
    if not is_slower([their / our for our, their in zip(ours, theirs, strict=True)]):
        return ""
    took, plainly = (1000 * statistics.median(seconds) for seconds in (ours, theirs))
    size = "{}x{}".format(*PROBED)
    return f"\nslower than fp32: {took:.1f} ms against {plainly:.1f} ms for the network at {size}"
