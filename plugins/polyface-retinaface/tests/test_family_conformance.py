"""What every family must keep, checked by the kit on the smallest files of these."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from polyface.testing import FamilyConformance

pytest.importorskip("onnx", reason="the files are written with onnx: pip install onnx")
from onnx_files import RETINAFACE, write_ssd


class Written(FamilyConformance):
    backend = "onnxruntime"
    made: ClassVar = {}

    @pytest.fixture(scope="class")
    @classmethod
    def file(cls, tmp_path_factory):
        for module in ("onnxruntime", "polyface_onnxruntime"):
            pytest.importorskip(module, reason=f"the file runs on ONNX Runtime: {module} is not installed")
        return Path(write_ssd(tmp_path_factory.mktemp("family") / "mine.onnx", **cls.made))


class TestSsd(Written):
    family = "ssd"
    made: ClassVar = {"decoded": False, "size": None}


class TestSsdOfFixedSizeThatDecodesItself(Written):
    family = "ssd"


class TestRetinaFace(Written):
    family = "retinaface"
    made: ClassVar = {"levels": RETINAFACE, "decoded": False, "landmarks": True, "size": None, "logits": True}


class TestRetinaFaceOfFixedSizeThatDecodesItself(Written):
    family = "retinaface"
    made: ClassVar = {"levels": RETINAFACE, "landmarks": True, "size": (64, 96)}
