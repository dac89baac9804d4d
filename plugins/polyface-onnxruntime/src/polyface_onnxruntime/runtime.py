"""ONNX Runtime, imported without its telemetry.

From 1.32 on, ``import onnxruntime`` keeps a device id and a database of events in the user's cache on Linux, and sends
them to its maker. Only this variable, set before that import, keeps it silent; ``disable_telemetry_events`` comes too
late. A value that the user set wins, and a program that imported ONNX Runtime before this module has decided already.
"""

from __future__ import annotations

import os
import re
import textwrap

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime  # type: ignore[import-untyped]
from onnxruntime.capi import onnxruntime_pybind11_state as native  # type: ignore[import-untyped]

from polyface.plugins.toolkit import one_line

__all__ = ["failure", "native", "onnxruntime"]


def failure(error: Exception) -> str:
    """Return what an error of a run says, in one line: of a node that failed, its operator and what it met.

    Such as "Mul: Attempting to broadcast an axis by a dimension other than 1. 4420 by 1280", without the place in ONNX
    Runtime's source and the condition that was checked there.
    """
    text = " ".join(str(error).split())
    found = re.search(r"running (\w+) node\. Name:'.*?' Status Message: (?:.* was false\. |/\S+:\d+ .*?\) )?(.*)", text)
    return textwrap.shorten(f"{found[1]}: {found[2]}", 300, placeholder=" ...") if found else one_line(error)
