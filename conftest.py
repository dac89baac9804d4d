"""Fixtures that the tests of core and of the first-party plugins share."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from polyface.storage.files import sha256_of

pytest_plugins = ["matrix_report", "pytester"]

# The tests tell ONNX Runtime's maker nothing, whoever imports it first; test_telemetry.py takes it out again.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# How long an example takes says nothing on a machine that does other work besides.
hypothesis.settings.register_profile("polyface", deadline=None)
hypothesis.settings.load_profile("polyface")


class Golden:
    """The outputs of the original networks, and the recipe for the weights behind them; see README.md beside them."""

    def __init__(self, shared):
        self.folder = shared / "golden"
        spec = importlib.util.spec_from_file_location("golden_recipe", self.folder / "recipe.py")
        self.recipe = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.recipe)
        self.image = self.recipe.image

    def shapes(self, detector):
        """The shape of every entry of the original checkpoint, in its order."""
        keys = json.loads((self.folder / f"{detector}.keys.json").read_text())
        return {key: tuple(shape) for key, shape in keys.items()}

    def checkpoint(self, detector):
        """The recipe's numbers in the original checkpoint's layout."""
        return {key: np.asarray(self.recipe.tensor(key, shape)) for key, shape in self.shapes(detector).items()}

    def outputs(self, detector, height, width, seed):
        with np.load(self.folder / f"{detector}_{height}x{width}_seed{seed}.npz") as arrays:
            return dict(arrays)


@pytest.fixture(scope="session")
def shared():
    if "POLYFACE_SHARED" not in os.environ:
        pytest.skip("POLYFACE_SHARED does not point to the reference data")
    return Path(os.environ["POLYFACE_SHARED"])


@pytest.fixture(scope="session")
def weights_at_hand():
    """Return the file among the reference data that is a record's, whatever its name there; ``None`` without one."""
    folder = Path(os.environ.get("POLYFACE_SHARED", os.devnull)) / "weights"
    files = {sha256_of(path): path for path in folder.iterdir()} if folder.is_dir() else {}
    return lambda file: files.get(file.sha256)


@pytest.fixture(scope="session")
def golden(shared):
    return Golden(shared)


@pytest.fixture(scope="session")
def reference_checkpoint(golden, tmp_path_factory):
    """Write the recipe's numbers for a detector to a .safetensors file, once, and return its path."""
    made = {}

    def checkpoint(detector):
        if detector not in made:
            from safetensors.numpy import save_file

            made[detector] = tmp_path_factory.mktemp("reference") / f"{detector}.safetensors"
            save_file(golden.checkpoint(detector), made[detector])
        return made[detector]

    return checkpoint
