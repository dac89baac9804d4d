"""The writers of videos: with boxes drawn as results come, or with faces covered once all of them are known."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import attrs
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from polyface.errors import ConfigError, Fix, ImageError, PolyfaceError, quoted
from polyface.images.drawing import BOX, INK, draw_faces
from polyface.images.faces import anonymize
from polyface.images.reading import read_image
from polyface.results import Detections, Result
from polyface.storage.places import OTHER_OUTPUT, find_results
from polyface.writers.document import Journaled
from polyface_video import tracks
from polyface_video.ahead import AHEAD, read_ahead
from polyface_video.found import UNKNOWN, Found, list_unheld, read_faces, scale_of
from polyface_video.numbered import PREFIX
from polyface_video.reading import Frame, open_video, read_frames
from polyface_video.writing import VideoWriter, check_encoder, check_source

if TYPE_CHECKING:
    from polyface.arrays import Float64Array, ImageArray
    from polyface.storage.places import Place

LOG = logging.getLogger(__name__)

LATE = 0.002
"""Seconds by which the time of a frame may differ between two readings."""

KEPT = (255, 160, 0)
"""The colour, in previews, of faces that stay to be seen."""


class _OneVideo:
    """The one video that a file is made of, by its first frame."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name

    def admit(self, result: Result) -> bool:
        """Return whether a frame is of the video; of an error that it is not.

        Raises:
            OSError: it is of none, or of another: that is no failure of the frame, and ends the job.
        """
        name = result.extra.get("video")
        frame, time = result.extra.get("frame"), result.extra.get("time")
        if isinstance(name, str) and isinstance(frame, int) and isinstance(time, int | float):
            if self.name in (None, name):
                self.name = name
                return True
            what = f"{result.name} is of another video than {self.name}: make a file for each"
            if os.path.realpath(name) == os.path.realpath(self.name or ""):
                what = f"{result.name} is of the video that was called {self.name} before: call it so again"
        else:
            what = f"{result.name} is no frame of a video: choose a folder for images"
        if result.error is not None:
            return False
        raise OSError(what)


class DrawnVideo:
    """A video with each face's box, score and landmarks, and all else as in its source.

    It is written aside, and takes its name once the run is whole. Frames that cannot be decoded are left out.

    Args:
        place: the file.
        codec: as of :class:`polyface_video.writing.VideoWriter`.
        crf: likewise.
        sound: likewise.

    Raises:
        ConfigError: likewise.
    """

    def __init__(self, place: Place, *, codec: str | None = None, crf: float | None = None, sound: bool = True) -> None:
        self._place = place
        self._options: dict[str, Any] = {"codec": codec, "crf": crf, "sound": sound}
        self._of = _OneVideo()
        self._stack = contextlib.ExitStack()
        self._out: VideoWriter | None = None
        check_encoder(place.path.name, codec, crf)

    def write(self, result: Result) -> None:
        """Add a frame.

        Raises:
            OSError: nothing more can be written, or it is of no video, or of another.
        """
        if not self._of.admit(result) or result.image is None:
            return
        image = np.asarray(draw_faces(result.image, result.faces))
        with _end_of_job():
            if self._out is None:
                source = Path(self._of.name or "").expanduser()
                stream = self._stack.enter_context(self._place.atomic_write())
                video = VideoWriter(
                    stream,
                    self._place.path.name,
                    source if source.is_file() else None,
                    size=(image.shape[1], image.shape[0]),
                    **self._options,
                )
                self._out = self._stack.enter_context(video)
            self._out.write(image, result.extra["time"])

    def finish(self) -> None:
        """Complete the file.

        Raises:
            ConfigError: there was no frame.
            OSError: it cannot be written.
        """
        if self._out is None:
            raise _no_frame(self._place)
        self._stack.close()

    def close(self) -> None:
        """Drop what is not complete; twice is fine."""
        with contextlib.suppress(_DroppedError), self._stack:
            raise _DroppedError


class AnonymizedVideo(Journaled):
    """A video whose faces nobody recognises, and all else as in its source.

    While results come they are kept in a journal; the video is made once the run is whole. Then each face is covered
    from before it was first to after it was last found, and where it was missed in between, and the cover does not
    jump: see :func:`polyface_video.tracks.cover`. What was not examined wholly is covered whole: a frame with an error,
    one that is damaged, and one with more faces than a limit let through.

    A run that was cut off goes on by the journal. The journal of a run that was whole stays, so that the video can be
    made anew with other options, and nothing is looked for again. A ``faces.jsonl`` is as good, and takes its place.

    Args:
        place: the file.
        how: as of :func:`polyface.anonymize`.
        shape: likewise.
        grow: likewise.
        replacement: likewise.
        hold: seconds for which a face is covered before it is first and after it is last found.
        start: frames that are shown earlier are left out; in seconds.
        end: frames that are shown then or later are left out.
        keep_ids: numbers of tracks that stay to be seen, with commas between them.
        regions: what is covered in every frame: x1, y1, x2 and y2 with commas, and semicolons between several.
        faces: a file of results that takes the place of the journal.
        preview: draw what would be covered, with the numbers of the tracks, and cover nothing.
        codec: as of :class:`polyface_video.writing.VideoWriter`.
        crf: likewise.
        sound: likewise.

    Raises:
        ConfigError: an option is wrong, or the file is somebody else's.
        ImageError: the replacement cannot be read.
        OSError: the place cannot be written to.
    """

    def __init__(
        self,
        place: Place,
        *,
        how: str = "blur",
        shape: str = "ellipse",
        grow: float = 0.2,
        replacement: Any = None,
        hold: float = tracks.HOLD,
        start: float = 0.0,
        end: float | None = None,
        keep_ids: str | None = None,
        regions: str | None = None,
        faces: str | None = None,
        preview: bool = False,
        codec: str | None = None,
        crf: float | None = None,
        sound: bool = True,
    ) -> None:
        cover = None if replacement is None else read_image(replacement)
        self._anonymize = functools.partial(anonymize, how=how, shape=shape, grow=grow, replacement=cover)
        self._hide = functools.partial(anonymize, how=how, shape="box", grow=0.0, replacement=cover)
        self._anonymize(np.zeros((1, 1, 3), np.uint8), _boxes([]))  # raises where a setting is wrong
        self._keep = frozenset(_numbers("keep_ids", keep_ids or "", ",", int))
        if UNKNOWN in self._keep:
            raise ConfigError("keep_ids must be numbers of tracks, from 1 on.", fix=Fix("look at them with --preview"))
        self._span = start or -math.inf, math.inf if end is None else end
        self._regions = [_region(part) for part in (regions or "").split(";") if part.strip()]
        self._hold = hold
        self._preview = preview
        self._options: dict[str, Any] = {"codec": codec, "crf": crf, "sound": sound}
        check_encoder(place.path.name, codec, crf)
        if faces is not None:
            given = read_faces(Path(faces))
            if find_results(place.path) is not None:  # of polyface, or this refuses it
                super().__init__(place)
                self.close()
            with place.atomic_write(place.journal) as journal:
                journal.write(given)
        super().__init__(place)
        names = {line.get("video") for line in self.journal}
        if len(names) > 1 or None in names:
            raise ConfigError(
                f"{place.path} cannot be gone on with.",
                why=["its journal, or the file of faces, has results of images, or of several videos"],
                fix=Fix("leave in it those of one video") | OTHER_OUTPUT,
            )
        self._of = _OneVideo(*names)
        self._checked = False

    def write(self, result: Result) -> None:
        """Keep a frame's faces.

        Raises:
            OSError: it cannot be written, it is of no video or of another, or no video can be made of its source.
        """
        if not self._of.admit(result):
            return
        if not self._checked:
            with _end_of_job():
                check_source(self.place.path.name, self._source(), **self._options)
            self._checked = True
        known = {} if result.image is None else {"look": tracks.describe(result.image.pixels).hex()}
        super().write(attrs.evolve(result, extra={**result.extra, **known}))

    def finish(self) -> None:
        """Make the video.

        Raises:
            ConfigError: there was no frame.
            ImageError: the source is no longer what was examined, or lacks a frame.
            OSError: it cannot be written.
        """
        with self.place.atomic_write() as stream:
            self._make(stream)

    def _make(self, stream: BinaryIO) -> None:
        found = Found.of(self.journal, *self._span)
        if found.last < found.first:
            raise _no_frame(self.place)
        source = self._source()
        if found.undescribed:
            found = attrs.evolve(found, looks={**dict(_describe(source, found)), **found.looks})
        times = found.times
        covers = tracks.cover(
            found.examined,
            times,
            scenes=tracks.find_scenes(found.looks, len(times)),
            seconds=self._hold,
            numbers=found.numbers,
        )
        numbers = {number for one in covers for number in one.numbers}
        if unknown := self._keep - numbers:
            LOG.warning("%s: no track has the number %s", self.place.path.name, ", ".join(map(str, sorted(unknown))))
        covers += list(list_unheld(found.placed, covers, len(times)))
        listed = itertools.islice(tracks.list_covers(covers, found.last + 1), found.first, None)
        frames = read_ahead(lambda _: _frames(source, found), lambda frame: frame.nbytes, most=AHEAD)
        with contextlib.ExitStack() as stack, contextlib.closing(frames):
            video: VideoWriter | None = None
            image: ImageArray | None = None
            for frame, live in zip(frames, listed, strict=False):  # a tail may be missing
                hidden = frame.image is None or frame.damaged or frame.number in found.hidden
                image = _black(source, image) if frame.image is None else frame.image
                if video is None:
                    size = image.shape[1], image.shape[0]
                    name = self.place.path.name
                    video = stack.enter_context(VideoWriter(stream, name, source, size=size, **self._options))
                scale = 1 if found.size is None else scale_of(found.size, (image.shape[1], image.shape[0]))
                here = [(numbers, box * scale) for numbers, box in live]
                video.write(self._cover(image, here, hidden=hidden), frame.time)
            if video is None:
                raise _no_frame(self.place)

    def _cover(
        self, image: ImageArray, live: Sequence[tuple[tuple[int, ...], Float64Array]], *, hidden: bool
    ) -> ImageArray:
        height, width = image.shape[:2]
        regions = [*self._regions, *([(0.0, 0.0, float(width), float(height))] if hidden else [])]
        if self._preview:
            return _draw(image, live, regions, self._keep)
        boxes = [box for numbers, box in live if not self._keep.issuperset(numbers)]
        if boxes:
            image = self._anonymize(image, _boxes(boxes))
        return self._hide(image, _boxes(regions)) if regions else image

    def _source(self) -> Path:
        source = Path(self._of.name or "").expanduser()
        if not source.is_file() and not str(source).startswith(PREFIX):
            raise ImageError(
                f"{quoted(self._of.name)} cannot be read a second time, to cover its faces",
                why=["it is no file, or no longer there"],
                fix=Fix("record it first, or go on in the folder in which it was begun"),
            )
        return source


def _frames(source: Path, found: Found) -> Iterator[Frame]:
    """The frames from the first to the last that there are results of.

    Raises:
        ImageError: they are not those that were examined.
    """
    wanted = found.first
    try:
        for frame in read_frames(source, start=max(0.0, found.known[wanted] - LATE)):
            if frame.number > found.last:
                break
            if frame.number < found.first:
                continue
            if frame.number != wanted:
                raise _changed(source, f"its frame {wanted} is no longer there")
            _check(source, frame, found)
            yield frame
            wanted += 1
    except ImageError:
        if any(frame not in found.hidden for frame in range(wanted, found.last + 1)):
            raise
    missing = [frame for frame in range(wanted, found.last + 1) if frame not in found.hidden]
    if missing:
        raise _changed(source, f"its frame {missing[0]} is no longer there")


def _black(source: Path, like: ImageArray | None) -> ImageArray:
    """What is shown of a frame that cannot be decoded."""
    if like is not None:
        return np.zeros_like(like)
    info = open_video(source)
    return np.zeros((info.height, info.width, 3), np.uint8)


def _check(source: Path, frame: Frame, found: Found) -> None:
    known, look = found.known.get(frame.number), found.looks.get(frame.number)
    if known is not None and frame.image is not None and abs(known - frame.time) > LATE:
        raise _changed(source, f"its frame {frame.number} was shown at {known:.3f} s, and now is at {frame.time:.3f} s")
    size = frame.image.shape[1::-1] if frame.image is not None else None
    if size is not None and found.sizes.get(frame.number, size) != size:
        raise _changed(source, f"its frame {frame.number} has another size, and faces are in pixels of that")
    if look is not None and (frame.image is None or not tracks.is_same(look, tracks.describe(frame.image))):
        raise _changed(source, f"its frame {frame.number} shows something else")


def _changed(source: Path, why: str) -> ImageError:
    return ImageError(f"{source} is not what was examined.", why=[why], fix=Fix("find its faces again"))


def _describe(source: Path, found: Found) -> Iterator[tuple[int, bytes]]:
    """What is to be remembered of frames, where another program, or a run without their pixels, found the faces."""
    with contextlib.suppress(ImageError):  # of a tail that is missing; the next reading says what is wrong
        for frame in read_frames(source):
            if frame.image is not None and found.first <= frame.number <= found.last:
                yield frame.number, tracks.describe(frame.image)


@contextlib.contextmanager
def _end_of_job() -> Iterator[None]:
    """What is wrong with all frames ends the job, and is not told of each."""
    try:
        yield
    except PolyfaceError as error:
        raise OSError(str(error)) from error


class _DroppedError(Exception):
    """Ends what is written aside without its name."""


def _no_frame(place: Place) -> PolyfaceError:
    return ConfigError(
        f"{place.path} has no frame.",
        why=["none of the inputs was a video that could be read, and had frames in the part that was asked for"],
    )


def _boxes(boxes: Sequence[Any]) -> Detections:
    return Detections(boxes=np.array(boxes, np.float64).reshape(-1, 4), scores=np.ones(len(boxes)))


def _numbers(name: str, text: str, between: str, kind: type[Any]) -> list[Any]:
    try:
        return [kind(part) for part in text.split(between) if part.strip()]
    except ValueError:
        raise ConfigError(
            f"{name} must be numbers with '{between}' between them, not {quoted(text)}.", fix=Fix("write 3,5")
        ) from None


def _region(text: str) -> tuple[float, float, float, float]:
    sides = _numbers("regions", text, ",", float)
    if len(sides) != 4 or not np.isfinite(sides).all() or sides[0] >= sides[2] or sides[1] >= sides[3]:
        raise ConfigError(
            f"regions must be x1,y1,x2,y2 in pixels, not {quoted(text)}.", fix=Fix("put ; between several")
        )
    return sides[0], sides[1], sides[2], sides[3]


def _draw(
    image: ImageArray,
    covers: Sequence[tuple[tuple[int, ...], Float64Array]],
    regions: Sequence[tuple[float, ...]],
    keep: frozenset[int],
) -> ImageArray:
    drawing = Image.fromarray(image)
    pen = ImageDraw.Draw(drawing)
    thin = max(2, round(max(drawing.size) / 500))
    font = ImageFont.load_default(size=7 * thin)
    shown = [("region", region, BOX) for region in regions]
    for numbers, box in covers:
        label = "+".join(str(number) if number else "?" for number in sorted({*numbers}))
        shown.append((label, tuple(box.tolist()), KEPT if keep.issuperset(numbers) else BOX))
    for label, (x1, y1, x2, y2), colour in shown:
        pen.rectangle((x1, y1, x2, y2), outline=colour, width=thin)
        left, top, right, bottom = pen.textbbox((x1, max(y1, 0)), label, font=font)
        pen.rectangle((left - thin, top - thin, right + thin, bottom + thin), fill=colour)
        pen.text((x1, max(y1, 0)), label, font=font, fill=INK)
    return np.asarray(drawing)
