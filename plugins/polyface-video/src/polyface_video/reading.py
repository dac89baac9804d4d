"""Videos as they are read: frames in the order in which they are shown, upright, each with its number and its time."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.error
import numpy as np
from attrs import frozen
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter

from polyface.errors import ImageError, quoted, reason_of
from polyface_video.numbered import PREFIX, Numbered

if TYPE_CHECKING:
    from polyface.arrays import ImageArray

SHORT = 0.5
"""Seconds that may be missing at the end of a video before it is said to be cut short."""

BASE = Fraction(1, 90_000)
"""The unit of time stamps where a video has none."""

EXACT = "mov", "matroska"
"""How FFmpeg's names of formats begin that have a time stamp for every frame, and begin a packet with each."""

BY_DTS = "avi", "asf"
"""Those of formats that tell when frames are decoded, and not when they are shown."""

DEPTH = 16
"""Packets after which the frame of one comes at last, if it comes: no codec needs more frames before."""

WHOLE = {"h264", "hevc", "av1", "libdav1d", "vp9", "libvpx-vp9", "mjpeg", "ffv1", "prores"}
"""FFmpeg's names of codecs of which every packet is a frame that is shown."""

RESET = 1.0
"""Seconds by which a time stamp must lie before the last frame's time, if that was guessed, for a clock begun anew."""

RATE = Fraction(25)
"""Frames a second where neither time stamps nor a rate say when frames are shown."""


@frozen(kw_only=True)
class VideoInfo:
    """What a video says of itself.

    Args:
        width: of its frames as they are shown, in pixels.
        height: likewise.
        mirrored: whether left and right of its frames are swapped to show them, before they are turned.
        rotation: by how many degrees its frames are turned, clockwise, to be shown: 0, 90, 180 or 270.
        sample_aspect_ratio: a pixel's width by its height, as it is shown.
        frames: how many there are; ``None`` where it does not say.
        rate: frames a second, on average; ``None`` where it does not say.
        duration: in seconds; ``None`` where it does not say.
        time_base: seconds a unit of its time stamps.
        start: the first time stamp.
    """

    width: int
    height: int
    mirrored: bool
    rotation: int
    sample_aspect_ratio: Fraction
    frames: int | None
    rate: Fraction | None
    duration: float | None
    time_base: Fraction
    start: int


@frozen(eq=False, kw_only=True)
class Frame:
    """A frame, or that there is one which cannot be decoded.

    Args:
        number: from 0 on, in the order in which frames are shown.
        time: when it is shown, in seconds since the beginning of the video.
        image: RGB uint8 ``(height, width, 3)``, upright; ``None`` of one that cannot be decoded.
        damaged: a part of it is missing, and was made up by the decoder.
    """

    number: int
    time: float
    image: ImageArray | None
    damaged: bool = False

    @property
    def nbytes(self) -> int:
        """The bytes of its image."""
        return 0 if self.image is None else self.image.nbytes


@frozen
class _Orientation:
    """How the rows and columns of a frame are shown: swapped or not, then from right to left, from bottom to top."""

    transposed: bool = False
    leftward: bool = False
    upward: bool = False

    @classmethod
    def of(cls, frame: Any) -> _Orientation:
        """Read the display matrix of a frame, ``x' = a x + c y`` and ``y' = b x + d y``, to the nearest quarter."""
        matrix = next((one for one in frame.side_data if one.type == Type.DISPLAYMATRIX), None)
        if matrix is None:
            return cls()
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
        return cls(True, c < 0, b < 0) if abs(b) > abs(a) else cls(False, a < 0, d < 0)

    @property
    def mirrored(self) -> bool:
        """Whether it is more than a turn."""
        return (self.leftward != self.upward) != self.transposed

    @property
    def rotation(self) -> int:
        """The turn that is left, clockwise in degrees, once left and right are swapped if it is mirrored."""
        leftward = self.leftward != (self.mirrored and not self.transposed)
        return {(False, False): 0, (True, True): 90, (False, True): 180, (True, False): 270}[self.transposed, leftward]

    def apply(self, pixels: ImageArray) -> ImageArray:
        """Return the pixels ``(H, W, 3)`` as they are shown."""
        shown = pixels.swapaxes(0, 1) if self.transposed else pixels
        return shown[:: -1 if self.upward else 1, :: -1 if self.leftward else 1]


def open_video(path: str | Path) -> VideoInfo:
    """Return what a video says of itself.

    Raises:
        ImageError: it cannot be read as a video.
    """
    with open_container(str(path)) as container:
        first = next((frame for frame in _decode(_Packets(container)) if not isinstance(frame, _Lost)), None)
        if first is None:
            raise ImageError("it has no frame that can be decoded")
        return _info_of(container, _Orientation.of(first))


def read_frames(
    path: str | Path,
    *,
    start: float = 0.0,
    end: float | None = None,
    format: str | None = None,  # noqa: A002 - FFmpeg's word
    options: dict[str, str] | None = None,
    timeout: float | None = None,
) -> Iterator[Frame]:
    """Yield the frames of a video, a sequence of images or a stream.

    A frame that cannot be decoded is one without an image, and the rest follows. What comes before the time from which
    frames are wanted is decoded as well: the numbers of frames are those of the whole video.

    Args:
        path: of the file, an address, or ``frames:folder/%05d.png`` for numbered images.
        start: frames that are shown earlier are left out; in seconds since the beginning of the video.
        end: frames that are shown then or later are left out.
        format: of FFmpeg's names of formats; found out by default.
        options: of FFmpeg, for that format.
        timeout: seconds for which a stream may say nothing; without end by default.

    Raises:
        ImageError: it cannot be read as a video; or, after the frames up to there, it is damaged or cut short.
    """
    with open_container(str(path), format=format, options=options or {}, timeout=timeout) as container:
        info = _info_of(container)
        converter = VideoReformatter()  # one for each frame would make its tables anew
        listed = len(container.streams.video[0].index_entries)
        packets = _Packets(container)
        clock = _Clock(info, by_dts=container.format.name.startswith(BY_DTS))
        number, written = 0, False
        for decoded in _decode(packets):
            time = clock.read(decoded)
            if end is not None and time >= end:
                return
            if not start or time >= start:
                lost = isinstance(decoded, _Lost)
                written = True
                yield Frame(
                    number=number,
                    time=time,
                    image=None if lost else _upright(decoded, converter),
                    damaged=not lost and bool(decoded.is_corrupt),
                )
            number += 1
        if number == 0:
            raise ImageError("it has no frame that can be decoded")
        if packets.count < listed:
            raise ImageError(f"it is cut short: {packets.count} of its {listed} frames are there")
        # An index that has every frame, and not only key frames, has been followed to its end.
        if packets.count != listed and (info.duration or 0) - clock.end > SHORT:
            raise ImageError(f"it is cut short: {clock.end:.2f} of its {info.duration or 0:.2f} seconds are there")
        if not written:
            raise ImageError(f"it has no frame from {start:g} s on: it ends at {clock.end:.2f} s")


@contextlib.contextmanager
def open_container(path: str, *, format: str | None = None, **settings: Any) -> Iterator[Any]:  # noqa: A002
    """Open a video: a context whose value is PyAV's container.

    Args:
        path: of the file, an address, or ``frames:folder/%05d.png`` for numbered images.
        format: as of :func:`read_frames`.
        settings: further ones of ``av.open``.

    Raises:
        ImageError: it cannot be read as a video.
    """
    if "\0" in path:
        raise ImageError("it cannot be read as a video: its name holds a zero byte")
    settings["format"] = format
    if format is None:
        path, settings["format"], allowed = _located(path)
        settings["options"] = {**settings.get("options", {}), **allowed}
    try:
        container = av.open(path, metadata_errors="replace", **settings)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ImageError(f"it cannot be read as a video: {_reason(error)}") from error
    with container:
        if not container.streams.video:
            raise ImageError("it has no pictures")
        # Threads that decode frames side by side would lose those that are beside a damaged one, and say nothing.
        container.streams.video[0].thread_type = "SLICE"
        yield container


CONTAINERS = (
    *("mov", "matroska", "avi", "mpeg", "mpegvideo", "mpegts", "mpegtsraw", "flv", "live_flv", "kux", "asf", "asf_o"),
    *("gif", "apng", "ogg", "nut", "mxf", "mxf_d10", "gxf", "ivf", "dv", "wtv", "rm", "dhav", "ifv", "swf", "nsv"),
    *("yuv4mpegpipe", "mjpeg", "mpjpeg", "m4v", "h261", "h263", "h264", "hevc", "vvc", "evc", "av1", "obu", "ipu"),
    *("vc1", "vc1test", "dirac", "dnxhd", "cavsvideo", "avs2", "avs3", "r3d", "cine", "amv"),
)
"""FFmpeg's names of formats that are read: each holds a video itself, and none names other files to be opened."""

STREAMED = (*CONTAINERS, "rtsp")
"""Those of streams."""


def _located(path: str) -> tuple[str, str | None, dict[str, str]]:
    """What FFmpeg is to open, in what format, and options that keep it from opening anything else.

    It takes a colon in a name for a protocol, and a text for a list of files to be read, whatever its ending.
    """
    if path.startswith(PREFIX):
        images = Numbered.of(path)
        if (first := images.find_first()) is None:
            raise ImageError(f"no image is there: {quoted(images.name(1))} would be the name of one")
        options = {"start_number": str(first), "framerate": str(RATE), "protocol_whitelist": "file"}
        return f"file:{images.pattern}", "image2", options
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) and not os.path.exists(path):  # noqa: PTH110 - it may be too long
        return path, None, {"format_whitelist": ",".join(STREAMED)}
    return f"file:{path}", None, {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file"}


def _reason(error: Exception) -> str:
    if isinstance(error, av.error.ArgumentError):  # of the whitelist
        return "it is in no format of videos that is read; what lists other files is not"
    return "nothing came any more" if isinstance(error, av.error.ExitError) else reason_of(error)  # our own timeout


def _info_of(container: Any, shown: _Orientation = _Orientation()) -> VideoInfo:
    stream = container.streams.video[0]
    sides, ratio = (stream.codec_context.width, stream.codec_context.height), stream.sample_aspect_ratio or Fraction(1)
    width, height = sides[::-1] if shown.transposed else sides
    return VideoInfo(
        width=width,
        height=height,
        mirrored=shown.mirrored,
        rotation=shown.rotation,
        sample_aspect_ratio=1 / ratio if shown.transposed else ratio,
        frames=stream.frames or None,
        rate=stream.average_rate or None,
        duration=_duration_of(stream),
        time_base=stream.time_base or BASE,
        start=stream.start_time or 0,
    )


def _duration_of(stream: Any) -> float | None:
    if stream.duration is not None and stream.time_base:
        return float(stream.duration * stream.time_base)
    told = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if told is None:
        return None
    end = int(told[1]) * 3600 + int(told[2]) * 60 + float(told[3])  # Matroska's counts from 0, wherever frames begin
    return end - float((stream.start_time or 0) * (stream.time_base or 0))


class _Clock:
    """When the frames of a video are shown, in seconds since its beginning, and when the last of them ends."""

    def __init__(self, info: VideoInfo, *, by_dts: bool) -> None:
        self._info = info
        self._by_dts = by_dts
        self._start = None if by_dts else info.start
        self._usual = float(1 / (info.rate or RATE))
        self._shift = 0.0
        self._time: float | None = None
        self._told = False
        self.end = 0.0

    def read(self, frame: Any) -> float:
        """Return when a frame is shown that comes after those before; without a time stamp, when the rate says."""
        before, time = self._time, 0.0 if self._time is None else self._time + self._usual
        stamp = frame.dts if self._by_dts else frame.pts
        if stamp is not None:
            self._start = stamp if self._start is None else self._start
            told = float((stamp - self._start) * self._info.time_base) + self._shift
            if before is not None and told < before - (0 if self._told else RESET):
                self._shift += time - told  # of joined recordings, the second follows the first
            else:
                time = told if before is None else max(told, before)
        self._told = stamp is not None
        self._time = time
        self.end = time + (float((frame.duration or 0) * self._info.time_base) or self._usual)
        return time


class _Packets:
    """The packets of a container's video, how many have come, and whether each of them is a frame that is shown."""

    def __init__(self, container: Any) -> None:
        stream = container.streams.video[0]
        self.count = 0
        self.are_frames = stream.codec_context.name in WHOLE and container.format.name.startswith(EXACT)
        self._packets = container.demux(stream)

    def __iter__(self) -> Iterator[Any]:
        try:
            for packet in self._packets:
                self.count += packet.size > 0  # an empty one is FFmpeg's sign of the end
                yield packet
        except (av.error.FFmpegError, OSError) as error:
            raise ImageError(f"it is damaged, or was cut off: {_reason(error)}") from error


@frozen
class _Lost:
    """That there is a frame which cannot be decoded: when it would be shown and for how long, as its packet says.

    ``told`` is whether the decoder said so; else it said nothing. ``order`` is that of the packet.
    """

    pts: int | None
    duration: int | None
    told: bool
    order: int
    dts: None = None


def _decode(packets: _Packets) -> Iterator[Any]:
    """Yield each frame, and each that is lost, in the order in which they are shown."""
    waiting: dict[int, _Lost] = {}  # by time stamp: of these packets no frame came yet
    held: list[Any] = []  # frames that are shown after one that may still come
    given_up: set[int] = set()  # a frame may still come of what is damaged, and too late
    begin: float | None = None  # a recording may begin amid frames that need others before: those are none
    for packet in packets:
        if begin is None:
            begin = packet.pts or 0 if packet.is_keyframe else math.inf
        try:
            frames, refused = packet.decode(), False
        except (av.error.FFmpegError, OSError):
            frames, refused = [], not packet.is_discard
        lost = _Lost(packet.pts, packet.duration, refused, packets.count)
        if packet.pts is None:
            yield from [lost] * refused
        elif refused or (packets.are_frames and packet.pts >= begin and not packet.is_discard):
            waiting[packet.pts] = lost
        for frame in frames:
            # Each half of an interlaced frame may have a packet.
            packets.are_frames &= not frame.interlaced_frame
            if begin == math.inf or not packets.are_frames:
                begin, waiting = frame.pts or 0, {pts: one for pts, one in waiting.items() if one.told}
            waiting.pop(frame.pts, None)
            if frame.pts not in given_up:
                held.append(frame)
        if packets.are_frames and all(frame.pts is not None for frame in held):
            held.sort(key=lambda frame: frame.pts)  # after damage they may come in another order
        # What refuses to decode comes no more; of what was not told, a frame may.
        coming = [pts for pts, one in waiting.items() if not one.told and packets.count - one.order < DEPTH]
        shown = _take(held, waiting, min(coming, default=math.inf) if packet.size else math.inf)
        given_up.update(one.pts for one in shown if isinstance(one, _Lost) and one.pts is not None)
        yield from shown
    yield from _take(held, waiting, math.inf)
    yield from (waiting[pts] for pts in sorted(waiting))


def _take(held: list[Any], waiting: dict[int, _Lost], until: float) -> list[Any]:
    """Take the frames that are shown before ``until``, and those lost before each of them."""
    shown = [frame for frame in held if frame.pts is None or frame.pts < until]
    held[:] = [frame for frame in held if frame not in shown]
    taken: list[Any] = []
    for frame in shown:
        taken += [waiting.pop(pts) for pts in sorted(waiting) if frame.pts is not None and pts < frame.pts]
        taken.append(frame)
    return taken


def _upright(frame: Any, converter: VideoReformatter) -> ImageArray:
    pixels: Any = converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
    image: ImageArray = np.ascontiguousarray(_Orientation.of(frame).apply(pixels))
    return image
