"""What every plugin and every source must keep, checked by the kit."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from polyface.testing import PluginConformance, SourceConformance

pytest.importorskip("av", reason="needs PyAV: pip install polyface-video")


class TestPackage(PluginConformance):
    distribution = "polyface-video"


class TestVideo(SourceConformance):
    source = "video"

    @pytest.fixture
    def location(self, make_clip):
        return str(make_clip("clip.mp4", count=5))


class TestFrames(SourceConformance):
    source = "frames"

    @pytest.fixture
    def location(self, tmp_path):
        for number in range(3):
            Image.fromarray(np.full((16, 24, 3), number * 40, np.uint8)).save(tmp_path / f"{number:05}.png")
        return f"frames:{tmp_path}/%05d.png"

    @pytest.fixture
    def missing(self, tmp_path):
        return f"frames:{tmp_path}/none/%05d.png"

    @pytest.fixture
    def damaged(self, tmp_path):
        (tmp_path / "7.png").write_bytes(bytes(range(256)))
        return f"frames:{tmp_path}/%d.png"
