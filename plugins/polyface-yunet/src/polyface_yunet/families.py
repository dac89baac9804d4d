"""The family ``yunet``: records for users' own ONNX files."""

from __future__ import annotations

from typing import Any

from polyface.plugins.protocols import Interface
from polyface.plugins.records import DetectorSpec
from polyface.plugins.toolkit import describe_like
from polyface_yunet.plugin import polyface_detectors


def yunet(interface: Interface, **options: Any) -> DetectorSpec:
    """Return the record of a file with the outputs of YuNet, under whatever names.

    Raises:
        ConfigError: it has others.
    """
    own = next(record for record in polyface_detectors() if isinstance(record, DetectorSpec))
    return describe_like(own, interface, **options)
