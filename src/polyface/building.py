"""From settings to a detector, in four steps: resolve, plan, load and open. Nothing else knows all four.

Each step takes a record and returns the next. What a step refuses is an error with its reasons; only ``"auto"`` lets
the next choice come.
"""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any, TypeVar, Unpack, cast

import attrs
from attrs import frozen

from polyface.errors import (
    BackendUnavailableError,
    ContractError,
    Fix,
    PluginError,
    described,
    plugin_errors,
)
from polyface.graphs.artifacts import open_store
from polyface.graphs.families import settle
from polyface.graphs.plan import Names, Plan, Refusal, Selection, plan, refusal, select_device
from polyface.graphs.resolve import load_graph, open_planner
from polyface.images.geometry import settle_size
from polyface.machine import gate
from polyface.machine.cores import default_threads
from polyface.pipeline.batching import in_batches
from polyface.pipeline.detector import FaceDetector
from polyface.pipeline.presets import select_strategy
from polyface.pipeline.stages import OTHER_BACKEND, Network
from polyface.plugins.manager import PluginManager, installed_plugins
from polyface.plugins.options import check_options
from polyface.plugins.protocols import Backend, CompileRequest, DeviceReport, Head
from polyface.plugins.records import BackendSpec, DetectorSpec, FamilySpec, Ref
from polyface.settings.config import Config
from polyface.settings.keywords import AllSettings, Settings
from polyface.settings.loading import load_config

LOG = logging.getLogger(__name__)

P = TypeVar("P")


@frozen(kw_only=True)
class Loaded:
    """A backend that is loaded, and the device it grants; ``owner`` as in :class:`polyface.graphs.plan.Names`."""

    config: Config
    selection: Selection
    backend: Backend
    device: str
    owner: str


def create_detector(
    detector: str | None = None,
    *,
    config: Config | str | Path | None = None,
    plugins: PluginManager | None = None,
    **settings: Unpack[Settings],
) -> FaceDetector:
    """Build a detector by name, or from an ONNX file.

    Args:
        detector: such as ``"retinaface-mobilenet025"``; see :func:`available_detectors`. Or the path of an ONNX file,
            whose ``family`` says how its raw heads are read.
        config: a configuration file to read instead of the one found from the current folder upwards, or a
            :class:`Config`, which is then used as it stands.
        plugins: where names are looked up; the installed plugins by default.
        **settings: any setting of :class:`Config`, such as ``backend="onnxruntime"``; stronger than the configuration.

    Raises:
        ConfigError: a setting is unknown or wrong.
        UnknownNameError: no plugin provides that detector or backend; ``AmbiguousNameError`` if two do.
        UnsupportedError: the backend cannot run that detector as asked; says why for every way that was tried.
        BackendUnavailableError: the device or precision cannot be had here.
        WeightsError: the weights are missing or damaged.
    """
    given = cast("AllSettings", settings)
    if detector is not None:
        given["detector"] = detector
    return build(config.replace(**given) if isinstance(config, Config) else load_config(config, **given), plugins)


def available_detectors() -> list[str]:
    """Return the names of the installed detectors, sorted."""
    return list(installed_plugins().by_name(DetectorSpec))


def available_backends() -> list[str]:
    """Return the names of the installed backends, sorted. Being installed is a claim; ``polyface matrix`` checks it."""
    return list(installed_plugins().by_name(BackendSpec))


def build(config: Config, plugins: PluginManager | None = None) -> FaceDetector:
    """Build the detector that ``config`` describes, by default from the plugins installed here.

    Raises as :func:`create_detector` does.

    With ``backend="auto"`` a backend that does not load here, or lacks the device or precision, is passed over. With
    ``device="auto"`` as well, a device with a driver of its own, such as a GPU, is looked for on every backend before
    the processor is taken; where there is no driver, that costs nothing.
    """
    return open_detector(load(plan(resolve(config, installed_plugins() if plugins is None else plugins))))


def build_for_many(config: Config, plugins: PluginManager) -> FaceDetector:
    """Build the detector as :func:`build` does, with the ``runs`` that are best for many images, unless they are set.

    On a processor of two cores, two networks on one thread each take a folder faster than one on both.
    """
    loaded = load(plan(resolve(config, plugins)))
    if loaded.config.runs is None and loaded.device == "cpu":
        threads = loaded.config.threads or default_threads()
        loaded = attrs.evolve(loaded, config=loaded.config.replace(runs=min(2, threads)))
    return open_detector(loaded)


def rebuild(config: Config, own_sha256: str) -> FaceDetector:
    """Build a detector that was pickled; as it was, whatever a file beside its own says by now.

    Args:
        config: its settings, those of the file beside among them.
        own_sha256: of the user's own file, or empty.

    Raises:
        WeightsMismatchError: the file is another here.
        PolyfaceError: as :func:`create_detector`.
    """
    return open_detector(load(plan(resolve(config, installed_plugins(), own_sha256))))


def resolve(config: Config, plugins: PluginManager, own_sha256: str = "") -> Names:
    """Return what the names in the settings stand for.

    Args:
        config: the settings.
        plugins: where names are looked up.
        own_sha256: of the user's own file, where it is known already; then the settings are settled, too.

    Raises:
        PolyfaceError: as :func:`open_planner` and :func:`open_store`.
    """
    config = config if own_sha256 else settle(config)
    planner = open_planner(plugins, config, open_store(config), own_sha256)
    preferred = sorted(plugins.by_name(BackendSpec).values(), key=lambda spec: (-spec.preference, spec.name))
    backends = preferred if config.backend == "auto" else [plugins.get(BackendSpec, config.backend)]
    read_by = planner.detector if config.family is None else plugins.get(FamilySpec, config.family)
    owner = plugins.owner_of(read_by)
    return Names(config=config, planner=planner, backends=tuple(backends), owner=owner)


def load(plan: Plan) -> Loaded:
    """Load the first backend of a plan that loads and has the device and the precision here.

    Raises:
        UnsupportedError: none does, and several were tried.
        BackendUnavailableError: the one there is lacks the device or the precision.
        PluginError: the one there is does not load.
    """
    refused: dict[str, list[Refusal]] = {}
    for selection in plan.selections:
        try:
            backend, found = _load_backend(selection.backend)
            device = select_device(selection.backend, found, selection.device, plan.config.precision)
        except (BackendUnavailableError, PluginError) as error:
            LOG.info("passed over: %s", error.summary)
            refused.setdefault(selection.device, []).append(error)
        else:
            return Loaded(config=plan.config, selection=selection, backend=backend, device=device, owner=plan.owner)
    raise refusal(plan.config, [*plan.refused, *refused.get(plan.config.device, [])])


def open_detector(loaded: Loaded) -> FaceDetector:
    """Compile the network on the backend that was loaded.

    Raises:
        ConfigError: a setting is wrong for this detector or backend.
        WeightsError: the weights are missing or damaged.
        BackendUnavailableError: the backend cannot run it so.
        PluginError: the plugin of the detector or the backend fails.
    """
    selection, device = loaded.selection, loaded.device
    detector, backend = selection.detector, selection.backend
    # What is wrong with the settings is said before anything is compiled.
    config = settle_size(loaded.config, detector)
    strategy = select_strategy(config, detector)
    runs = config.runs or 1
    threads = max(1, (default_threads() if config.threads is None else config.threads) // runs)
    request = CompileRequest(
        device=device,
        precision=config.precision,
        infer_size=config.infer_size,
        threads=threads,
        runs=runs,
        options=check_options(f"backend '{backend.name}'", backend.options, config.backend_options),
    )
    with plugin_errors(f"The head of '{detector.name}' cannot be made.", f"mend {loaded.owner}"):
        head = _check(detector.make_head(), Head, detector.head)
    graph = load_graph(selection.route, detector, selection.weights)
    what = f"The backend '{backend.name}' failed to load '{detector.name}'."
    with plugin_errors(what, OTHER_BACKEND), gate.runs:
        session = loaded.backend.compile(graph, request)
    gate.close_first_at_exit()
    execution = session.execution
    if (execution.device, execution.precision) != (device, config.precision):
        session.close()
        raise ContractError(
            f"The backend '{backend.name}' runs on {execution.device} in {execution.precision}; "
            f"it was asked for {device} in {config.precision}."
        )
    if config.threads is not None and execution.threads not in (None, threads):
        session.close()
        each = f" for each of {runs} runs" if runs > 1 else ""
        raise BackendUnavailableError(
            f"The backend '{backend.name}' was asked for {threads} threads{each}; it runs on {execution.threads}.",
            fix=Fix(settings={"threads": execution.threads * runs}) | "leave it to polyface",
        )
    route = selection.route.description
    LOG.info("'%s' runs on %s, %s, %s: %s", detector.name, backend.name, device, config.precision, route)
    own = selection.weights.sha256 if selection.weights.own else ""
    again = functools.partial(rebuild, own_sha256=own)
    network = Network(
        spec=detector,
        backend=backend,
        head=head,
        session=in_batches(session, detector.fixed_batch),
        owner=loaded.owner,
        family=config.family,
    )
    return FaceDetector(config, network, strategy, route=route, rebuild=again)


def _load_backend(spec: BackendSpec) -> tuple[Backend, tuple[DeviceReport, ...]]:
    """Return a backend and what it finds on this machine.

    Raises:
        PluginError: its code fails, whatever it raises.
    """
    try:
        with gate.loading():
            backend: Backend = _check(spec.factory.load()(), Backend, spec.factory)
            return backend, tuple(backend.probe())
    except BackendUnavailableError:
        raise
    except Exception as error:
        why = [error.what, *error.why] if isinstance(error, ContractError) else [described(error)]
        raise PluginError(f"The backend '{spec.name}' does not load.", why=why, fix=OTHER_BACKEND) from error


def _check(made: Any, protocol: type[Any], ref: Ref) -> Any:
    if not isinstance(made, protocol):
        methods = [name for name in vars(protocol) if not name.startswith("_") and not hasattr(made, name)]
        raise ContractError(f"'{ref.target}' gives no {protocol.__name__}: it lacks {', '.join(methods)}.")
    return made
