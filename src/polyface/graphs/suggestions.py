"""What messages suggest: commands, and packages that may not be installed and would help."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from polyface.graphs.weights import Weights
from polyface.plugins.records import ConverterSpec, DetectorSpec, Ref, Requirement

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


def command_to_make(
    detector: DetectorSpec, kind: str, converters: Sequence[ConverterSpec], weights: Weights
) -> list[str]:
    """Return the command that stores a detector's graph of a kind, as its words."""
    quantize = is_calibrated(kind, converters)
    command = ["quantize", detector.name, "--images", "DIR"] if quantize else ["export", detector.name]
    return ["polyface", *command, "--to", kind, *weights.options]
