"""The commands that a message tells the user to run."""

from __future__ import annotations

from collections.abc import Sequence

from polyface.graphs.suggestions import is_calibrated
from polyface.graphs.weights import Weights
from polyface.plugins.records import ConverterSpec, DetectorSpec


def command_to_make(
    detector: DetectorSpec, kind: str, converters: Sequence[ConverterSpec], weights: Weights
) -> list[str]:
    """Return the command that stores a detector's graph of a kind, as its words."""
    quantize = is_calibrated(kind, converters)
    command = ["quantize", detector.name, "--images", "DIR"] if quantize else ["export", detector.name]
    return ["polyface", *command, "--to", kind, *weights.options]
