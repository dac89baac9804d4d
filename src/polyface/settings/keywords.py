"""The settings of a detector as keywords, so that an editor completes them and a type checker knows them.

A test holds them to the fields of :class:`~polyface.settings.config.Config`, which says what each means. ``None``
leaves a setting to the configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict


class Settings(TypedDict, total=False):
    """What :func:`polyface.create_detector` takes beside the detector's name."""

    weights: str | None  #: Weights: a name of the detector's, or a checkpoint file.
    artifacts: str | None  #: Folder of exported graphs, searched before the user's cache.
    backend: str | None  #: Backend to run it on, or auto.
    device: str | None  #: Device, such as cpu or cuda:1, or auto.
    precision: str | None  #: Precision of the network, such as fp32.
    score_threshold: float | None  #: Least score of a face.
    iou_threshold: float | None  #: Overlap above which NMS drops a box.
    max_side: int | None  #: Shrink images whose longer side is longer than this.
    draft: bool | None  #: Decode JPEG files smaller, where they are shrunk to a quarter or less.
    formats: tuple[str, ...] | None  #: Read these formats, too, by Pillow's names.
    max_pixels: int | None  #: Refuse image files of more pixels than this.
    infer_size: tuple[int, int] | None  #: Run the network at this size, height first, such as 480x640.
    fit: str | None  #: Bring images to --infer-size by letterbox or stretch.
    pad_to: int | None  #: Pad images to a multiple of this; 1 is the exact size.
    view: str | None  #: Find faces of every size (auto), or see images once (plain).
    preset: str | None  #: Test-time protocol: widerface-original, widerface-1600 or dsfd-multiscale.
    scales: tuple[float, ...] | None  #: See images at these scales, such as 0.5,1,2.
    flip: bool | None  #: See images mirrored, too.
    tile: int | None  #: See what is longer than this in tiles of this side.
    tile_overlap: float | None  #: Part of their side that neighbouring tiles share.
    merge: str | None  #: Merge what is found by nms or by vote.
    clip: bool | None  #: Clip boxes and landmarks to the image.
    batch_size: int | None  #: Most images in one run of the network.
    run_pixels: int | None  #: Most pixels in one run of the network, which bound its memory.
    threads: int | None  #: Threads the network runs on; default: one a core.
    trim: bool | None  #: Give free memory back to the system after runs at new shapes.
    backend_options: Mapping[str, Any] | None  #: Options of the backend's own; see `polyface backends`.
    timing: bool | None  #: Show the seconds of each stage: read, prepare, network, trim, decode, NMS, write.


class AllSettings(Settings, total=False):
    """Every setting of a detector."""

    detector: str | None  #: Detector to use.
