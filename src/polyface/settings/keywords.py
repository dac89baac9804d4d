"""The settings of a detector as keywords, so that an editor completes them and a type checker knows them.

A test holds them to the fields of :class:`~polyface.settings.config.Config`, whose docstring describes each. ``None``
leaves a setting to the configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict


class Settings(TypedDict, total=False):
    """What :func:`polyface.create_detector` takes beside the detector's name."""

    family: str | None
    family_options: Mapping[str, Any] | None
    weights: str | None
    artifacts: str | None
    backend: str | None
    device: str | None
    precision: str | None
    score_threshold: float | None
    iou_threshold: float | None
    max_side: int | None
    draft: bool | None
    formats: tuple[str, ...] | None
    max_pixels: int | None
    damaged: str | None
    infer_size: tuple[int, int] | None
    fit: str | None
    pad_to: int | None
    view: str | None
    preset: str | None
    scales: tuple[float, ...] | None
    flip: bool | None
    tile: int | None
    tile_overlap: float | None
    merge: str | None
    clip: bool | None
    batch_size: int | None
    run_pixels: int | None
    threads: int | None
    runs: int | None
    workers: int | None
    trim: bool | None
    backend_options: Mapping[str, Any] | None
    timing: bool | None


class AllSettings(Settings, total=False):
    """Every setting of a detector."""

    detector: str | None
