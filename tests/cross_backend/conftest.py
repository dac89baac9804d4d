from __future__ import annotations

import contextlib

import numpy as np
import pytest
from PIL import Image

import polyface
from polyface.graphs.resolve import quantize
from polyface.machine.drivers import is_installed
from polyface.pipeline.calibration import Calibration
from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import ConverterSpec, DetectorSpec
from polyface.settings.config import Config


@pytest.fixture
def make_detector():
    """Return ``create_detector`` with every detector closed at the end of the test."""
    made = []

    def make(name, **settings):
        made.append(polyface.create_detector(name, **settings))
        return made[-1]

    yield make
    for detector in made:
        detector.close()


@pytest.fixture(scope="session")
def weights_of(weights_at_hand, tmp_path_factory):
    """Return the weights to test a detector with: its own where they are at hand, else seeded random ones in a file.

    Its own are its default file, or where that is a graph itself and of none of a backend's ``kinds``, the next.
    """
    made = {}

    def weights(name, kinds=None):
        spec = installed_plugins().get(DetectorSpec, name)
        if not spec.weights:
            return None
        taken = [file for file in spec.weights if kinds is None or kinds_of(spec, file) <= {*kinds}]
        file = (taken or spec.weights)[0]
        if file.ref is not None:
            return None
        if at_hand := weights_at_hand(file):
            return at_hand
        builder = next((graph.ref for graph in spec.graphs if graph.kind == "torch-module"), None)
        if builder is None:
            pytest.skip(f"{spec.weights[0].filename} is not among the reference data")
        if not is_installed("torch"):
            return None
        if name not in made:
            from safetensors.torch import save_file

            made[name] = tmp_path_factory.mktemp("seeded") / f"{name}.safetensors"
            save_file(builder.load()(None, seed=1).state_dict(), made[name])
        return made[name]

    return weights


def kinds_of(spec, file):
    """The kinds of graph that a file of weights is by itself; none where it is numbers alone, which any graph takes."""
    return {graph.kind for graph in spec.graphs if graph.ref is None and graph.weights == file.name}


@pytest.fixture(scope="session")
def is_trained(weights_of, weights_at_hand):
    """Return whether what ``weights_of`` gives for a detector was trained, so that it finds faces in real images."""

    def is_trained(name):
        own = weights_of(name)
        return own is None or own in map(weights_at_hand, installed_plugins().get(DetectorSpec, name).weights)

    return is_trained


@pytest.fixture(scope="session")
def calibrate(weights_of, is_trained, examples, tmp_path_factory):
    """Return what quantizes a cell's network, once, where the cell needs that and nobody published one.

    A trained network is calibrated on the examples, of which it must find the faces, another on noise.
    """
    made = set()

    def calibrate(cell):
        plugins = installed_plugins()
        [kind, *_] = cell.backend.kinds(cell.device, cell.precision)
        published = {graph.kind for graph in cell.detector.graphs}
        calibrated = {converter.target for converter in plugins.all(ConverterSpec) if converter.calibrated}
        if kind not in calibrated - published or (cell.detector.name, kind) in made:
            return
        images = examples
        if not is_trained(cell.detector.name):
            images = [tmp_path_factory.mktemp("calibration") / f"{seed}.png" for seed in range(2)]
            for seed, path in enumerate(images):
                Image.fromarray(noise(96, 128, seed)).save(path)
        weights = weights_of(cell.detector.name)
        with contextlib.suppress(polyface.UnsupportedError):  # then the cell is refused, and says why
            config = Config(detector=cell.detector.name, weights=weights and str(weights))
            calibration = Calibration(config, plugins.get(DetectorSpec, config.detector), images)
            quantize(config, plugins, calibration, kind)
        made.add((cell.detector.name, kind))

    return calibrate


@pytest.fixture(scope="session")
def examples(pytestconfig):
    """Example images of three sizes: those of which cells.json tells what every cell found."""
    return [pytestconfig.rootpath / f"examples/{name}.jpg" for name in ("astronaut", "collage", "grace_hopper")]


def noise(height, width, seed=0):
    """An image of random pixels: no network was trained on it, so that every layer gets odd input."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(name="noise")
def _noise():
    return noise
