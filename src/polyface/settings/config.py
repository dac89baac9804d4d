"""Settings: what they are, and where each value came from.

From weakest to strongest: the detector's and polyface's own defaults, ``polyface.toml``, ``[tool.polyface]`` in
``pyproject.toml``, ``POLYFACE_*`` in the environment, keywords and command-line options. The fields of :class:`Config`
are the one list of settings: files, environment, keywords and options are all read off it.
"""

from __future__ import annotations

import difflib
import logging
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
from attrs import field, frozen

from polyface.errors import ConfigError, nearest, quoted, shortened
from polyface.settings.environment import is_foreign
from polyface.settings.files import Source, find_sources, read_named
from polyface.settings.paths import expand_user, is_path
from polyface.settings.values import (
    MOST,
    parse_flag,
    parse_formats,
    parse_fraction,
    parse_one_of,
    parse_scales,
    parse_size,
    parse_table,
    parse_text,
    parse_whole,
)

LOG = logging.getLogger(__name__)
"""Says as a warning what is left out, and as information which files take part; the command line prints both."""

RESERVED = ("CONFIG", "DISABLE_PLUGINS", "HOME", "OFFLINE", "PLUGINS", "SHARED", "STRICT_PLUGINS")
"""``POLYFACE_*`` names that are not settings: CONFIG names a file, HOME a folder, SHARED the tests' data; OFFLINE
forbids to fetch."""

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

PATHS = ("artifacts", "output", "weights")
"""Settings that name files; ``weights`` only where it is no name in a manifest."""

GUARDS = {"formats": "some formats run a program", "max_pixels": "it keeps images from filling the memory"}
"""Settings that only the user may change, since they guard against the images of others; and why."""

COSTS = {"infer_size", "run_pixels", "view"}
"""Settings by which a file may lift the bound on the memory of a run."""

NEAR = 0.8
"""From this likeness on (of :mod:`difflib`), an unknown variable is taken for a slip in the name of a known one."""


def _setting(default: Any, read: Callable[[object], Any], wanted: str, help_text: str) -> Any:
    return field(default=default, metadata={"read": read, "wanted": wanted, "help": help_text})


@frozen(kw_only=True)
class Config:
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
        output: where ``polyface detect`` writes; ``json`` has it print JSON lines.
        sources: where each value that is not a default came from.

    Raises:
        ConfigError: a value is of the wrong type or out of range, or two settings contradict each other.
    """

    detector: str = _setting("retinaface-mobilenet025", parse_text, "NAME", "Detector to use.")
    weights: str | None = _setting(
        None, parse_text, "NAME|FILE", "Weights: a name of the detector's, or a checkpoint file."
    )
    artifacts: str | None = _setting(
        None, parse_text, "DIR", "Folder of exported graphs, searched before the user's cache."
    )
    backend: str = _setting("auto", parse_text, "NAME", "Backend to run it on, or auto.")
    device: str = _setting("auto", parse_text, "DEVICE", "Device, such as cpu or cuda:1, or auto.")
    precision: str = _setting("fp32", parse_text, "PRECISION", "Precision of the network, such as fp32.")
    score_threshold: float | None = _setting(None, parse_fraction(), "0-1", "Least score of a face.")
    iou_threshold: float | None = _setting(None, parse_fraction(), "0-1", "Overlap above which NMS drops a box.")
    max_side: int | None = _setting(
        None, parse_whole(1, MOST), "PIXELS", "Shrink images whose longer side is longer than this."
    )
    draft: bool = _setting(
        False, parse_flag, "", "Decode JPEG files smaller, where they are shrunk to a quarter or less."
    )
    formats: tuple[str, ...] = _setting((), parse_formats, "NAME,...", "Read these formats, too, by Pillow's names.")
    max_pixels: int | None = _setting(
        None, parse_whole(1, MOST_IMAGE), "COUNT", "Refuse image files of more pixels than this."
    )
    infer_size: tuple[int, int] | None = _setting(
        None, parse_size, "HEIGHTxWIDTH", "Run the network at this size, height first, such as 480x640."
    )
    fit: str = _setting(
        "letterbox",
        parse_one_of("letterbox", "stretch"),
        "HOW",
        "Bring images to --infer-size by letterbox or stretch.",
    )
    pad_to: int = _setting(32, parse_whole(1, MOST), "PIXELS", "Pad images to a multiple of this; 1 is the exact size.")
    view: str = _setting(
        "auto", parse_one_of("auto", "plain"), "HOW", "Find faces of every size (auto), or see images once (plain)."
    )
    preset: str | None = _setting(
        None, parse_text, "NAME", "Test-time protocol: widerface-original, widerface-1600 or dsfd-multiscale."
    )
    scales: tuple[float, ...] = _setting(
        (1.0,), parse_scales, "FACTOR,...", "See images at these scales, such as 0.5,1,2."
    )
    flip: bool = _setting(False, parse_flag, "", "See images mirrored, too.")
    tile: int | None = _setting(
        None, parse_whole(1, MOST), "PIXELS", "See what is longer than this in tiles of this side."
    )
    tile_overlap: float = _setting(
        0.25, parse_fraction(0.9), "0-0.9", "Part of their side that neighbouring tiles share."
    )
    merge: str = _setting("nms", parse_one_of("nms", "vote"), "HOW", "Merge what is found by nms or by vote.")
    clip: bool = _setting(False, parse_flag, "", "Clip boxes and landmarks to the image.")
    batch_size: int = _setting(8, parse_whole(1, MOST), "COUNT", "Most images in one run of the network.")
    run_pixels: int | None = _setting(
        None,
        parse_whole(LEAST_RUN, MOST_RUN),
        "COUNT",
        "Most pixels in one run of the network, which bound its memory.",
    )
    threads: int | None = _setting(
        None, parse_whole(1, MOST_THREADS), "COUNT", "Threads the network runs on; default: one a core."
    )
    trim: bool | None = _setting(None, parse_flag, "", "Give free memory back to the system after runs at new shapes.")
    backend_options: Mapping[str, Any] = _setting(
        MappingProxyType({}), parse_table, "NAME=VALUE,...", "Options of the backend's own; see `polyface backends`."
    )
    timing: bool = _setting(
        False, parse_flag, "", "Show the seconds of each stage: read, prepare, network, trim, decode, NMS, draw."
    )
    output: str | None = _setting(None, parse_text, "DIR", "Folder for the drawn images and faces.jsonl.")
    json: bool = _setting(False, parse_flag, "", "Write JSON to standard output, and nothing else there.")
    sources: Mapping[str, str] = field(factory=dict, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        for key in settings():
            value = getattr(self, key.name)
            if value is not None or key.default is not None:
                read = _read(key, value, self.sources.get(key.name, "keyword"))
                object.__setattr__(self, key.name, read)
        for first, second in CONTRADICTIONS:
            if self._given(first) and self._given(second):
                raise ConfigError(
                    f"{first} and {second} contradict each other.",
                    why=[f"{name} is set ({self.sources.get(name, 'keyword')})" for name in (first, second)],
                    fix="set one of them",
                )

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (self.as_dict(), dict(self.sources))

    def _given(self, name: str) -> bool:
        return bool(getattr(self, name) != getattr(attrs.fields(Config), name).default)

    def replace(self, **changes: Any) -> Config:
        """Return a copy with these settings changed.

        Raises:
            ConfigError: there is no such setting, or the value is wrong.
        """
        _check_known(changes, "keyword")
        sources = {**self.sources, **dict.fromkeys(changes, "keyword")}
        return Config(**{**self.as_dict(), **changes}, sources=sources)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings by name, as plain values: ``Config(**config.as_dict()) == config``."""
        return {key.name: _plain(getattr(self, key.name)) for key in settings()}


def settings() -> tuple[attrs.Attribute[Any], ...]:
    """Return the settings, as attrs describes them; ``metadata`` holds ``read``, ``wanted`` and ``help``."""
    return tuple(key for key in attrs.fields(Config) if "read" in key.metadata)


def load_config(
    path: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    source: str = "keyword",
    **overrides: Any,
) -> Config:
    """Merge files, environment and keywords into one :class:`Config`.

    A file that is named, by ``path`` or ``POLYFACE_CONFIG``, is read as it is. One that is found takes part only if it
    and its folder belong to the user who runs this, or to root, and not everyone may write to them; the search goes
    into no other folder. What it names (``artifacts``, ``output``, ``weights`` as a path) must lie below its own
    folder, links resolved, and ``formats`` and ``max_pixels`` it cannot set.

    The logger ``polyface.settings.config`` says as a warning what is left out, and as information when a file that was
    found lies above the current folder, names files, or sets what bounds memory; the command line prints both.

    Args:
        path: the file to read; without it ``POLYFACE_CONFIG``, or the ``polyface.toml`` and ``pyproject.toml`` of the
            nearest folder that has settings, from ``directory`` upwards.
        environ: the environment; ``os.environ`` by default.
        directory: where the search starts; the current folder by default.
        source: what to call the overrides when one is wrong.
        **overrides: the strongest values; ``None`` leaves a setting to the weaker sources.

    Raises:
        ConfigError: a file cannot be read, a key is unknown, or a value is wrong; says where it stands.
    """
    environ = os.environ if environ is None else environ
    chosen = path if path is not None else environ.get("POLYFACE_CONFIG") or None
    found = read_named(Path(chosen)) if chosen is not None else find_sources(directory, environ, LOG.warning)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    _check_known(overrides, source)
    for origin, table in (
        *((source.origin, _from_file(source)) for source in found),
        *_from_environment(environ),
        (source, {key: value for key, value in overrides.items() if value is not None}),
    ):
        _check_known(table, origin)
        for name, value in table.items():
            values[name] = value
            sources[name] = origin
    return Config(**values, sources=sources)


def one_view(config: Config) -> Config:
    """Return the settings with a plain view, unless they say which: a network is measured, not a plan of views."""
    return config if "view" in config.sources else config.replace(view="plain")


def _check_known(table: Mapping[str, Any], origin: str) -> None:
    names = [key.name for key in settings()]
    for name in table:
        if name not in names:
            raise ConfigError(
                f"There is no setting {quoted(name)} ({origin}){nearest(name, names) or '.'}",
                why=[f"the settings: {', '.join(names)}"],
            )


def _read(key: attrs.Attribute[Any], value: object, origin: str) -> Any:
    try:
        return key.metadata["read"](value)
    except ValueError as error:
        raise ConfigError(f"{key.name} must be {error}, not {quoted(value)} ({origin}).") from None


def _from_file(source: Source) -> dict[str, Any]:
    """The settings of a file, its paths anchored to its folder; those of a file that was found lead nowhere else."""
    table = {name: _anchored(name, value, source.folder) for name, value in source.table.items()}
    named = [name for name, value in table.items() if _names_file(name, value)]
    if source.found:
        for name in named:
            _check_inside(name, table[name], source)
        for name, why in GUARDS.items():
            if table.get(name):
                raise _refused(f"{name} cannot be set by a file that was found", [why], source)
        if source.above or named or not COSTS.isdisjoint(table):
            LOG.info("settings from %s: %s", source.origin, ", ".join(source.table))
    return table


def _names_file(name: str, value: Any) -> bool:
    return isinstance(value, str) and name in PATHS and (name != "weights" or is_path(value))


def _anchored(name: str, value: Any, folder: Path) -> Any:
    """Paths in a file are meant from where the file lies."""
    return str(folder / expand_user(value)) if _names_file(name, value) else value


def _check_inside(name: str, path: str, source: Source) -> None:
    """Refuse what leads out of the folder of a file that was found: it may be a clone of a stranger's."""
    try:
        real = Path(path).resolve()
        if real.is_relative_to(source.folder.resolve()):
            return
        why = f"it leads to {real}"
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, a NUL
        why = str(error)
    what = f"{name} must lie below the folder of the file that sets it, not {quoted(path)}"
    raise _refused(what, [why, "the file was found, not named, and may be a stranger's"], source)


def _refused(what: str, why: Sequence[str], source: Source) -> ConfigError:
    file = shlex.quote(str(source.path))
    fix = f"if it is yours: --config {file}, or POLYFACE_CONFIG={file}"
    return ConfigError(f"{what} ({source.origin}).", why=why, fix=fix)


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    ours = [key.name.upper() for key in settings()]
    names = [*ours, *RESERVED]
    for variable, text in environ.items():
        name = variable.removeprefix("POLYFACE_")
        if name == variable or name in RESERVED or not text:
            continue
        if name in ours:
            yield f"environment {variable}", {name.lower(): text}
        elif is_foreign(name, text):
            continue
        elif len(name) < 100 and difflib.get_close_matches(name.upper(), names, n=1, cutoff=NEAR):
            raise ConfigError(
                f"There is no setting {variable} (environment){nearest(name.upper(), names, prefix='POLYFACE_')}",
                why=["an unknown variable is passed over, but this is nearly one that is known"],
            )
        else:
            LOG.warning("%s is no setting, and is passed over (environment)", shortened(variable, 100))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def _unpickle(values: dict[str, Any], sources: dict[str, str]) -> Config:
    return Config(**values, sources=sources)
