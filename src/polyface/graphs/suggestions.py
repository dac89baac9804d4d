"""What may not be installed and would help; only ever read for a message."""

from __future__ import annotations

from collections.abc import Iterable

from polyface.plugins.records import ConverterSpec, Ref, Requirement

HELPFUL = (
    ConverterSpec(
        source="torch-module",
        target="onnx",
        requires=(Requirement(module="polyface_torch", install="polyface-torch[export]"),),
        factory=Ref("polyface_torch.export:OnnxExporter"),
    ),
    ConverterSpec(
        source="onnx",
        target="onnx-int8",
        calibrated=True,
        requires=(Requirement(module="polyface_onnxruntime", install="polyface-onnxruntime[quantize]"),),
        factory=Ref("polyface_onnxruntime.quantize:Int8Quantizer"),
    ),
)
"""Converters that may not be installed, in the order in which they follow each other; only ever read for a message."""


def is_calibrated(kind: str, converters: Iterable[ConverterSpec]) -> bool:
    """Whether graphs of this kind are made on images."""
    return any(converter.calibrated for converter in (*converters, *HELPFUL) if converter.target == kind)
