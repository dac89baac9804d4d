"""What every plugin and every source must keep, checked by the kit."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from polyface.testing import PluginConformance, SourceConformance

pytest.importorskip("ray", reason="needs Ray: pip install polyface-ray")


class TestPackage(PluginConformance):
    distribution = "polyface-ray"


class TestStorage(SourceConformance):
    source = "storage"

    @pytest.fixture
    def location(self, tmp_path):
        (tmp_path / "photos").mkdir()
        for number in range(3):
            Image.fromarray(np.full((16, 24, 3), number * 40, np.uint8)).save(tmp_path / f"photos/{number:05}.png")
        return f"file://{tmp_path}/photos"

    @pytest.fixture
    def missing(self, tmp_path):
        return f"file://{tmp_path}/none"

    @pytest.fixture
    def damaged(self, tmp_path):
        (tmp_path / "7.png").write_bytes(bytes(range(256)))
        return f"file://{tmp_path}/7.png"
