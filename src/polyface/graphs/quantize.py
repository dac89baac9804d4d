"""Graphs of fewer bits, calibrated on images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from polyface.graphs.artifacts import ArtifactKey, ArtifactStore, open_store, read_manifest
from polyface.graphs.resolve import Export, convert_and_store, load_graph, open_planner
from polyface.plugins.manager import PluginManager
from polyface.settings.config import Config
from polyface.storage.files import sha256_of

if TYPE_CHECKING:
    from polyface.pipeline.calibration import Calibration


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
        UnknownNameError: no plugin provides the detector, or it has no such weights.
        UnsupportedError: no converter that is installed makes that kind, or none the graph it starts from.
        WeightsError: the weights are missing or damaged.
        ImageError: an image cannot be read.
        ArtifactError: the folder cannot be written to.
        PluginError: the converter refused the network, or failed.
    """
    planner = open_planner(plugins, config.detector, config.weights, open_store(config))
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
