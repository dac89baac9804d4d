"""What a graph that a stranger made must stand in a process of its own; see :mod:`polyface.graphs.trial`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from polyface.machine.cores import default_threads
from polyface.plugins.protocols import CompileRequest
from polyface_openvino.backend import DEVICE, properties, read
from polyface_openvino.runtime import openvino as ov


def run(path: str, precision: str, shape: list[int]) -> None:
    """Read, compile and run it once, on zeros; whatever OpenVINO raises is no matter here."""
    request = CompileRequest(device="cpu", precision=precision, threads=default_threads())
    compiled = ov.Core().compile_model(read(Path(path)), DEVICE, properties(request))
    compiled(np.zeros(shape, np.float32))
