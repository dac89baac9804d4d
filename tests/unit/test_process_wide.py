"""What all threads of a process share stays as it is while some of them export, quantize and detect."""

from __future__ import annotations

import logging
import sys
import threading
import types
import warnings
from concurrent.futures import ThreadPoolExecutor

import attrs
import numpy as np
import pytest
from PIL import Image

from polyface.building import create_detector
from polyface.graphs.resolve import export, quantize
from polyface.pipeline.calibration import Calibration
from polyface.plugins.hookspecs import hookimpl
from polyface.plugins.manager import PluginManager
from polyface.plugins.protocols import Candidates, DeviceReport, Execution
from polyface.plugins.records import BackendSpec, Capability, ConverterSpec, DetectorSpec, Ref
from polyface.settings.config import Config

THREADS = 2


def shared():
    """What library code might switch for all threads."""
    return (
        sys.stdout,
        sys.stderr,
        logging.root.manager.disable,
        logging.root.level,
        tuple(logging.root.handlers),
        logging.getLogger("polyface").level,
        warnings.showwarning,
        tuple(warnings.filters),
    )


class Watch:
    """Notes down what is shared, in all threads in the middle of the same thing."""

    def __init__(self):
        self.seen = []
        self.together = threading.Barrier(THREADS, timeout=60)

    def __call__(self):
        self.together.wait()
        self.seen.append(shared())


class Plugin:
    """A converter, a quantizer, a backend, its session and a head, which watch what they are in the middle of."""

    watch: Watch
    execution = Execution(device="cpu", precision="fp32")

    def provenance(self):
        return {}

    def convert(self, _, directory):
        self.watch()
        (directory / "toy.onnx").write_bytes(b"toy")
        return directory / "toy.onnx"

    def quantize(self, _, images, directory):
        for _image in images:
            self.watch()
        (directory / "toy.int8").write_bytes(b"toy")
        return directory / "toy.int8"

    def probe(self):
        return (DeviceReport(device="cpu", precisions=("fp32",)),)

    def compile(self, *_):
        self.watch()
        return self

    def run(self, inputs):
        self.watch()
        return {"heads": np.zeros((len(inputs["image"]), 1, 5), np.float32)}

    def close(self):
        pass

    def priors(self, *_):
        return np.zeros((1, 4), np.float32)

    def scores(self, outputs):
        return np.zeros(outputs["heads"].shape[:2], np.float32)

    def decode(self, _outputs, _priors, _index, keep):
        return Candidates(boxes=np.zeros((len(keep), 4), np.float32), landmarks=None)


@pytest.fixture
def watch(monkeypatch):
    watch = Watch()
    module = types.ModuleType("watching_faces")
    module.Plugin = type("Plugin", (Plugin,), {"watch": watch})
    monkeypatch.setitem(sys.modules, "watching_faces", module)
    return watch


@pytest.fixture
def plugins(detector_spec):
    ref = Ref("watching_faces:Plugin")
    graph = attrs.evolve(detector_spec.graphs[0], requires=())
    detector = attrs.evolve(detector_spec, graphs=[graph], head=ref, landmarks=())
    backend = BackendSpec(
        name="watching", summary="Watches", accepts=("onnx",), capabilities=[Capability(device="cpu")], factory=ref
    )
    plugin = types.ModuleType("plugin")
    plugin.polyface_detectors = hookimpl(lambda: [detector])
    plugin.polyface_backends = hookimpl(lambda: [backend])
    plugin.polyface_converters = hookimpl(
        lambda: [
            ConverterSpec(source=graph.kind, target="onnx", factory=ref),
            ConverterSpec(source="onnx", target="onnx-int8", calibrated=True, factory=ref),
        ]
    )
    manager = PluginManager()
    manager.register(plugin, name="watching")
    return manager


def test_two_threads_that_export_quantize_and_detect_switch_nothing_that_they_share(watch, plugins, tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    before = shared()

    def work(number):
        folder = tmp_path / str(number)
        folder.mkdir()
        weights = folder / "mine.pth"
        weights.write_bytes(b"%d" % number)
        config = Config(detector="toy", weights=str(weights), backend="watching", device="cpu")
        export(Config(detector="toy", weights=str(weights)), plugins, "onnx", folder)
        images = Calibration(config, plugins.get(DetectorSpec, "toy"), [tmp_path / "a.png"])
        quantize(config.replace(artifacts=str(folder)), plugins, images, "onnx-int8", folder)
        with create_detector(config=config, plugins=plugins, artifacts=str(folder)) as detector:
            return len(detector.detect(tmp_path / "a.png"))

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(work, range(THREADS))) == [0, 0]
    assert watch.seen == [before] * 4 * THREADS  # a conversion, a calibration, a compilation and a run
    assert shared() == before
