"""From a route to the graph itself: published by the detector, stored, or converted and then stored."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from attrs import frozen

from polyface._version import __version__
from polyface.errors import ArtifactError, PolyfaceError, Reason, WeightsMismatchError, plugin_errors
from polyface.graphs.artifacts import ArtifactKey, ArtifactStore, open_store, read_manifest
from polyface.graphs.families import find_detector, naming_families
from polyface.graphs.plan import Planner, Route, command_to_make
from polyface.graphs.weights import Weights, verify
from polyface.plugins.manager import PluginManager, installed_plugins
from polyface.plugins.protocols import Graph
from polyface.plugins.records import ConverterSpec, DetectorSpec, FileRef, GraphSource
from polyface.settings.config import Config
from polyface.storage.files import sha256_of

if TYPE_CHECKING:
    from polyface.pipeline.calibration import Calibration

LOG = logging.getLogger(__name__)


@frozen(kw_only=True)
class Export:
    """An exported graph.

    Args:
        path: the graph's file, in a folder with its ``manifest.json``.
        manifest: what stands in that file.
        new: whether it was made now; what is stored and whole is not made again.
    """

    path: Path
    manifest: dict[str, Any]
    new: bool


def export(config: Config, plugins: PluginManager, kind: str, output: Path | None = None) -> Export:
    """Store a detector's graph of one kind in ``output``, by default the user's cache, unless it is there.

    Args:
        config: the detector and its weights.
        plugins: where the detector and the converter are looked up.
        kind: the graph kind to make, such as ``"onnx"``.
        output: a folder for ``--artifacts``.

    Raises:
        UnknownNameError: no plugin provides the detector, or it has no such weights.
        UnsupportedError: no converter that is installed makes that kind from what the detector publishes.
        WeightsError: the weights are missing or damaged.
        ArtifactError: the folder cannot be written to.
        ContractError: the converter refused the network, or what it made of it.
    """
    store = ArtifactStore(output)
    planner = open_planner(plugins, config, store)
    path = planner.stored(kind)
    new = not isinstance(path, Path)
    if not isinstance(path, Path):
        path = _converted(planner.conversion(kind), planner.detector, planner.weights, store)
    return Export(path=path, manifest=read_manifest(path.parent), new=new)


def quantize(
    config: Config, plugins: PluginManager, calibration: Calibration, kind: str, output: Path | None = None
) -> Export:
    """Store a quantized graph of the detector that ``config`` names in ``output``, by default the user's cache.

    One that is there and was made of the same, by the same versions, is kept; another is replaced.

    Args:
        config: the detector, its weights, and where the graph to quantize may be found.
        plugins: where the detector and the converter are looked up.
        calibration: the images, of the kind the network will see.
        kind: the graph kind to make, such as ``"onnx-int8"``.
        output: a folder for ``--artifacts``.

    Raises:
        ImageError: an image cannot be read.
        UnsupportedError: no converter that is installed makes that kind, or none the graph it starts from.
        PolyfaceError: as :func:`export`.
    """
    planner = open_planner(plugins, config, open_store(config))
    converter, route = planner.quantization(kind)
    detector, weights = planner.detector, planner.weights
    graph = load_graph(route, detector, weights)
    quantizer = converter.factory.load()()
    made = {
        "source": sha256_of(graph.source) if isinstance(graph.source, Path) else graph.source.target,
        "keep_float": " ".join(detector.keep_float),
        **quantizer.provenance(),
        **calibration.provenance(),
    }
    store = ArtifactStore(output)
    there = store.find(ArtifactKey.of(detector, weights.sha256, kind))
    if isinstance(there, Path):
        manifest = read_manifest(there.parent)
        if made.items() <= manifest["provenance"].items():
            return Export(path=there, manifest=manifest, new=False)
    with naming_families(graph, weights, plugins):
        path = convert_and_store(
            converter,
            detector,
            weights,
            store,
            convert=lambda folder: quantizer.quantize(graph, calibration, folder),
            provenance=made,
            replace=True,
        )
    return Export(path=path, manifest=read_manifest(path.parent), new=True)


def open_planner(plugins: PluginManager, config: Config, store: ArtifactStore, own_sha256: str = "") -> Planner:
    """Return what plans for the detector that the settings name, with its weights and the graphs of a store.

    Raises:
        PolyfaceError: as :func:`polyface.graphs.families.find_detector`.
    """
    detector, selected = find_detector(config, plugins, own_sha256)
    converters = plugins.all(ConverterSpec)

    @functools.cache
    def stored(kind: str) -> Path | Reason:
        key = ArtifactKey.of(detector, selected.sha256, kind)
        return store.find(key, command_to_make(kind, converters, selected))

    return Planner(detector=detector, weights=selected, converters=converters, stored=stored)


def load_graph(route: Route, detector: DetectorSpec, weights: Weights) -> Graph:
    """Return the graph for the backend, converting and storing it first where the route says so.

    Raises:
        WeightsError: the weights the graph is built from are missing or damaged.
        ArtifactError: a converted graph cannot be stored.
    """
    if route.source is not None and route.converter is None:
        return _published(route.source, detector, weights)
    store = ArtifactStore()
    path = route.artifact or _converted(route, detector, weights, store)
    return Graph(kind=route.kind, source=path, detector=detector, trusted=store.holds(path) and not weights.own_graph)


def _published(source: GraphSource, detector: DetectorSpec, weights: Weights) -> Graph:
    if isinstance(source.ref, FileRef):
        return Graph(kind=source.kind, source=verify(source.ref.path(), source.sha256 or ""), detector=detector)
    file = weights.locate()
    if source.ref is None:  # which a plan has only for weights that are a file
        return Graph(kind=source.kind, source=cast("Path", file), detector=detector, trusted=not weights.own_graph)
    return Graph(kind=source.kind, source=source.ref, weights=file, detector=detector)


def _converted(route: Route, detector: DetectorSpec, weights: Weights, store: ArtifactStore) -> Path:
    if route.source is None or route.converter is None:
        raise ValueError(f"not a conversion: {route.description}")
    graph = _published(route.source, detector, weights)
    converter = route.converter.factory.load()()
    with naming_families(graph, weights, installed_plugins()):
        return convert_and_store(
            route.converter,
            detector,
            weights,
            store,
            convert=lambda folder: converter.convert(graph, folder),
            provenance=converter.provenance(),
        )


def convert_and_store(
    converter: ConverterSpec,
    detector: DetectorSpec,
    weights: Weights,
    store: ArtifactStore,
    *,
    convert: Callable[[Path], Path],
    provenance: Mapping[str, str],
    replace: bool = False,
) -> Path:
    """Store what ``convert`` writes into the empty folder it is given, under the converter's name; return its path.

    Raises:
        PluginError: the converter failed, whatever it raised.
        WeightsMismatchError: the file of weights changed meanwhile.
        ArtifactError: the folder cannot be written to.
    """

    def write(folder: Path) -> Path:
        what = f"The converter '{converter.name}' failed on '{detector.name}'."
        with plugin_errors(what, "mend its installation", but=(OSError,)):  # the folder's, most likely: see below
            path = Path(convert(folder))
        # A training run may have saved its next checkpoint meanwhile; the key is the hash of what was there before.
        if weights.own is not None and sha256_of(weights.own) != weights.sha256:
            raise WeightsMismatchError(
                f"{weights.own} changed while it was exported.", fix="export a copy that stays as it is"
            )
        return path

    made = {
        "weights": weights.own.name if weights.own else weights.label,
        "polyface": __version__,
        "converter": converter.name,
        **provenance,
    }
    what = f"'{detector.name}' to {converter.target} by {converter.name}"
    LOG.info("converting %s", what)
    try:
        path = store.put(ArtifactKey.of(detector, weights.sha256, converter.target), write, made, replace=replace)
    except OSError as error:
        if isinstance(error, PolyfaceError):
            raise
        raise ArtifactError(
            f"The exported graph of '{detector.name}' cannot be stored in {store.root}.",
            why=[f"{type(error).__name__}: {error}"],
            fix="choose a folder that can be written to, by POLYFACE_HOME or as the output",
        ) from error
    LOG.info("converted %s: %s", what, path)
    return path
