"""Detectors and backends as they are named on the command line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from polyface.errors import ConfigError, quoted, shortened
from polyface.plugins.records import DetectorSpec
from polyface.settings.config import Config
from polyface.settings.paths import is_file

if TYPE_CHECKING:
    from polyface.plugins.manager import PluginManager

METAVAR = "NAME[:PRECISION][@DEVICE],..."

SHARED_SETTINGS = (
    "family",
    "family_options",
    "weights",
    "artifacts",
    "device",
    "precision",
    "score_threshold",
    "iou_threshold",
    "max_side",
    "formats",
    "max_pixels",
    "infer_size",
    "fit",
    "pad_to",
    "preset",
    "threads",
)
"""What all backends named have in common, as options; ``device`` and ``precision`` of those named without."""


def find_named(detector: str, plugins: PluginManager) -> DetectorSpec:
    """Return the detector of that name.

    Raises:
        ConfigError: it is a file, which has no list of weights.
        UnknownNameError: no plugin provides it.
    """
    if is_file(detector):
        raise ConfigError(
            f"{shortened(detector, 500)} is its own weights: there is nothing to fetch or to list.", fix="leave it out"
        )
    return plugins.get(DetectorSpec, detector)


def parse_backends(backends: str, config: Config) -> dict[str, Config]:
    """Return the configuration of each backend of ``--backends`` by what it was called.

    Args:
        backends: such as ``"torch,torch:bf16@cpu"``.
        config: all else, and the precision and device of those that are named without. Its ``backend_options`` are
            those of its ``backend``, and go to no other.

    Raises:
        ConfigError: the text is not of that form, or names one twice.
    """
    found: dict[str, Config] = {}
    for label in (text.strip() for text in backends.split(",")):
        parts = re.fullmatch(r"([^:@\s]+)(?::([^:@\s]+))?(?:@(\S+))?", label)
        if parts is None:
            raise ConfigError(
                f"--backends: {quoted(label)} is not of the form NAME[:PRECISION][@DEVICE].",
                fix="--backends torch,torch:bf16@cpu",
            )
        if label in found:
            raise ConfigError(f"--backends names {quoted(label)} twice.")
        name, precision, device = parts.groups()
        found[label] = config.replace(
            backend=name,
            precision=precision or config.precision,
            device=device or config.device,
            backend_options=config.backend_options if name == config.backend else {},
        )
    return found
