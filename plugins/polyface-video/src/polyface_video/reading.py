"""Videos as they are read: frames in the order in which they are shown, upright, each with its number and its time."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.error
import numpy as np
from attrs import frozen
from av.video.reformatter import VideoReformatter

from polyface.errors import ImageError, reason_of

if TYPE_CHECKING:
    from polyface.arrays import ImageArray

SHORT = 0.5
"""Seconds that may be missing at the end of a video before it is said to be cut short."""

BASE = Fraction(1, 90_000)
"""The unit of time stamps where a video has none."""

RATE = Fraction(25)
"""Frames a second where neither time stamps nor a rate say when frames are shown."""


@frozen(kw_only=True)
class VideoInfo:
    """What a video says of itself.

    Args:
        width: of its frames as they are shown, in pixels.
        height: likewise.
        rotation: by how many degrees its frames are turned, clockwise, to be shown: 0, 90, 180 or 270.
        frames: how many there are; ``None`` where it does not say.
        rate: frames a second, on average; ``None`` where it does not say.
        duration: in seconds; ``None`` where it does not say.
        time_base: seconds a unit of its time stamps.
        start: the first time stamp.
    """

    width: int
    height: int
    rotation: int
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
        pts: its time stamp, in units of the video's time base; ``None`` where it has none.
        image: RGB uint8 ``(height, width, 3)``, upright; ``None`` of one that cannot be decoded.
        damaged: a part of it is missing, and was made up by the decoder.
    """

    number: int
    time: float
    pts: int | None
    image: ImageArray | None
    damaged: bool = False


def open_video(path: str | Path) -> VideoInfo:
    """Return what a video says of itself.

    Raises:
        ImageError: it cannot be read as a video.
    """
    with _opened(str(path)) as container:
        first = next((frame for frame in _decode(_Packets(container)) if not isinstance(frame, _Lost)), None)
        if first is None:
            raise ImageError("it has no frame that can be decoded")
        return _info_of(container, _turns(first) * 90)


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
        path: of the file, or an address.
        start: frames that are shown earlier are left out; in seconds since the beginning of the video.
        end: frames that are shown then or later are left out.
        format: of FFmpeg's names of formats; found out by default.
        options: of FFmpeg, for that format.
        timeout: seconds for which a stream may say nothing; without end by default.

    Raises:
        ImageError: it cannot be read as a video; or, after the frames up to there, it is damaged or cut short.
    """
    with _opened(str(path), format=format, options=options or {}, timeout=timeout) as container:
        info = _info_of(container)
        converter = VideoReformatter()  # one for each frame would make its tables anew
        listed = len(container.streams.video[0].index_entries)
        packets = _Packets(container)
        usual = float(1 / (info.rate or RATE))
        number, time, end_of_last = 0, 0.0, 0.0
        for decoded in _decode(packets):
            if decoded.pts is not None:
                time = float((decoded.pts - info.start) * info.time_base)
            elif number:
                time += usual
            end_of_last = time + (float((decoded.duration or 0) * info.time_base) or usual)
            if end is not None and time >= end:
                return
            if time >= start:
                lost = isinstance(decoded, _Lost)
                yield Frame(
                    number=number,
                    time=time,
                    pts=decoded.pts,
                    image=None if lost else _upright(decoded, converter),
                    damaged=not lost and bool(decoded.is_corrupt),
                )
            number += 1
        if number == 0:
            raise ImageError("it has no frame that can be decoded")
        if packets.count < listed:
            raise ImageError(f"it is cut short: {packets.count} of its {listed} frames are there")
        # An index that has every frame, and not only key frames, has been followed to its end.
        if packets.count != listed and info.duration is not None and info.duration - end_of_last > SHORT:
            raise ImageError(f"it is cut short: {end_of_last:.2f} of its {info.duration:.2f} seconds are there")


@contextlib.contextmanager
def _opened(path: str, **settings: Any) -> Iterator[Any]:
    if "\0" in path:
        raise ImageError("it cannot be read as a video: its name holds a zero byte")
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


def _reason(error: Exception) -> str:
    return "nothing came any more" if isinstance(error, av.error.ExitError) else reason_of(error)  # our own timeout


def _info_of(container: Any, rotation: int = 0) -> VideoInfo:
    stream = container.streams.video[0]
    sides = stream.codec_context.width, stream.codec_context.height
    width, height = sides[::-1] if rotation in (90, 270) else sides
    return VideoInfo(
        width=width,
        height=height,
        rotation=rotation,
        frames=stream.frames or None,
        rate=stream.average_rate or None,
        duration=_duration_of(stream),
        time_base=stream.time_base or BASE,
        start=stream.start_time or 0,
    )


def _duration_of(stream: Any) -> float | None:
    if stream.duration is not None and stream.time_base:
        return float(stream.duration * stream.time_base)
    told = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))  # of Matroska
    return int(told[1]) * 3600 + int(told[2]) * 60 + float(told[3]) if told else None


class _Packets:
    """The packets of a container's video, and how many have come."""

    def __init__(self, container: Any) -> None:
        self.count = 0
        self._packets = container.demux(container.streams.video[0])

    def __iter__(self) -> Iterator[Any]:
        try:
            for packet in self._packets:
                self.count += packet.size > 0  # an empty one is FFmpeg's sign of the end
                yield packet
        except (av.error.FFmpegError, OSError) as error:
            raise ImageError(f"it is damaged, or was cut off: {_reason(error)}") from error


@frozen
class _Lost:
    """That there is a frame which cannot be decoded: when it would be shown and for how long, as its packet says."""

    pts: int | None
    duration: int | None


def _decode(packets: _Packets) -> Iterator[Any]:
    """Yield each frame, and each that is lost, in the order in which they are shown."""
    waiting: list[_Lost] = []  # its place is before the first frame that is shown later
    for packet in packets:
        try:
            frames = packet.decode()
        except (av.error.FFmpegError, OSError):
            if not packet.is_discard:
                waiting.append(_Lost(packet.pts, packet.duration))
            continue
        for frame in frames:
            waiting.sort(key=lambda one: -math.inf if one.pts is None else one.pts)
            while waiting and (waiting[0].pts is None or frame.pts is None or waiting[0].pts < frame.pts):
                yield waiting.pop(0)
            yield frame
    yield from waiting


def _turns(frame: Any) -> int:
    """By how many quarters a frame is turned, clockwise, to be shown."""
    turns: int = round(-frame.rotation / 90) % 4
    return turns


def _upright(frame: Any, converter: VideoReformatter) -> ImageArray:
    pixels = converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
    image: ImageArray = np.ascontiguousarray(np.rot90(pixels, -_turns(frame)))
    return image
