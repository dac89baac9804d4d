"""Quantized graphs: what they are calibrated on, what is kept, and what is replaced.

The toy's converter copies the checkpoint, and its quantizer writes what it was given, so that a graph tells both.
"""

from __future__ import annotations

import hashlib
import json
import sys
import types

import attrs
import numpy as np
import pytest
from PIL import Image

from polyface.building import resolve
from polyface.errors import ImageError, PluginError, UnsupportedError
from polyface.graphs.plan import plan
from polyface.graphs.resolve import load_graph, quantize
from polyface.pipeline.calibration import Calibration
from polyface.plugins.hookspecs import hookimpl
from polyface.plugins.manager import PluginManager
from polyface.plugins.records import Capability, ConverterSpec, DetectorSpec, Preprocess, Ref
from polyface.settings.config import Config
from polyface.storage.files import sha256_of

KIND = "onnx-int8"


class Copier:
    def convert(self, graph, directory):
        (directory / "toy.onnx").write_bytes(graph.weights.read_bytes())
        return directory / "toy.onnx"

    def provenance(self):
        return {}


class Quantizer:
    version = "1"
    runs = 0

    def quantize(self, graph, images, directory):
        type(self).runs += 1
        shapes = [image.shape for image in images]
        assert shapes == [image.shape for image in images]  # a quantizer may want to see them twice
        seen = {"graph": graph.source.read_text(), "keep_float": graph.detector.keep_float, "shapes": shapes}
        (directory / "toy.int8").write_text(json.dumps(seen))
        return directory / "toy.int8"

    def provenance(self):
        return {"toy": self.version}


@pytest.fixture
def quantizer(monkeypatch):
    fake = types.ModuleType("toy_faces")
    fake.Converter, fake.Quantizer = Copier, type("Quantizer", (Quantizer,), {})
    monkeypatch.setitem(sys.modules, "toy_faces", fake)
    return fake.Quantizer


@pytest.fixture
def register(quantizer, detector_spec, backend_spec, converter_spec):
    """Return what makes a manager of plugins whose detector keeps these layers in float."""
    graph = attrs.evolve(detector_spec.graphs[0], requires=())
    narrow = Capability(device="cpu", precisions=("int8",), accepts=(KIND,))
    backend = attrs.evolve(backend_spec, requires=(), capabilities=[*backend_spec.capabilities, narrow])
    quantizes = ConverterSpec(source="onnx", target=KIND, calibrated=True, factory=Ref("toy_faces:Quantizer"))

    def register(*keep_float):
        detector = attrs.evolve(detector_spec, graphs=[graph], keep_float=keep_float)
        plugin = types.ModuleType("plugin")
        plugin.polyface_detectors = hookimpl(lambda: [detector])
        plugin.polyface_backends = hookimpl(lambda: [backend])
        plugin.polyface_converters = hookimpl(lambda: [attrs.evolve(converter_spec, requires=()), quantizes])
        manager = PluginManager()
        manager.register(plugin, name="toy")
        return manager

    return register


@pytest.fixture
def plugins(register):
    return register("head.*")


@pytest.fixture
def images(tmp_path):
    """A red one of 40x30 and a green one of 100x20."""
    paths = [tmp_path / "red.png", tmp_path / "green.png"]
    for path, size, colour in zip(paths, [(40, 30), (100, 20)], ["red", "lime"], strict=True):
        Image.new("RGB", size, colour).save(path)
    return paths


@pytest.fixture
def config(tmp_path):
    (tmp_path / "mine.pth").write_bytes(b"mine")
    return Config(detector="toy", weights=str(tmp_path / "mine.pth"))


def made(config, plugins, images, folder=None):
    """The quantized graph, calibrated on these images."""
    return quantize(config, plugins, Calibration(config, plugins.get(DetectorSpec, "toy"), images), KIND, folder)


def routed(config, plugins):
    """The graph that the backend would be given in int8."""
    selection = plan(resolve(config.replace(backend="fast", precision="int8"), plugins)).first
    return load_graph(selection.route, selection.detector, selection.weights)


def test_it_is_made_of_the_graph_a_backend_would_get_and_of_prepared_images(config, plugins, images, home):
    done = made(config, plugins, images)
    assert done.new
    assert done.path.is_relative_to(home / "artifacts")
    assert json.loads(done.path.read_text()) == {
        "graph": "mine",
        "keep_float": ["head.*"],
        "shapes": [[1, 3, 32, 64], [1, 3, 32, 128]],  # padded to multiples of 32
    }
    both = "".join(map(sha256_of, images))
    provenance = done.manifest["provenance"]
    assert provenance["converter"] == "onnx-to-onnx-int8"
    assert provenance["toy"] == "1"
    assert provenance["calibration"] == "2 images, max_side=None, infer_size=None, fit=letterbox, pad_to=32"
    assert provenance["calibration_sha256"] == hashlib.sha256(both.encode()).hexdigest()
    assert provenance["keep_float"] == "head.*"
    assert provenance["source"] == hashlib.sha256(b"mine").hexdigest()


def test_what_the_input_fixes_is_what_it_is_calibrated_with(config, plugins, images):
    detector = plugins.get(DetectorSpec, "toy")
    fixed = attrs.evolve(
        detector,
        input=attrs.evolve(detector.input, dims=(2, 3, 48, 64)),
        outputs=[attrs.evolve(detector.outputs[0], dims=(2, "p", 5))],
    )
    calibration = Calibration(config, fixed, images)
    assert [image.shape for image in calibration] == [(2, 3, 48, 64)] * 2
    assert all((first == second).all() for first, second in calibration)
    said = "2 images, max_side=None, infer_size=[48, 64], fit=letterbox, pad_to=32"
    assert calibration.provenance()["calibration"] == said


def test_a_backend_finds_it_by_the_precision(config, plugins, images):
    with pytest.raises(UnsupportedError, match="needs images to calibrate with"):
        routed(config, plugins)
    done = made(config, plugins, images)
    graph = routed(config, plugins)
    assert (graph.kind, graph.source) == (KIND, done.path)


def test_it_is_found_in_a_folder_too_and_its_source_need_not_lie_there(config, plugins, images, tmp_path):
    done = made(config, plugins, images, tmp_path / "graphs")
    assert [path.name for path in (tmp_path / "graphs").iterdir()] == [done.path.parent.name]
    assert routed(config.replace(artifacts=str(tmp_path / "graphs")), plugins).source == done.path


def test_the_same_again_is_kept(config, plugins, images, quantizer):
    first, second = made(config, plugins, images), made(config, plugins, images)
    assert (second.path, second.manifest, second.new) == (first.path, first.manifest, False)
    assert quantizer.runs == 1


@pytest.mark.parametrize("other", ["images", "their order", "a size", "a version", "layers kept in float"])
def test_what_was_made_of_something_else_is_replaced(config, plugins, register, images, quantizer, monkeypatch, other):
    made(config, plugins, images)
    if other == "a version":
        monkeypatch.setattr(quantizer, "version", "2")
    if other == "layers kept in float":
        plugins = register()
    chosen = {"images": images[:1], "their order": images[::-1]}.get(other, images)
    sized = config.replace(max_side=50) if other == "a size" else config
    done = made(sized, plugins, chosen)
    assert done.new
    assert quantizer.runs == 2
    assert routed(config, plugins).source == done.path


def test_settings_of_size_hold_for_the_images_as_for_detecting(detector_spec, config, images):
    shapes = [image.shape for image in Calibration(config.replace(max_side=50, pad_to=1), detector_spec, images)]
    assert shapes == [(1, 3, 32, 40), (1, 3, 32, 50)]  # never enlarged; never less than the detector's least side
    shapes = [image.shape for image in Calibration(config.replace(infer_size=(64, 96)), detector_spec, images)]
    assert shapes == [(1, 3, 64, 96)] * 2


def test_images_go_through_the_detectors_own_preprocessing(detector_spec, config, images):
    spec = attrs.evolve(detector_spec, preprocess=Preprocess(channels="bgr", mean=(1, 2, 3), std=(2, 2, 2)))
    red = next(iter(Calibration(config, spec, images)))
    np.testing.assert_array_equal(red[0, :, 0, 0], [-0.5, -1, 126])  # (0 - 1) / 2, (0 - 2) / 2, (255 - 3) / 2


def test_an_image_that_cannot_be_read_is_named_and_nothing_is_stored(config, plugins, images, home):
    images[1].write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"green\.png"):
        made(config, plugins, images)
    assert not list((home / "artifacts").rglob("*int8*"))


def test_whatever_a_quantizer_raises_is_named_as_its(config, plugins, images, quantizer, monkeypatch):
    def quantize_(*_):
        raise KeyError("Conv_7")

    monkeypatch.setattr(quantizer, "quantize", quantize_)
    with pytest.raises(PluginError, match="The converter 'onnx-to-onnx-int8' failed on 'toy'") as caught:
        made(config, plugins, images)
    assert caught.value.why == ("KeyError: 'Conv_7'",)
