"""The settings of a detector."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Unpack

import attrs
from attrs import frozen

from polyface.errors import ConfigError
from polyface.settings import values
from polyface.settings.job import Job
from polyface.settings.keywords import AllSettings
from polyface.settings.paths import is_path
from polyface.settings.record import SettingsRecord, check_names, setting

LEAST_RUN, MOST_RUN = 256 * 256, 2**29
"""Pixels that one run of the network can be held to: less cuts images into tiles that show no face."""

MOST_THREADS = 1024
"""A count beyond it is a slip: no processor has so many cores, and each thread takes memory."""

MOST_IMAGE = 999_999_999
"""Pixels of an image file; none has more, since Pillow takes four bytes for each."""

CONTRADICTIONS = (
    ("infer_size", "max_side"),
    ("infer_size", "scales"),
    *(("preset", name) for name in ("infer_size", "max_side", "scales", "flip", "tile", "merge")),
)
"""Pairs of settings of which at most one may differ from its default."""


@frozen(kw_only=True)
class Config(SettingsRecord):
    """The settings of a detector, checked; ``None`` leaves a value to the detector.

    Args:
        detector: the detector's name, or ``distribution/name``.
        weights: a name in the detector's manifest, or a path; ``None`` is its default.
        artifacts: a folder that ``polyface export --output`` filled, searched before the user's cache.
        backend: the backend's name; ``"auto"`` takes the most preferred that can run the detector as asked.
        device: such as ``"cpu"`` or ``"cuda:1"``; ``"auto"`` takes the first the backend has.
        precision: such as ``"fp32"``.
        score_threshold: a face must score at least this; in [0, 1].
        iou_threshold: NMS drops a box that overlaps a higher-scoring one by more than this; in [0, 1].
        max_side: images with a longer side are shrunk to it, in pixels; smaller ones are never enlarged.
        draft: a JPEG file that the network sees at a quarter of its sides or less is decoded at 1/2, 1/4 or 1/8 of
            them, at least twice what the network sees: faster, and boxes and scores move a little.
        formats: Pillow's names of formats to read beside the usual, which are
            :data:`polyface.machine.formats.ENDINGS`; some of them run programs on what the file holds, as ``EPS`` runs
            Ghostscript.
        max_pixels: the most pixels an image file may be decoded to; a draft counts by its own. ``None`` is
            178,956,970, and for files that hold more than 250 pixels to a byte 16,000,000.
        infer_size: height and width of the network's input, in pixels, whatever the image's size; small images are
            enlarged to it. ``pad_to`` has no part in it; ``max_side`` contradicts it.
        fit: how an image fills ``infer_size``: ``"letterbox"`` keeps its proportions and pads right and below,
            ``"stretch"`` does not keep them.
        pad_to: images are padded right and below to a multiple of this, in pixels; 1 is the exact size.
        view: ``"auto"`` finds faces of every size in an image of any size: what the detector's network sees well
            decides which shrunken views there are, and ``run_pixels`` which tiles. ``"plain"`` has the network see the
            image once at each scale, whatever its size, and so do ``preset`` and ``infer_size``.
        preset: a published protocol by its name, such as ``"widerface-1600"``: views, merging and thresholds; see
            :data:`polyface.pipeline.presets.PRESETS`. Thresholds that are set are stronger.
        scales: the network sees the image at each of these factors, after ``max_side``; more than 1 enlarges.
        flip: see each view mirrored, too; left and right landmarks change places back.
        tile: what is longer than this after scaling is seen in square tiles of this side, in pixels, and once as a
            whole, shrunk to it.
        tile_overlap: the part of their side that neighbouring tiles share; in [0, 0.9].
        merge: how what the views show becomes one answer: ``"nms"``, or ``"vote"`` for the means of boxes that overlap,
            weighted by score.
        clip: clip boxes and landmarks to the image.
        batch_size: at most so many images go through the network at once.
        run_pixels: a run of the network takes at most so many pixels of input, from 65,536 on; ``None`` is the
            detector's. A larger view is seen in overlapping tiles, unless ``view`` is plain.
        threads: how many threads of the processor the network runs on; ``None`` takes one for each core that this
            process may use, as :func:`polyface.machine.cores.default_threads` counts them.
        trim: give free memory back to the system after runs at new shapes, which keeps the process from growing over
            images of ever new sizes and takes time; ``None`` leaves it to the backend, which knows whether it grows.
        backend_options: the backend's own options.
        timing: measure the seconds of each stage, for :attr:`polyface.Detections.timing` and ``polyface detect``.
        sources: where each value that is not a default came from.

    Raises:
        ConfigError: a value is of the wrong type or out of range, or two settings contradict each other.
    """

    owner: ClassVar[str] = "a detector"

    detector: str = setting("retinaface-mobilenet025", values.text, "NAME", "Detector to use.")
    weights: str | None = setting(
        None,
        values.text,
        "NAME|FILE",
        "Weights: a name of the detector's, or a checkpoint file.",
        path_in=lambda choice: choice if is_path(choice) else "",
    )
    artifacts: str | None = setting(
        None, values.text, "DIR", "Folder of exported graphs, searched before the user's cache.", path_in=str
    )
    backend: str = setting("auto", values.text, "NAME", "Backend to run it on, or auto.")
    device: str = setting("auto", values.text, "DEVICE", "Device, such as cpu or cuda:1, or auto.")
    precision: str = setting("fp32", values.text, "PRECISION", "Precision of the network, such as fp32.")
    score_threshold: float | None = setting(None, values.fraction(), "0-1", "Least score of a face.")
    iou_threshold: float | None = setting(None, values.fraction(), "0-1", "Overlap above which NMS drops a box.")
    max_side: int | None = setting(None, values.count, "PIXELS", "Shrink images whose longer side is longer than this.")
    draft: bool = setting(
        False, values.flag, "", "Decode JPEG files smaller, where they are shrunk to a quarter or less."
    )
    formats: tuple[str, ...] = setting(
        (),
        values.formats,
        "NAME,...",
        "Read these formats, too, by Pillow's names.",
        guard="some formats run a program",
    )
    max_pixels: int | None = setting(
        None,
        values.whole(1, MOST_IMAGE),
        "COUNT",
        "Refuse image files of more pixels than this.",
        guard="it keeps images from filling the memory",
    )
    infer_size: tuple[int, int] | None = setting(
        None,
        values.size,
        "HEIGHTxWIDTH",
        "Run the network at this size, height first, such as 480x640.",
        costs=True,
        between="x",
    )
    fit: str = setting(
        "letterbox",
        values.one_of("letterbox", "stretch"),
        "HOW",
        "Bring images to --infer-size by letterbox or stretch.",
    )
    pad_to: int = setting(32, values.count, "PIXELS", "Pad images to a multiple of this; 1 is the exact size.")
    view: str = setting(
        "auto",
        values.one_of("auto", "plain"),
        "HOW",
        "Find faces of every size (auto), or see images once (plain).",
        costs=True,
    )
    preset: str | None = setting(
        None, values.text, "NAME", "Test-time protocol: widerface-original, widerface-1600 or dsfd-multiscale."
    )
    scales: tuple[float, ...] = setting(
        (1.0,), values.scales, "FACTOR,...", "See images at these scales, such as 0.5,1,2."
    )
    flip: bool = setting(False, values.flag, "", "See images mirrored, too.")
    tile: int | None = setting(None, values.count, "PIXELS", "See what is longer than this in tiles of this side.")
    tile_overlap: float = setting(
        0.25, values.fraction(0.9), "0-0.9", "Part of their side that neighbouring tiles share."
    )
    merge: str = setting("nms", values.one_of("nms", "vote"), "HOW", "Merge what is found by nms or by vote.")
    clip: bool = setting(False, values.flag, "", "Clip boxes and landmarks to the image.")
    batch_size: int = setting(8, values.count, "COUNT", "Most images in one run of the network.")
    run_pixels: int | None = setting(
        None,
        values.whole(LEAST_RUN, MOST_RUN),
        "COUNT",
        "Most pixels in one run of the network, which bound its memory.",
        costs=True,
    )
    threads: int | None = setting(
        None, values.whole(1, MOST_THREADS), "COUNT", "Threads the network runs on; default: one a core."
    )
    trim: bool | None = setting(None, values.flag, "", "Give free memory back to the system after runs at new shapes.")
    backend_options: Mapping[str, Any] = setting(
        MappingProxyType({}), values.table, "NAME=VALUE,...", "Options of the backend's own; see `polyface backends`."
    )
    timing: bool = setting(
        False, values.flag, "", "Show the seconds of each stage: read, prepare, network, trim, decode, NMS, write."
    )

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        for first, second in CONTRADICTIONS:
            if self._given(first) and self._given(second):
                raise ConfigError(
                    f"{first} and {second} contradict each other.",
                    why=[f"{name} is set ({self.sources.get(name, 'keyword')})" for name in (first, second)],
                    fix="set one of them",
                )

    def _given(self, name: str) -> bool:
        return bool(getattr(self, name) != getattr(attrs.fields(Config), name).default)

    def replace(self, **changes: Unpack[AllSettings]) -> Config:
        """Return a copy with these settings changed.

        Raises:
            ConfigError: there is no such setting, or the value is wrong.
        """
        check_names(changes, [Config], [Job], "keyword")
        sources = {**self.sources, **dict.fromkeys(changes, "keyword")}
        return Config(**{**self.as_dict(), **changes}, sources=sources)


def one_view(config: Config) -> Config:
    """Return the settings with a plain view, unless they say which: a network is measured, not a plan of views."""
    return config if "view" in config.sources else config.replace(view="plain")
