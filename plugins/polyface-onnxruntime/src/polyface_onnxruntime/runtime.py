"""ONNX Runtime, imported without its telemetry.

From 1.32 on, ``import onnxruntime`` keeps a device id and a database of events in the user's cache on Linux, and sends
them to its maker. Only this variable, set before that import, keeps it silent; ``disable_telemetry_events`` comes too
late. A value that the user set wins, and a program that imported ONNX Runtime before this module has decided already.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime  # type: ignore[import-untyped]
from onnxruntime.capi import onnxruntime_pybind11_state as native  # type: ignore[import-untyped]

__all__ = ["native", "onnxruntime"]
