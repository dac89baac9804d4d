from __future__ import annotations

import numpy as np
import pytest

import polyface
from polyface.planning import is_installed
from polyface.plugins import installed_plugins


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
def weights_of(tmp_path_factory):
    """Return the weights to test a detector with: its own where they are at hand, else seeded random ones in a file."""
    made = {}

    def weights(name):
        spec = installed_plugins().detector(name)
        builder = next((graph.ref for graph in spec.graphs if graph.kind == "torch-module"), None)
        at_hand = not spec.weights or spec.weights[0].ref is not None
        if at_hand or builder is None or not is_installed("torch"):
            return None
        if name not in made:
            from safetensors.torch import save_file

            made[name] = tmp_path_factory.mktemp("seeded") / f"{name}.safetensors"
            save_file(builder.load()(None, seed=1).state_dict(), made[name])
        return made[name]

    return weights


@pytest.fixture
def examples(pytestconfig):
    """The repository's example pictures, of three sizes."""
    return sorted((pytestconfig.rootpath / "examples").glob("*.jpg"))


def noise(height, width, seed=0):
    """A picture of random pixels: no network was trained on it, so that every layer gets odd input."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(name="noise")
def _noise():
    return noise
