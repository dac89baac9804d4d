"""What every plugin and every writer must keep, checked by the kit."""

from __future__ import annotations

import pytest

from polyface.testing import PluginConformance, WriterConformance

pytest.importorskip("pyarrow", reason="needs pyarrow: pip install polyface-parquet")


class TestPackage(PluginConformance):
    distribution = "polyface-parquet"


class TestParquet(WriterConformance):
    writer = "parquet"
