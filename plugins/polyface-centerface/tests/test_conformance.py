"""What every detector must keep, checked by the kit on whichever backend is installed."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from polyface.machine.drivers import is_installed
from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import DetectorSpec
from polyface.testing import DetectorConformance, FamilyConformance, Golden, PluginConformance


class TestPackage(PluginConformance):
    distribution = "polyface-centerface"


@pytest.fixture(scope="module")
def runtime():
    if not (is_installed("onnxruntime") or is_installed("openvino")):
        pytest.skip("the network needs onnxruntime or openvino")


@pytest.mark.usefixtures("runtime")
class TestCenterFace(DetectorConformance):
    detector = "centerface"

    @pytest.fixture(scope="class")
    @classmethod
    def goldens(cls, original):
        """What the file that the packaged one was made of gives, its input made by hand."""
        goldens = []
        for height, width, seed in [(96, 128, 1), (160, 64, 2)]:
            image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
            heads = original(image.transpose(2, 0, 1)[None].astype(np.float32))
            goldens.append(Golden(image=image, heads={name: output[0] for name, output in heads.items()}))
        return goldens


@pytest.mark.usefixtures("runtime")
class TestFamily(FamilyConformance):
    """The packaged file as a user's own."""

    family = "centerface"
    family_options: ClassVar = {"free": False}

    @pytest.fixture(scope="class")
    @classmethod
    def file(cls):
        return installed_plugins().get(DetectorSpec, "centerface").weights[0].ref.path()
