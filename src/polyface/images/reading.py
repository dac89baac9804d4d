"""Images: from whatever a user has to an RGB uint8 array ``(H, W, 3)``, checked."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
from attrs import Factory, evolve, field, frozen
from PIL import ExifTags, Image

from polyface.errors import NO_FIX, ConfigError, ImageError, PolyfaceError, quoted, reason_of
from polyface.images.decoding import LONGEST_FILE, READ_DAMAGED, Opened, continuations, open_file, prepare_memory

if TYPE_CHECKING:
    from polyface.arrays import ImageArray

    ImageSource: TypeAlias = (
        npt.NDArray[Any] | Image.Image | str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]
    )

LOG = logging.getLogger("polyface.images")

# By EXIF orientation: the steps, down and across, in which the file has the rows and columns of the turned image.
_STEPS = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (-1, 1), 7: (-1, -1), 8: (1, -1)}
_ON_ITS_SIDE = (5, 6, 7, 8)  # its rows are the file's columns

STRIP = 2**20
"""Pixels that are copied out of a PIL image at a time."""

DRAFT = 2
"""A draft has at least so many times the width and height that are wanted; benchmarks/README.md has what that costs."""

DAMAGED = ("refuse", "read")
"""What may become of a JPEG that is cut short."""

WANTED = "an RGB uint8 array (H, W, 3), a PIL image, a path, or the bytes of an image file or the file, open"


@frozen(kw_only=True, eq=False)
class Decoded:
    """An image as it was decoded: whole, or as a draft.

    Args:
        pixels: RGB uint8 ``(h, w, 3)``; of a draft fewer than the image has.
        shape: height and width of the whole image as shown, in pixels.
        damaged: whether pixels are missing, which are grey.
        format: Pillow's name of the file's format; empty where it came from none.
        profile: the ICC profile of the file, as it stands there, or nothing.
    """

    pixels: ImageArray
    shape: tuple[int, int] = field(default=Factory(lambda self: self.pixels.shape[:2], takes_self=True))
    damaged: bool = False
    format: str = ""
    profile: bytes = field(default=b"", repr=False)

    @property
    def whole(self) -> bool:
        """Whether these are all of its pixels."""
        return self.pixels.shape[:2] == self.shape


def read_image(
    source: ImageSource, *, formats: Sequence[str] = (), max_pixels: int | None = None, damaged: str = "refuse"
) -> ImageArray:
    """Return an image as an RGB uint8 array ``(H, W, 3)``, turned as its EXIF orientation says.

    Grey becomes RGB; 16-bit is scaled to 8; transparent pixels lie on white, but where all are transparent the alpha
    means nothing and the colours are taken. Of an animation, or several pages, the first is taken. The logger
    ``polyface.images`` warns of both. An array of another dtype, or with channels first, is refused, since its meaning
    could only be guessed, and so is a TIFF that begins with a thumbnail. A JPEG that lacks its end marker is read, one
    that lacks pixels is not, unless ``damaged`` says so. BGR arrays cannot be told from RGB: turn them with
    ``image[..., ::-1]``.

    Args:
        source: an array ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` or ``(H, W, 4)`` of uint8 or uint16, a PIL image, a
            path, the bytes of an image file, or such a file open in binary mode. One that can be sought is read from
            its start and left where it was; any other from where it is to its end.
        formats: names of Pillow's formats to read beside the usual, :data:`polyface.machine.formats.ENDINGS`.
        max_pixels: the most pixels a file may be decoded to. ``None`` is
            :data:`polyface.images.decoding.MAX_PIXELS`, and less for short files, so that they cannot fill the memory.
        damaged: ``"read"`` reads of a JPEG that is cut short what can be read, of which the logger warns. The rest is
            grey; of a progressive one it is coarse.

    Raises:
        ConfigError: ``damaged`` is neither ``"refuse"`` nor ``"read"``.
        ImageError: it is none of these, has too many pixels, or cannot be decoded; says what was passed and what is
            wanted.
    """
    if damaged not in DAMAGED:
        raise ConfigError(f"damaged must be {' or '.join(map(repr, DAMAGED))}, not {quoted(damaged)}.")
    return decode(source, formats=formats, max_pixels=max_pixels, damaged=damaged == "read").pixels


def read_file(source: ImageSource, *, formats: Sequence[str] = (), max_pixels: int | None = None) -> ImageArray:
    """Return what :func:`read_image` does of a file, which can be read again later.

    Raises:
        ImageError: as :func:`read_image`, or it is no path.
    """
    if not isinstance(source, str | os.PathLike):
        raise ImageError("it is no file, which could be read again")
    return read_image(source, formats=formats, max_pixels=max_pixels)


def decode(
    source: ImageSource,
    scale: Callable[[int, int], float] | None = None,
    *,
    formats: Sequence[str] = (),
    max_pixels: int | None = None,
    damaged: bool = False,
) -> Decoded:
    """Return an image as :func:`read_image` does; a JPEG file as a draft, where that will do.

    A draft has 1/2, 1/4 or 1/8 of the width and height, rounded up: what the JPEG decoder gives for a part of the work.
    They are never less than ``DRAFT`` times what is wanted: ``scale`` gives from the image's height and width the
    factor on them at which it is wanted, and without it, it is wanted whole. Up to ``max_pixels`` a draft counts by its
    own pixels.

    Raises:
        ImageError: as :func:`read_image`.
    """
    if isinstance(source, np.ndarray):
        return Decoded(pixels=_from_array(source))
    if isinstance(source, Image.Image):
        with _refusals("the PIL image", closed=getattr(source, "fp", source) is None):
            return Decoded(pixels=_from_pil(source, "the PIL image", _orientation(source)))
    with open_image(source, formats=formats, max_pixels=max_pixels, damaged=damaged) as opened:
        found = _pixels_of(opened, scale)
        cut = opened.missing or (not opened.ended and _depends_on_the_rest(found, opened, scale))
        if cut and not damaged:
            why = "it is cut short: its last pixels are missing"
            raise ImageError(f"{opened.source.label} cannot be decoded.", why=[why], fix=READ_DAMAGED)
    for note in filter(None, (opened.note, "cut short, and read as far as it goes" if cut else "")):
        LOG.warning("%s is %s", opened.source.label, note)
    return evolve(found, damaged=cut, format=opened.image.format or "", profile=opened.profile)


def _depends_on_the_rest(found: Decoded, opened: Opened, scale: Callable[[int, int], float] | None) -> bool:
    """Whether the pixels of a JPEG without its end marker depend on what would follow: then some are missing."""
    return any(
        not np.array_equal(found.pixels, _pixels_of(_add_end(opened, rest), scale).pixels)
        for rest in continuations(opened.jpeg)
    )


@contextlib.contextmanager
def open_image(
    source: ImageSource, *, formats: Sequence[str] = (), max_pixels: int | None = None, damaged: bool = False
) -> Iterator[Opened]:
    """Open the file of an image, and read its header; all else is as of :func:`read_image`.

    Raises:
        ImageError: as :func:`read_image`, or it is no file, its path or its bytes; also in the place of whatever a
            decoder raises in the block.
    """
    if isinstance(source, str | os.PathLike):
        label = quoted(os.fspath(source))
    elif isinstance(source, bytes | bytearray | memoryview):
        label = f"the file of {memoryview(source).nbytes} bytes"
    elif hasattr(source, "read"):
        label = "the open file"
    else:
        raise ImageError(f"A {type(source).__name__} is not an image; wanted: {WANTED}.")
    with _refusals(label), _open(source, label) as file:
        yield open_file(file, label, formats, max_pixels, damaged=damaged)


def turn_back(pixels: ImageArray, orientation: int) -> ImageArray:
    """Return a view of an image as shown, ``(H, W, 3)``, as its file of that EXIF orientation has its pixels."""
    down, across = _STEPS[orientation]
    return (pixels.transpose(1, 0, 2) if orientation in _ON_ITS_SIDE else pixels)[::down, ::across]


def _open(source: Any, label: str) -> BinaryIO:
    """A path, the bytes of a file, or an open one, as a file that can be sought and is ours to close."""
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(bytes(source))
    if not isinstance(source, str | os.PathLike):
        return io.BytesIO(_read(source))
    try:
        file = Path(source).open("rb")  # noqa: SIM115 - the caller closes it
    except FileNotFoundError:
        # A path may hold "://", but hardly by intent.
        fix = "give the bytes that it leads to: no address is fetched" if "://" in str(source) else NO_FIX
        raise ImageError(f"{label} does not exist.", fix=fix) from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{label} cannot be opened.", why=[reason_of(error)]) from error
    if file.seekable():
        return file
    with file:  # a pipe, such as the shell's <(command)
        return io.BytesIO(_read(file))


def _read(file: Any) -> bytes:
    """The bytes of an open file: all of one that can be sought, else those that are still to come."""
    if isinstance(file, io.TextIOBase):
        raise ImageError("The open file is a text file.", fix="open it in binary mode: open(path, 'rb')")
    if hasattr(file, "readable") and not file.readable():
        raise ImageError("The open file is not open for reading.", fix="open it in binary mode: open(path, 'rb')")
    before = file.tell() if hasattr(file, "seekable") and file.seekable() else None
    if before is not None:
        file.seek(0)
    try:
        parts: list[bytes] = []
        rest = LONGEST_FILE + 1
        while rest > 0 and (part := file.read(min(rest, 2**20))):
            if not isinstance(part, bytes | bytearray | memoryview):
                raise ImageError(f"The open file gives {type(part).__name__}, not bytes.", fix="open it in binary mode")
            parts.append(bytes(part))
            rest -= len(part)
    finally:
        if before is not None:
            file.seek(before)
    if rest <= 0:
        raise ImageError(f"The open file is too long: at most {LONGEST_FILE:,} bytes are read.", fix="pass its path")
    return b"".join(parts)


def _pixels_of(opened: Opened, scale: Callable[[int, int], float] | None) -> Decoded:
    opened = opened if opened.ended else _add_end(opened)
    image = opened.image
    if image.info.get("progressive"):  # it is held as a whole, whatever the draft
        opened.source.check_size(image.size)
    whole, shape = image.size, _shape(image, opened.orientation)
    if scale and opened.jpeg:  # decoded as a draft, if one will do
        least = scale(*shape) * DRAFT
        image.draft(None, (max(1, math.ceil(image.width * least)), max(1, math.ceil(image.height * least))))
    opened.source.check_size(image.size)
    pixels = _by_simplejpeg(opened) if image.size == whole else None
    if pixels is None:
        prepare_memory(image)
        pixels = _from_pil(image, opened.source.label, opened.orientation)
    return Decoded(pixels=pixels, shape=shape) if opened.jpeg else Decoded(pixels=pixels)


def _add_end(opened: Opened, before: bytes = b"") -> Opened:
    """The same JPEG with something and its end marker behind it."""
    from PIL.JpegImagePlugin import JpegImageFile

    # A last FF is the first half of what was cut off, and would make a marker of what comes next.
    jpeg = opened.jpeg.rstrip(b"\xff") + before + b"\xff\xd9"
    return evolve(opened, image=JpegImageFile(io.BytesIO(jpeg), ""), jpeg=jpeg, ended=True)


@functools.cache
def _simplejpeg() -> Any:
    """The module, which the extra ``fast-jpeg`` installs; ``None`` without it."""
    try:
        return importlib.import_module("simplejpeg")
    except ImportError:
        return None


def _by_simplejpeg(opened: Opened) -> ImageArray | None:
    """The pixels of an upright RGB JPEG, without the copies that Pillow takes; they are the same.

    ``None`` where Pillow has to do it, damaged files among them: it says what is wrong, or mends it.
    """
    image = opened.image
    if _simplejpeg() is None or not opened.jpeg or image.mode != "RGB" or opened.orientation != 1:
        return None
    try:
        pixels: ImageArray = _simplejpeg().decode_jpeg(opened.jpeg, "RGB", fastdct=False, fastupsample=False)
    except ValueError:
        return None
    return pixels if pixels.shape[:2] == (image.height, image.width) else None


def _shape(image: Image.Image, orientation: int) -> tuple[int, int]:
    """Height and width as shown."""
    return image.size if orientation in _ON_ITS_SIDE else (image.height, image.width)


@contextlib.contextmanager
def _refusals(label: str, *, closed: bool = False) -> Iterator[None]:
    """Turn whatever a decoder raises into an ``ImageError`` about the image."""
    try:
        yield
    except PolyfaceError:
        raise
    except MemoryError as error:
        raise ImageError(f"{label} does not fit into memory.", fix="shrink the image first") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{label} has too many pixels for Pillow.",
            why=[str(error)],
            fix="shrink it, or, if you trust it, raise PIL.Image.MAX_IMAGE_PIXELS in Python",
        ) from error
    except Exception as error:
        why = "it was closed, or only verified, before its pixels were read" if closed else _message(error)
        raise ImageError(f"{label} cannot be decoded.", why=[why]) from error


def _message(error: Exception) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - a stranger's __str__ may raise anything
        return type(error).__name__


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation of somebody's PIL image; 1, upright, where the EXIF data are damaged: the pixels are not."""
    if getattr(image, "tag_v2", None) is not None and getattr(image, "fp", None) is not None:
        return 1  # Pillow turns a TIFF when it loads it
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - EXIF data may hold anything
        return 1
    return orientation if orientation in _STEPS else 1


def _from_pil(image: Image.Image, label: str, orientation: int) -> ImageArray:
    """The pixels as RGB, copied in strips: converting and copying it whole holds a large image four times over."""
    if image.width < 1 or image.height < 1:
        raise ImageError(f"{label} has no pixels: it is {image.width}x{image.height}.")
    image.load()
    # Pillow gives 16-bit PGM as 32-bit, scaled to 0-65535.
    if image.mode in ("I", "F") and not (image.mode == "I" and image.format == "PPM"):
        raise ImageError(
            f"{label} has 32-bit pixels (mode {image.mode!r}), whose range is not known; wanted: {WANTED}.",
            fix="scale it to 0-255 and convert it to uint8 first",
        )
    turned = np.empty((*_shape(image, orientation), 3), np.uint8)
    pixels = turn_back(turned, orientation)
    if not image.has_transparency_data:
        _copy(image, pixels, functools.partial(_grey, image) if image.mode.startswith("I") else _rgb)
    elif not _copy(image, pixels, _on_white):
        LOG.warning("%s is transparent everywhere; its colours are read as they are", label)
        _copy(image, pixels, lambda strip: (strip.convert("RGBA").convert("RGB"), 0))
    return turned


def _copy(image: Image.Image, pixels: ImageArray, convert: Callable[[Image.Image], tuple[Any, int]]) -> int:
    """Copy an image strip by strip; return the highest of the numbers that came with the strips."""
    width = min(image.width, STRIP)
    height = max(1, STRIP // width)
    highest = 0
    for top in range(0, image.height, height):
        for left in range(0, image.width, width):
            box = (left, top, min(left + width, image.width), min(top + height, image.height))
            strip, number = convert(image.crop(box))
            pixels[top : top + height, left : left + width] = np.asarray(strip)
            highest = max(highest, number)
    return highest


def _rgb(strip: Image.Image) -> tuple[Image.Image, int]:
    return (strip if strip.mode == "RGB" else strip.convert("RGB")), 0  # converting what is RGB already would copy it


def _on_white(strip: Image.Image) -> tuple[Image.Image, int]:
    """The strip on white, and its highest alpha."""
    rgba = strip.convert("RGBA")
    highest: Any = rgba.getchannel("A").getextrema()[1]
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"), highest


def _grey(image: Image.Image, strip: Image.Image) -> tuple[ImageArray, int]:
    """A strip of 16-bit grey as 8-bit; of a TIFF also what Pillow leaves as it is in the file."""
    tags = getattr(image, "tag_v2", {})
    grey = _eight_bits(np.asarray(strip), 4095 if tags.get(ExifTags.Base.BitsPerSample) == (12,) else 65535)
    inverted = tags.get(ExifTags.Base.PhotometricInterpretation) == 0  # white is zero
    return (255 - grey if inverted else grey)[:, :, None], 0


def _eight_bits(values: npt.NDArray[Any], most: int = 65535) -> ImageArray:
    """Values up to ``most`` as 8-bit, rounded."""
    return ((values.astype(np.uint32) * 255 + most // 2) // most).astype(np.uint8)


def _from_array(array: npt.NDArray[Any]) -> ImageArray:
    was = f"an array of shape {array.shape} and dtype {array.dtype}"
    if array.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        fix = "(image * 255).round().astype('uint8') for values in 0-1" if array.dtype.kind == "f" else ""
        raise ImageError(f"Got {was}; wanted: {WANTED}.", why=["the dtype must be uint8 (or uint16)"], fix=fix)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        fix = "image.transpose(1, 2, 0)" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        fix = fix or ("pass the images of a batch as a list to detect_batch" if array.ndim == 4 else "")
        raise ImageError(f"Got {was}; wanted: {WANTED}.", fix=fix)
    if 0 in array.shape:
        raise ImageError(f"Got {was}, which has no pixels; wanted: {WANTED}.")
    if array.dtype.itemsize == 2:
        array = _eight_bits(array)
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    if array.shape[2] == 4:
        return _from_pil(Image.fromarray(array), "the array", 1)
    return array
