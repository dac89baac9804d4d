"""Graphs of fewer bits, calibrated on images that went through polyface's own preprocessing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from polyface.graphs.artifacts import ArtifactStore, open_store, read_manifest
from polyface.graphs.plan import plan_quantization
from polyface.graphs.resolve import Export, convert_and_store, load_graph
from polyface.graphs.weights import select_weights
from polyface.images.geometry import placement_for
from polyface.images.preparing import prepare
from polyface.images.reading import read_image
from polyface.pipeline.views import make_views
from polyface.plugins.manager import PluginManager
from polyface.plugins.records import ConverterSpec, DetectorSpec
from polyface.settings.config import Config
from polyface.storage.files import sha256_of

if TYPE_CHECKING:
    from polyface.arrays import FloatArray

SIZING = ("max_side", "infer_size", "fit", "pad_to")
"""The settings that decide at which size a network sees the images it is calibrated on."""


class Calibration:
    """The network inputs of images, each read again whenever it is its turn: together they seldom fit into memory.

    Args:
        config: its ``max_side``, ``infer_size``, ``fit`` and ``pad_to`` say at which size the network sees them.
        detector: whose preprocessing they go through.
        images: their files.
    """

    def __init__(self, config: Config, detector: DetectorSpec, images: Sequence[Path]) -> None:
        self.config = config
        self.detector = detector
        self.images = tuple(images)

    def __iter__(self) -> Iterator[FloatArray]:
        """Yield each image as ``(1, 3, h, w)`` float32, whole and not mirrored.

        Raises:
            ImageError: one cannot be read.
        """
        for path in self.images:
            image = read_image(path, formats=self.config.formats, max_pixels=self.config.max_pixels)
            view = make_views(*image.shape[:2], max_side=self.config.max_side)[0]
            frame = placement_for(self.config, self.detector, *view.size, view.scale)
            yield prepare([image], [frame], self.detector.preprocess)

    def provenance(self) -> dict[str, str]:
        """Return how many images there are, what tells them from others, and the settings, for the manifest."""
        digest = hashlib.sha256("".join(sha256_of(path) for path in self.images).encode())
        settings = self.config.as_dict()
        sizing = ", ".join(f"{name}={settings[name]}" for name in SIZING)
        return {
            "calibration": f"{len(self.images)} images, {sizing}",
            "calibration_sha256": digest.hexdigest(),
        }


def quantize(
    config: Config, plugins: PluginManager, images: Sequence[Path], kind: str, output: Path | None = None
) -> Export:
    """Store a quantized graph of the detector that ``config`` names in ``output``, by default the user's cache.

    One that is there and was made of the same, by the same versions, is kept; another is replaced.

    Args:
        config: the detector, its weights, where the graph to quantize may be found, and the settings of
            :class:`Calibration`.
        plugins: where the detector and the converter are looked up.
        images: files to calibrate with, of the kind the network will see.
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
    detector = plugins.get(DetectorSpec, config.detector)
    weights = select_weights(detector, config.weights)
    found = open_store(config).lookup_for(detector, plugins.all(ConverterSpec), weights)
    converter, route = plan_quantization(detector, kind, plugins.all(ConverterSpec), weights, stored=found)
    graph = load_graph(route, detector, weights)
    calibration = Calibration(config, detector, images)
    quantizer = converter.factory.load()()
    made = {
        "source": sha256_of(graph.source) if isinstance(graph.source, Path) else graph.source.target,
        "keep_float": " ".join(detector.keep_float),
        **quantizer.provenance(),
        **calibration.provenance(),
    }
    store = ArtifactStore(output)
    there = store.lookup_for(detector, plugins.all(ConverterSpec), weights)(kind)
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
