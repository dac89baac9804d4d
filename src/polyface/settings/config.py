"""The settings of a detector, and those of a job: what becomes of the results. A detector has no part in these."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Unpack

import attrs
from attrs import frozen

from polyface.errors import ConfigError
from polyface.settings import values
from polyface.settings.keywords import AllSettings
from polyface.settings.paths import is_file, is_path, split_output
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


def contradicted(name: str) -> list[str]:
    """Return the settings that one contradicts."""
    return [other for pair in CONTRADICTIONS if name in pair for other in pair if other != name]


@frozen(kw_only=True)
class Config(SettingsRecord):
    """The settings of a detector, checked; ``None`` leaves a value to the detector.

    Args:
        detector: detector to use, by its name or as distribution/name; or an ONNX file, with its family.
        family: family of the network in a detector's file; by default what mine.toml beside mine.onnx says.
        family_options: what a detector's file does not say, such as mean=[127,127,127]; options of its family, which
            `polyface detectors` lists.
        weights: a name of the detector's, a checkpoint file, or an ONNX file; by default the detector's own choice.
        artifacts: folder of exported graphs, searched before the user's cache.
        backend: backend to run it on; auto takes the most preferred that can run it as asked.
        device: device, such as cpu or cuda:1; auto takes the first the backend has.
        precision: precision of the network, such as fp32.
        score_threshold: least score of a face, from 0 to 1.
        iou_threshold: NMS drops a box whose IoU with a higher-scoring one is more than this, from 0 to 1.
        max_side: shrink images whose longer side is longer than this, in pixels; smaller ones are never enlarged.
        draft: decode JPEG files smaller (1/2, 1/4 or 1/8), where the network sees a quarter of their sides or less:
            faster, and boxes and scores move a little. The network sees at most half of what is decoded.
        formats: read these formats, too, by Pillow's names; some run programs on what the file holds, as EPS runs
            Ghostscript.
        max_pixels: refuse image files that are decoded to more pixels than this; a draft counts by its own. By default
            178,956,970, and 16,000,000 for files that hold more than 250 pixels to a byte.
        damaged: JPEG files that are cut short: refuse them, or read what can be read, and say in the result that they
            are damaged. What is missing is grey.
        infer_size: run the network at this size, height first, in pixels, such as 480x640; small images are enlarged.
            By default the detector's, if it has one.
        fit: how an image fills ``infer_size``: letterbox keeps its proportions and pads right and below, stretch does
            not keep them.
        pad_to: pad images right and below to a multiple of this, in pixels, unless ``infer_size`` is set; 1 is the
            exact size.
        view: find faces of every size in an image of any size, by shrunken views and tiles (auto), or see it once at
            each scale (plain), as ``preset`` and ``infer_size`` do.
        preset: test-time protocol of views, merging and thresholds: widerface-original, widerface-1600 or
            dsfd-multiscale. Thresholds that are set are stronger.
        scales: see images at these scales, such as 0.5,1,2, after ``max_side``; more than 1 enlarges.
        flip: see each view mirrored, too; left and right landmarks change places back.
        tile: see what is longer than this, in pixels, after scaling in square tiles of this side, and once as a whole,
            shrunk to it.
        tile_overlap: part of their side that neighbouring tiles share, from 0 to 0.9.
        merge: how boxes that overlap become one face: nms keeps the best, vote takes the mean of the best of each view,
            blend that of all, both weighted by score; by default as the detector does.
        clip: clip boxes and landmarks to the image.
        batch_size: most images in one run of the network; one that takes a fixed number gets that, filled up with
            zeros.
        run_pixels: most pixels in one run of the network, which bound its memory, from 65,536 on; by default the
            detector's. A larger view is seen in overlapping tiles, unless ``view`` is plain.
        threads: threads the network runs on; by default one for each core that this process may use.
        runs: networks that run side by side in a stream of images, sharing its threads; by default 1, and 2 on a
            processor of two cores or more for `polyface detect` and its like.
        workers: threads that read, prepare and merge the images of a stream while the network runs; 0 does one after
            the other. By default one for each core that this process may use, and one more.
        trim: give free memory back to the system after runs at new shapes, which keeps the process from growing and
            takes time; by default as the backend needs it.
        backend_options: options of the backend's own; see `polyface backends`.
        timing: measure the seconds of each stage: read, prepare, network, trim, decode, NMS, write. Commands show
            them; in Python they are in ``Detections.timing``.
        sources: where each value that is not a default came from.

    Raises:
        ConfigError: a value is of the wrong type or out of range, or two settings contradict each other.
    """

    owner: ClassVar[str] = "a detector"

    detector: str = setting(
        "retinaface-mobilenet025",
        values.text,
        "NAME|FILE",
        path_in=lambda choice: choice if is_file(choice) else "",
    )
    family: str | None = setting(None, values.text, "NAME")
    family_options: Mapping[str, Any] = setting(MappingProxyType({}), values.table, "NAME=VALUE,...")
    weights: str | None = setting(
        None, values.text, "NAME|FILE", path_in=lambda choice: choice if is_path(choice) else ""
    )
    artifacts: str | None = setting(None, values.text, "DIR", path_in=str)
    backend: str = setting("auto", values.text, "NAME")
    device: str = setting("auto", values.text, "DEVICE")
    precision: str = setting("fp32", values.text, "PRECISION")
    score_threshold: float | None = setting(None, values.fraction(), "0-1")
    iou_threshold: float | None = setting(None, values.fraction(), "0-1")
    max_side: int | None = setting(None, values.count, "PIXELS")
    draft: bool = setting(False, values.flag)
    formats: tuple[str, ...] = setting((), values.formats, "NAME,...", guard="some formats run a program")
    max_pixels: int | None = setting(
        None, values.whole(1, MOST_IMAGE), "COUNT", guard="it keeps images from filling the memory"
    )
    damaged: str = setting("refuse", values.one_of("refuse", "read"), "HOW")
    infer_size: tuple[int, int] | None = setting(None, values.size, "HEIGHTxWIDTH", costs=True, between="x")
    fit: str = setting("letterbox", values.one_of("letterbox", "stretch"), "HOW")
    pad_to: int = setting(32, values.count, "PIXELS")
    view: str = setting("auto", values.one_of("auto", "plain"), "HOW", costs=True)
    preset: str | None = setting(None, values.text, "NAME")
    scales: tuple[float, ...] = setting((1.0,), values.scales, "FACTOR,...")
    flip: bool = setting(False, values.flag)
    tile: int | None = setting(None, values.count, "PIXELS")
    tile_overlap: float = setting(0.25, values.fraction(0.9), "0-0.9")
    merge: str | None = setting(None, values.one_of("nms", "vote", "blend"), "HOW")
    clip: bool = setting(False, values.flag)
    batch_size: int = setting(8, values.count, "COUNT")
    run_pixels: int | None = setting(None, values.whole(LEAST_RUN, MOST_RUN), "COUNT", costs=True)
    threads: int | None = setting(None, values.whole(1, MOST_THREADS), "COUNT")
    runs: int | None = setting(None, values.whole(1, MOST_THREADS), "COUNT")
    workers: int | None = setting(None, values.whole(0, MOST_THREADS), "COUNT")
    trim: bool | None = setting(None, values.flag)
    backend_options: Mapping[str, Any] = setting(MappingProxyType({}), values.table, "NAME=VALUE,...")
    timing: bool = setting(False, values.flag)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        for pair in CONTRADICTIONS:
            if all(self.differs(name) for name in pair):
                why = [f"{name} is set ({self.sources.get(name, 'keyword')})" for name in pair]
                raise ConfigError(f"{' and '.join(pair)} contradict each other.", why=why, fix="leave one of them out")

    def is_given(self, name: str) -> bool:
        """Return whether a setting was given, be it with the value that it has by default."""
        return name in self.sources or self.differs(name)

    def differs(self, name: str) -> bool:
        """Return whether a setting has another value than its default."""
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


@frozen(kw_only=True)
class Job(SettingsRecord):
    """The settings of a job, such as ``polyface detect``, checked.

    Args:
        output: folder for the images that the command makes and faces.jsonl, or a file by its ending.
        json: write JSON to standard output, and nothing else there.
        resume: go on with what a run before wrote; images that it has done, failed ones among them, are left out.
        follow_links: search the folders that links in a folder lead to, too, each once, so that circles end; true by
            default. A link to a file is read in any case.
        max_errors: stop after more than this many images that could not be done; by default never.
        sources: where each value that is not a default came from.

    Raises:
        ConfigError: a value is of the wrong type.
    """

    owner: ClassVar[str] = "a job, such as polyface detect"

    output: tuple[str, ...] = setting(
        (), values.texts, "DIR|FILE|WRITER:PATH", path_in=lambda output: split_output(output)[1], repeat=True
    )
    json: bool = setting(False, values.flag)
    resume: bool = setting(False, values.flag)
    follow_links: bool = setting(True, values.flag)
    max_errors: int | None = setting(None, values.whole(0, MOST_IMAGE), "COUNT")
