"""Videos as they are written: new pixels at the old times, with the sound and the subtitles of their source."""

from __future__ import annotations

import collections
import contextlib
import io
import logging
import math
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import av
import av.error
import numpy as np
from attrs import field, frozen
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from polyface.errors import NO_FIX, ConfigError, Fix, ImageError, quoted
from polyface.writers.naming import FATAL
from polyface_video.plugin import WRITTEN
from polyface_video.reading import BASE, open_container, open_video

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from polyface.arrays import ImageArray

LOG = logging.getLogger(__name__)

COPIED = frozenset({"audio", "subtitle"})
"""Kinds of streams that are copied. A second video, a cover picture or telemetry could show or tell who is in it."""

KEPT_METADATA = ("language", "title")
"""What is kept of what a copied stream says of itself."""


@frozen(kw_only=True)
class Encoder:
    """How a codec is asked for a quality.

    Args:
        quality: the option that means it, where it has one; lower is better.
        default: its value.
        options: further options.
        finest: units of time a second that it can count in at most; ``None`` is without limit.
    """

    quality: str | None = None
    default: float = 0.0
    options: Mapping[str, str] = field(factory=dict)
    finest: int | None = None


ENCODERS = {
    "libx264": Encoder(quality="crf", default=20, options={"preset": "veryfast"}),
    "libx265": Encoder(quality="crf", default=24, options={"preset": "veryfast", "x265-params": "log-level=error"}),
    "libvpx-vp9": Encoder(quality="crf", default=30, options={"b:v": "0", "cpu-used": "5", "row-mt": "1"}),
    "libvpx": Encoder(quality="crf", default=20, options={"b:v": "4M", "cpu-used": "5"}),
    "libsvtav1": Encoder(quality="crf", default=32, options={"preset": "8"}),
    "mpeg4": Encoder(
        options={"flags": "+qscale", "global_quality": "354"}, finest=65_535
    ),  # 3 of 31, times FFmpeg's 118
    "h264_nvenc": Encoder(quality="cq", default=22),
    "hevc_nvenc": Encoder(quality="cq", default=26),
}
"""What is known of codecs; any other that PyAV has is taken as it is."""

PACKETS = 500
"""Packets that are read ahead, or remembered, at most, to learn how long the last frame lasts."""

MP4 = ("mp4", "mov")
"""Formats of the family of MP4."""

FINEST = 10_000_000
"""Units a second, at most, that an MP4 tells its streams' beginnings in."""

USUAL = "libx264"
"""The codec of containers that take it."""

USUAL_OF = {"webm": "libvpx-vp9", "avi": "mpeg4"}
"""The codec of containers that take no other, or none with frames ahead, by their format's name."""


class VideoWriter:
    """A video with the time stamps, colour tags, sound and subtitles of another: a context that finishes it.

    Frames are written upright, as players show those of the source, so that no rotation has to be remembered. Packets
    of sound and subtitles are copied bit for bit, with their times, as frames pass them. Where frames at the source's
    beginning or end are not written, what is heard or read only there is not copied either.

    Whatever raises within the context leaves the stream without what makes it a file: the caller drops it. So let the
    stream be that of :meth:`polyface.storage.places.Place.atomic_write`.

    Args:
        stream: open for writing in binary, and can be sought.
        name: of the file to be; its ending says the container.
        source: the video that it comes from; ``None`` where that cannot be read again, as a camera.
        size: width and height of the frames, upright.
        codec: the name of an encoder of FFmpeg, such as ``"libx264"`` or ``"h264_nvenc"``; ``None`` is the container's.
        crf: the quality, lower is better; ``None`` is the codec's usual.
        sound: whether the sound is copied; subtitles are in any case.

    Raises:
        ConfigError: there is no such container or codec, they do not fit together or with the source, or the codec has
            no such quality.
        ImageError: the source cannot be read.
    """

    def __init__(
        self,
        stream: BinaryIO,
        name: str,
        source: Path | None,
        *,
        size: tuple[int, int],
        codec: str | None = None,
        crf: float | None = None,
        sound: bool = True,
    ) -> None:
        self._name = name
        with contextlib.ExitStack() as stack:
            original = None if source is None else stack.enter_context(_Original.open(source))
            self._output = _open_output(stream, name)
            stack.callback(self._drop)
            self._video = _add_video(self._output, name, original and original.video, codec, crf)
            self._video.width, self._video.height = size
            self._video.codec_context.sample_aspect_ratio = original.ratio if original else Fraction(1)
            pixels = original.video.codec_context.pix_fmt if original else None
            self._video.pix_fmt = _choose_format(self._video.codec_context.codec, pixels, size)
            _open_encoder(self._video.codec_context)
            self._base = self._video.codec_context.time_base
            first = (original.video.start_time or 0) * original.base if original else Fraction(0)
            self._start = round(first / self._base)
            self._tags = _tags_of(original.video) if original else _Tags()
            self._copy = (
                _Copy(self._output, name, original, COPIED if sound else COPIED - {"audio"}) if original else None
            )
            self._converter = VideoReformatter()  # one for each frame would make its tables anew
            self._held: Any = None  # a frame, until it is known how long it lasts
            self._durations: dict[int, int] = {}  # of the frames that are with the encoder, by their time stamps
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is None:
                self._finish()

    def write(self, image: ImageArray, seconds: float) -> None:
        """Write a frame.

        Args:
            image: RGB uint8 ``(H, W, 3)``, upright; one of another size than was said is scaled to that, as players do
                where the size of a video changes.
            seconds: when it is shown, since the source's first time stamp; later than the frame before.

        Raises:
            OSError: it cannot be written.
            ConfigError: the codec cannot take it.
        """
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts = self._start + round(seconds / self._base)
        if self._held is not None:  # FFmpeg takes no two frames of one time
            frame.pts = max(frame.pts, self._held.pts + 1)
        frame.time_base = self._base
        if self._held is None and self._copy:
            self._copy.begin(float(frame.pts * self._base))
        if self._held is not None:
            self._encode(self._held, frame.pts - self._held.pts)
        self._held = frame

    def _encode(self, frame: Any, duration: int) -> None:
        made = self._converter.reformat(
            frame,
            width=self._video.width,
            height=self._video.height,
            format=self._video.pix_fmt,
            dst_colorspace=self._tags.matrix,
            src_color_range=FULL,
            dst_color_range=self._tags.span,
            threads=1,
        )
        made.pts, made.time_base, made.pict_type = frame.pts, frame.time_base, frame.pict_type
        self._durations[frame.pts] = duration
        self._tags.put_on(made)
        with self._failures():
            if self._copy:
                self._copy.go_on(float(frame.pts * self._base))
            for packet in self._video.encode(made):
                self._mux(packet)

    def _mux(self, packet: Any) -> None:
        packet.duration = self._durations.pop(packet.pts, packet.duration)  # encoders forget it, or guess
        packet.stream = self._video
        self._output.mux_one(packet)

    def _finish(self) -> None:
        if self._held is None:
            raise ConfigError(f"{self._name} has no frame.", why=["none was written to it"])
        last = self._held
        duration = max(1, round(1 / (self._rate * self._base)))
        if self._copy:
            with self._failures():
                duration = round(self._copy.length_of(last.pts * self._base) / self._base) or duration
        # A key frame, so that its packet comes last: an MP4 tells of no other how long it lasts.
        last.pict_type = PictureType.I
        self._encode(last, duration)
        with self._failures():
            for packet in self._video.encode(None):
                self._mux(packet)
            if self._copy:
                self._copy.end(last.pts * self._base, float((last.pts + duration) * self._base))
            self._output.close()

    @property
    def _rate(self) -> Fraction:
        return self._video.codec_context.framerate or Fraction(25)

    def _drop(self) -> None:
        with contextlib.suppress(Exception):
            self._output.close()

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except av.error.FFmpegError as error:
            if error.errno in FATAL:
                raise OSError(error.errno, error.strerror, self._name) from error
            raise ConfigError(
                f"{self._name} cannot be written.",
                why=[f"FFmpeg says: {error}"],
                fix=Fix("choose another container or codec", names=("output", "codec")),
            ) from error


@frozen
class _Original:
    """A video that is open to be copied from."""

    input: Any
    video: Any
    base: Fraction
    ratio: Fraction  # a pixel's width by its height, as it is shown

    @classmethod
    @contextlib.contextmanager
    def open(cls, source: Path) -> Iterator[_Original]:
        try:
            info = open_video(source)
        except ImageError as error:
            raise ImageError(f"{source} cannot be covered.", why=[str(error)]) from error
        with open_container(str(source)) as opened:
            yield cls(opened, opened.streams.video[0], info.time_base, info.sample_aspect_ratio)


class _Copy:
    """Sound and subtitles on their way from one video to another."""

    def __init__(self, output: Any, name: str, original: _Original, kinds: frozenset[str]) -> None:
        self._output = output
        self._name = name
        self._main = original.video.index
        self._bases = {self._main: original.base}
        self._streams: dict[int, Any] = {}
        self._left_out: list[str] = []
        for one in original.input.streams:
            if one.type in kinds:
                self._streams[one.index] = _add_copy(output, name, one)
                self._bases[one.index] = one.time_base or BASE
            elif one.index != self._main and one.type not in COPIED:
                self._left_out.append(one.type)
        if output.format.name in MP4:
            # Where a stream begins is told in these units; by default in milliseconds.
            units = math.lcm(*(base.denominator for base in self._bases.values()))
            output.container_options["movie_timescale"] = str(min(units, FINEST))
        self._packets = self._read(original.input)
        self._ahead: collections.deque[tuple[Any, float, float]] = collections.deque()
        self._after = -math.inf
        self._lengths: dict[int, int] = {}

    def begin(self, seconds: float) -> None:
        """Leave out what ends before that, if frames that come before are left out."""
        for kind in self._left_out:
            LOG.warning("%s: of its source, a stream of %s is left out", self._name, kind)
        for one in self._packets:
            self._ahead.append(one)
            packet = one[0]
            # What an edit list leaves out was no frame of the source either.
            if packet.stream.index == self._main and not packet.is_discard:
                if packet.pts is not None and float(packet.pts * self._bases[self._main]) < seconds:
                    self._after = seconds
                return

    def go_on(self, until: float) -> None:
        """Copy what begins up to a time."""
        while (one := self._next()) is not None:
            if one[1] > until:
                self._ahead.appendleft(one)
                return
            self._mux(one)

    def length_of(self, seconds: Fraction) -> Fraction:
        """How long the source shows its frame of that time; 0 where it does not say."""
        pts = round(seconds / self._bases[self._main])
        while (
            pts not in self._lengths and len(self._ahead) < PACKETS and (one := next(self._packets, None)) is not None
        ):
            self._ahead.append(one)
        return self._lengths.get(pts, 0) * self._bases[self._main]

    def end(self, last: Fraction, seconds: float) -> None:
        """Copy the rest: up to a time, if frames that come after the last are left out."""
        pts = round(last / self._bases[self._main])
        later = []
        while (one := self._next()) is not None:
            packet, begin, _ = one
            if packet.stream.index == self._main:
                if packet.pts is not None and packet.pts > pts:
                    return
            elif begin < seconds:
                self._mux(one)
            else:
                later.append(one)
        for one in later:
            self._mux(one)

    def _next(self) -> tuple[Any, float, float] | None:
        return self._ahead.popleft() if self._ahead else next(self._packets, None)

    def _mux(self, one: tuple[Any, float, float]) -> None:
        packet, _, end = one
        target = self._streams.get(packet.stream.index)
        if target is not None and end > self._after:
            packet.stream = target
            self._output.mux_one(packet)

    def _read(self, source: Any) -> Iterator[tuple[Any, float, float]]:
        """The packets of the source in their order, each with when it begins and ends, in seconds."""
        now = -math.inf
        latest: dict[int, float] = {}  # by stream, when its last packet begins
        try:
            for packet in source.demux([source.streams[index] for index in self._bases]):
                if packet.size == 0 and packet.dts is None:
                    continue  # FFmpeg's sign of the end
                index = packet.stream.index
                base = self._bases[index]
                at = packet.pts if packet.dts is None else packet.dts
                if at is not None:
                    now = float(at * base)
                    if index in self._streams and now < latest.get(index, now):
                        raise _begins_anew(source.name, latest[index])
                    latest[index] = now
                if packet.stream.index == self._main and packet.pts is not None:
                    self._lengths[packet.pts] = packet.duration or 0
                    while len(self._lengths) > PACKETS:
                        del self._lengths[next(iter(self._lengths))]
                yield packet, now, now + float((packet.duration or 0) * base)
        except av.error.FFmpegError as error:  # a damaged tail: what comes before it is copied
            LOG.warning("%s: its source is damaged; nothing is copied from there on (%s)", self._name, error)


UNKNOWN, RGB_MATRIX, LIMITED, FULL = 2, 0, 1, 2
"""FFmpeg's numbers of matrices and ranges."""


@frozen(kw_only=True)
class _Tags:
    """How a video's numbers are to be understood, as FFmpeg numbers it: matrix, range, primaries and transfer.

    ``span`` is the range that the numbers have, ``said`` what the source says of it, which may be nothing.
    """

    matrix: int = UNKNOWN
    span: int = LIMITED
    said: int = 0
    primaries: int = UNKNOWN
    transfer: int = UNKNOWN

    def put_on(self, target: Any) -> None:
        target.colorspace = self.matrix
        target.color_range = self.said
        target.color_primaries = self.primaries
        target.color_trc = self.transfer


def _tags_of(video: Any) -> _Tags:
    context = video.codec_context
    full = context.color_range == FULL or str(context.pix_fmt or "").startswith("yuvj")
    rgb = context.colorspace == RGB_MATRIX
    span = FULL if full and not rgb else LIMITED
    return _Tags(
        matrix=UNKNOWN if rgb else context.colorspace,
        span=span,
        said=span if rgb else context.color_range,
        primaries=context.color_primaries,
        transfer=context.color_trc,
    )


def check_encoder(name: str, codec: str | None, crf: float | None) -> None:
    """Check that a container and a codec fit together and work here: write a frame, and look for it.

    Raises:
        ConfigError: as of :class:`VideoWriter`.
    """
    trial = io.BytesIO()
    size = 320, 240  # encoders of hardware refuse what is much smaller
    with VideoWriter(trial, name, None, size=size, codec=codec, crf=crf) as out:
        out.write(np.zeros((*size[::-1], 3), np.uint8), 0.0)
    trial.seek(0)
    with av.open(trial) as opened:
        if not opened.streams.video:
            raise ConfigError(
                f"{name} cannot have the codec '{codec}'.",
                why=["FFmpeg writes it there, and does not find it again"],
                fix=Fix("choose another container or codec", names=("output", "codec")),
            )


def check_source(name: str, source: Path, **options: Any) -> None:
    """Check that a video can be written with what is copied of its source, before anything is found for it.

    Args:
        name: as of :class:`VideoWriter`.
        source: likewise.
        options: likewise.

    Raises:
        ConfigError: as of :class:`VideoWriter`.
        ImageError: likewise.
    """
    with contextlib.suppress(_TriedError), VideoWriter(io.BytesIO(), name, source, size=(64, 64), **options):
        raise _TriedError


def _can_hold(ending: str, source: Any) -> bool:
    with _open_output(io.BytesIO(), f"any{ending}") as output:
        try:
            output.add_stream_from_template(source)
        except (ValueError, av.error.FFmpegError):
            return False
    return True


class _TriedError(Exception):
    """Ends a trial."""


def _begins_anew(source: str, seconds: float) -> ImageError:
    return ImageError(
        f"The sound or the subtitles of {source} cannot be copied.",
        why=[f"its clock begins anew after {seconds:.2f} s, as of recordings that were joined"],
        fix=Fix(f"let FFmpeg write it anew: ffmpeg -i {source} -c copy NEW, and take that")
        | "leave the sound out: --no-sound",
    )


def _open_output(stream: BinaryIO, name: str) -> Any:
    ending = Path(name).suffix.lower()
    formats = {".mkv": "matroska", ".m4v": "mp4", ".ts": "mpegts"}
    try:
        # Times are kept as they are, also where they begin before 0.
        options = {"avoid_negative_ts": "disabled"}
        return av.open(stream, "w", format=formats.get(ending, ending[1:]), container_options=options)
    except (ValueError, av.error.FFmpegError) as error:
        raise ConfigError(
            f"No container is known that ends in {quoted(ending)}.",
            why=[str(error)],
            fix=Fix("choose .mp4 or .mkv", names=("output",)),
        ) from error


def _add_video(output: Any, name: str, source: Any, codec: str | None, crf: float | None) -> Any:
    chosen = codec or USUAL_OF.get(output.format.name) or (USUAL if USUAL in av.codecs_available else "mpeg4")
    encoder = ENCODERS.get(chosen, Encoder())
    options = dict(encoder.options)
    if encoder.quality is not None:
        options[encoder.quality] = f"{encoder.default if crf is None else crf:g}"
    elif crf is not None:
        raise ConfigError(
            f"The codec '{chosen}' has no crf.",
            why=[f"those that have: {', '.join(name for name, one in ENCODERS.items() if one.quality)}"],
            fix=Fix("leave it out, or choose one of these", names=("codec",)),
        )
    rate = (source and (source.average_rate or source.guessed_rate)) or 25
    base = (source and source.time_base) or BASE
    base = base if encoder.finest is None else max(base, Fraction(1, encoder.finest))
    try:
        made = output.add_stream(chosen, rate=rate, options=options, time_base=base)
    except (ValueError, av.error.FFmpegError) as error:
        raise ConfigError(
            f"{name} cannot have the codec '{chosen}'.",
            why=[str(error) or "there is no such encoder here"],
            fix=Fix("choose another container or codec", names=("output", "codec")),
        ) from error
    made.codec_context.thread_count = 0
    made.codec_context.max_b_frames = 2 if output.format.name in MP4 else 0
    if source is not None:
        _tags_of(source).put_on(made.codec_context)
    return made


def _open_encoder(codec: Any) -> None:
    try:
        codec.open()
    except (ValueError, av.error.FFmpegError) as error:
        raise ConfigError(
            f"The codec '{codec.name}' does not work here.",
            why=[f"FFmpeg says: {error}"],
            fix=Fix("choose another", names=("codec",)),
        ) from error


def _choose_format(codec: Any, source: str | None, size: tuple[int, int]) -> str:
    """The source's own arrangement of pixels where the codec has it; half a pixel of colour wants an even size."""
    formats = [one.name for one in codec.video_formats or ()]
    own = (source or "").replace("yuvj", "yuv")
    odd = any(side % 2 for side in size)
    wanted = ["yuv444p"] if odd else [own, "yuv420p"]
    return next((one for one in wanted if one in formats), formats[0] if formats else "yuv420p")


def _add_copy(output: Any, name: str, source: Any) -> Any:
    try:
        made = output.add_stream_from_template(source)
    except (ValueError, av.error.FFmpegError) as error:
        what = f"{source.type} ({source.codec_context.name})" if source.codec_context else source.type
        # A transport stream takes everything, and nobody knows it again.
        able = [ending for ending in WRITTEN if ending != ".ts" and _can_hold(ending, source)]
        container = Fix(f"choose {' or '.join(able)}", names=("output",)) if able else NO_FIX
        silence = Fix("leave the sound out: --no-sound") if source.type == "audio" else NO_FIX
        raise ConfigError(
            f"{name} cannot have the {what} of its source.", why=[str(error)], fix=container | silence
        ) from error
    made.metadata.update({key: source.metadata[key] for key in KEPT_METADATA if key in source.metadata})
    with contextlib.suppress(AttributeError):
        made.disposition = source.disposition
    return made
