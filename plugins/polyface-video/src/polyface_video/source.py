"""Videos, sequences of images and cameras as sources: an item is a frame."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import math
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import attrs

from polyface.errors import ConfigError, Fix, ImageError
from polyface.plugins.options import check_options
from polyface.results import Item
from polyface_video.ahead import AHEAD, read_ahead
from polyface_video.numbered import Numbered
from polyface_video.plugin import EVERY, FPS, LIVE, SPAN
from polyface_video.reading import Frame, open_video, read_frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyface.plugins.protocols import Search
    from polyface.plugins.records import OptionSpec

LOG = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before a camera that was lost is asked again: each time twice as long."""

SILENCE, SHORTEST = 5.0, 0.1
"""Seconds after which a camera that says nothing is taken for lost: usually, and at least. Nothing stops FFmpeg before
that."""

HIDDEN = "***"
"""Stands for what may be a password."""

DROPPED = "frames that came while others were examined"


class Video:
    """The frames of a video: ``clip.mp4#0``, ``clip.mp4#1`` and so on.

    What cannot be decoded is an item with its problem. A video whose tail is missing ends with one.

    Args:
        location: its path.
        every: examine each so many frames.
        fps: examine so many frames a second.
        start: leave out frames before that, in seconds.
        end: leave out frames from then on, in seconds.

    Raises:
        ConfigError: an option is wrong, or they contradict each other.
    """

    def __init__(
        self,
        location: str,
        _search: Search,
        *,
        every: int | None = None,
        fps: float | None = None,
        start: float = 0.0,
        end: float | None = None,
    ) -> None:
        _check("Video", (EVERY, FPS, *SPAN), every=every, fps=fps, start=start, end=end)
        if end is not None and end <= start:
            raise ConfigError(f"A video cannot end at {end:g} s where it starts at {start:g} s (--start, --end).")
        self.left_out: Counter[str] = Counter()
        self._name, self._rhythm = hide_secrets(location), (every, fps)
        self._whole = start == 0 and end is None
        self._path = self._find(location)
        self._read = functools.partial(read_frames, self._path, start=start, end=end)

    def _find(self, location: str) -> str:
        """What :func:`read_frames` is called with."""
        return os.path.expanduser(location)  # noqa: PTH111 - a name that begins so and is nobody's stays

    def __iter__(self) -> Iterator[Item]:
        """Yield an item for each frame."""
        frames = read_ahead(lambda _: self._read(), lambda frame: frame.nbytes, most=AHEAD)
        with contextlib.closing(frames):
            items = _as_items(frames, lambda: (self._name, self._place()))
            yield from _examine_some(items, *self._rhythm)

    def _place(self) -> Callable[[int], PurePath]:
        """Return what returns the place of a frame in a folder of drawings."""
        return _numbered_in(PurePath(Path(self._name).stem or "video"))

    def count(self) -> int | None:
        """Return how many frames there are, where the video says it."""
        if not self._whole:
            return None
        try:
            return open_video(self._path).frames
        except ImageError:
            return 1


class Sequence(Video):
    """Images whose names are numbered, ``frames:shots/%05d.png``, as a video of 25 frames a second.

    They begin with the lowest number there is, and go up to the first that is missing. Frame 0 is the first of them. A
    frame's place in a folder of drawings is called as its image.
    """

    def _find(self, location: str) -> str:
        """What :func:`read_frames` is called with."""
        self._images = Numbered.of(location)
        return location

    def _place(self) -> Callable[[int], PurePath]:
        """Return what returns the place of a frame in a folder of drawings."""
        first, folder = self._images.find_first() or 0, PurePath(self._images.title)
        return lambda number: folder / self._images.name(first + number)


def _today() -> datetime:
    return datetime.now(UTC)


class Camera:
    """The frames of a camera of this computer, ``camera:0``, or of a stream, ``rtsp://...``.

    With ``live``, frames that come while others are examined are dropped, and a camera that is lost is asked again,
    after growing pauses. What may be a password in an address is in no name, and in no message: see
    :func:`hide_secrets`.

    Names have the time at which the first frame came, in UTC: ``camera:0@2026-11-27T02:50:10.123Z#0``. No two runs see
    the same frames, so one that goes on with the results of another adds its own.

    Args:
        location: the camera.
        every: examine each so many frames.
        fps: examine so many frames a second.
        live: drop frames rather than lag behind, and connect again where the connection is lost.
        duration: end after so many seconds.
        read: as :func:`polyface_video.reading.read_frames`.
        now: returns the seconds of a clock.
        today: returns the date and the time, in UTC.

    Raises:
        ConfigError: an option is wrong, or they contradict each other.
    """

    def __init__(
        self,
        location: str,
        _search: Search,
        *,
        every: int | None = None,
        fps: float | None = None,
        live: bool = False,
        duration: float | None = None,
        read: Callable[..., Iterator[Frame]] = read_frames,
        now: Callable[[], float] = time.monotonic,
        today: Callable[[], datetime] = _today,
    ) -> None:
        _check("Camera", (EVERY, FPS, *LIVE), every=every, fps=fps, live=live, duration=duration)
        self.left_out: Counter[str] = Counter()
        self._location, self._name = location, hide_secrets(location)
        self._rhythm, self._live, self._duration, self._now = (every, fps), live, duration, now
        self._today = today
        self._read = functools.partial(read, **_device(location))

    def __iter__(self) -> Iterator[Item]:
        """Yield an item for each frame, as they come."""
        self.left_out.clear()
        dropped = self._drop if self._live else None
        frames = read_ahead(
            self._stay if self._live else self._read_once,
            lambda frame: frame.nbytes,
            most=AHEAD,
            dropped=dropped,
        )
        with contextlib.closing(frames):
            in_time = itertools.takewhile(lambda frame: self._duration is None or frame.time < self._duration, frames)
            items = _as_items(in_time, self._begin)
            yield from _examine_some(items, *self._rhythm, last=False)

    def count(self) -> None:
        """Nobody knows."""

    def _begin(self) -> tuple[str, Callable[[int], PurePath]]:
        name = f"{self._name}@{self._today().isoformat(timespec='milliseconds').replace('+00:00', 'Z')}"
        return name, _numbered_in(PurePath(re.sub(r"\W+", "-", name).strip("-")))

    def _drop(self, _: Frame) -> None:
        self.left_out[DROPPED] += 1

    def _read_once(self, _: threading.Event) -> Iterator[Frame]:
        """The frames of one connection."""
        began: float | None = None
        try:
            for frame in self._connect(self._left(0.0)):
                began = self._now() if began is None else began
                yield frame
        except ImageError:
            if began is None or self._left(self._now() - began) > 0:
                raise

    def _stay(self, stopped: threading.Event) -> Iterator[Frame]:
        """The frames of one connection after the other; a camera that is not there at first is an error."""
        number, pause = 0, FIRST_PAUSE
        began: float | None = None

        def left() -> float:
            return self._left(0.0 if began is None else self._now() - began)

        while not stopped.is_set():
            try:
                for frame in self._connect(left()):
                    began = self._now() if began is None else began
                    pause = FIRST_PAUSE
                    yield attrs.evolve(frame, number=number, time=self._now() - began)
                    number += 1
                why = "it ended"
            except ImageError as error:
                if began is None:
                    raise
                why = str(error)
            if stopped.is_set() or left() <= 0:
                return
            over = left() <= pause
            LOG.warning("%s is lost: %s%s", self._name, why, "" if over else f"; it is asked again in {pause:g} s")
            if over or stopped.wait(pause):
                return
            pause = min(2 * pause, LONGEST_PAUSE)

    def _connect(self, left: float) -> Iterator[Frame]:
        """The frames of a connection that has so many seconds."""
        try:
            yield from self._read(timeout=max(min(SILENCE, left), SHORTEST))
        except ImageError as error:  # FFmpeg may repeat the address
            raise ImageError(str(error).replace(self._location, self._name)) from None

    def _left(self, elapsed: float) -> float:
        return math.inf if self._duration is None else self._duration - elapsed


def hide_secrets(location: str) -> str:
    """Return an address without what may be a password: who asks, and what follows a ``?``, a ``=`` or a ``#``.

    The host is what follows the last ``@`` before the path, as FFmpeg takes it. With an ``@`` in the path, the password
    may have held a ``/``: what comes before it is hidden. What is no address stays as it is.
    """
    found = re.fullmatch(r"([A-Za-z][\w+.-]*://)([^/?#]*)(.*)", location, re.DOTALL)
    if found is None:
        return location
    scheme, host, path = found.groups()
    if "@" in path and re.search("[:@]", host):
        host, path = HIDDEN, path[path.rindex("@") :]
    shown = host.rpartition("@")[2] + path
    return scheme + re.sub(r"([?#=]).+", rf"\1{HIDDEN}", shown, count=1, flags=re.DOTALL)


def _check(owner: str, declared: Iterable[OptionSpec], **given: Any) -> None:
    check_options(owner, declared, {name: value for name, value in given.items() if value is not None}, owner)
    if given["every"] is not None and given["fps"] is not None:
        raise ConfigError("Which frames are examined is said twice.", fix=Fix("leave one out:", names=("every", "fps")))


def _device(location: str) -> dict[str, Any]:
    """What :func:`read_frames` is called with for a camera."""
    if not location.startswith("camera:"):
        return {"path": location}
    name = location.removeprefix("camera:")
    if sys.platform == "darwin":
        return {"path": name, "format": "avfoundation"}
    if sys.platform == "win32":
        return {"path": f"video={name}", "format": "dshow"}
    return {"path": f"/dev/video{name}" if name.isdecimal() else name, "format": "v4l2"}


def _numbered_in(folder: PurePath) -> Callable[[int], PurePath]:
    return lambda number: folder / f"{number:06}.png"


def _as_items(frames: Iterator[Frame], begin: Callable[[], tuple[str, Callable[[int], PurePath]]]) -> Iterator[Item]:
    """Each frame as an item, and a last one with what ended them.

    ``begin`` returns, at the first, the name, and what returns a frame's place in a folder of drawings.
    """
    known: tuple[str, Callable[[int], PurePath]] | None = None
    number = -1
    try:
        for frame in frames:
            name, place = known = known or begin()
            number = frame.number
            extra = {"video": name, "frame": number, "time": round(frame.time, 9)}
            yield Item(
                name=f"{name}#{number}",
                image=frame.image,
                relative=place(number),
                problem="" if frame.image is not None else "the frame cannot be decoded",
                extra=extra | ({"damaged": True} if frame.damaged else {}),
            )
    except ImageError as error:
        name, place = known or begin()
        end = f"#{number + 1}" if number >= 0 else ""
        yield Item(
            name=f"{name}{end}", relative=place(0).with_name("end.png"), problem=str(error), extra={"video": name}
        )


def _examine_some(items: Iterator[Item], every: int | None, fps: float | None, *, last: bool = True) -> Iterator[Item]:
    """Have some frames examined: the first, each so many, and, where that can be waited for, the last before an end."""
    rhythm = _Rhythm(every, fps)
    held: Item | None = None
    for item in items:
        if held is not None:
            yield attrs.evolve(held, examine=held.examine or bool(item.problem))
        held = item if item.problem else attrs.evolve(item, examine=rhythm.takes(item))
        if not last:
            yield held
            held = None
    if held is not None:
        yield attrs.evolve(held, examine=True)


class _Rhythm:
    def __init__(self, every: int | None, fps: float | None) -> None:
        self._every, self._fps = every, fps
        self._due = -math.inf

    def takes(self, item: Item) -> bool:
        """Whether a frame is examined."""
        if self._fps is None:
            return self._every is None or item.extra["frame"] % self._every == 0
        moment = item.extra["time"]
        if moment < self._due - 1e-6:  # times are rounded
            return False
        due = self._due + 1 / self._fps
        self._due = due if due > moment else moment + 1 / self._fps
        return True
