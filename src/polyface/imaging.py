"""Pictures: read, check, resize, pad and normalise them; and bring results back into their pixels.

A picture is an RGB uint8 array ``(H, W, 3)`` here. Coordinates are measured from the outer edge of its top-left pixel,
so a picture of width W spans x from 0 to W, and resizing by a factor multiplies coordinates by it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import math
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from attrs import frozen
from PIL import ExifTags, Image, UnidentifiedImageError

from polyface.errors import ImageError

if TYPE_CHECKING:
    from polyface.protocols import FloatArray
    from polyface.specs import Preprocess

    Picture: TypeAlias = npt.NDArray[np.uint8]
    ImageSource: TypeAlias = npt.NDArray[Any] | Image.Image | str | os.PathLike[str] | bytes | bytearray | memoryview

# Pillow's decoders answer damaged files with any of these.
_DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    RuntimeError,
    struct.error,
)
# By EXIF orientation. ImageOps.exif_transpose would also rewrite the other tags, and fail on one of the wrong type.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = (5, 6, 7, 8)
STRIP = 256
"""Rows that are copied out of a PIL image at a time."""

DRAFT = 2
"""A draft has at least so many times the width and height that are wanted; benchmarks/README.md has what that costs."""

WANTED = "an RGB uint8 array (H, W, 3), a PIL image, a path, or the bytes of an image file"


@frozen(kw_only=True, eq=False)
class Decoded:
    """A picture as it was decoded: whole, or as a draft.

    Args:
        pixels: RGB uint8 ``(h, w, 3)``; of a draft fewer than the picture has.
        shape: height and width of the whole picture as shown, in pixels.
    """

    pixels: Picture
    shape: tuple[int, int]

    @property
    def whole(self) -> bool:
        """Whether these are all of its pixels."""
        return self.pixels.shape[:2] == self.shape


def read_image(source: ImageSource) -> Picture:
    """Return a picture as an RGB uint8 array ``(H, W, 3)``, turned as its EXIF orientation says.

    Grey becomes RGB; 16-bit is scaled to 8; transparent pixels lie on white; of an animation the first frame is taken.
    An array of another dtype, or with channels first, is refused, since its meaning could only be guessed. BGR arrays
    cannot be told from RGB: turn them with ``image[..., ::-1]``.

    Args:
        source: an array ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` or ``(H, W, 4)`` of uint8 or uint16, a PIL image, a
            path, or the bytes of an image file.

    Raises:
        ImageError: it is none of these, or cannot be decoded; says what was passed and what is wanted.
    """
    return decode(source).pixels


def decode(source: ImageSource, scale: Callable[[int, int], float] | None = None) -> Decoded:
    """Return a picture as :func:`read_image` does; a JPEG file as a draft, where that will do.

    A draft has 1/2, 1/4 or 1/8 of the width and height, rounded up: what the JPEG decoder gives for a part of the work.
    They are never less than ``DRAFT`` times what is wanted.

    Args:
        source: as of :func:`read_image`.
        scale: from the picture's height and width to the factor on them at which it is wanted; ``None`` wants it whole.

    Raises:
        ImageError: as :func:`read_image`.
    """
    if isinstance(source, np.ndarray):
        pixels = _from_array(source)
    elif isinstance(source, Image.Image):
        with _refusals("the PIL image"):
            pixels = _from_pil(source, "the PIL image")
    elif isinstance(source, str | os.PathLike):
        return _decode(source, f"'{os.fspath(source)}'", scale)
    elif isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        return _decode(io.BytesIO(data), f"the {len(data)} bytes", scale)
    else:
        raise ImageError(f"A {type(source).__name__} is not a picture; wanted: {WANTED}.")
    return Decoded(pixels=pixels, shape=_shape(pixels))


def _decode(
    file: str | os.PathLike[str] | io.BytesIO, label: str, scale: Callable[[int, int], float] | None
) -> Decoded:
    with _refusals(label):
        try:
            image = Image.open(file)
        except FileNotFoundError:
            raise ImageError(f"{label} does not exist.") from None
        except UnidentifiedImageError as error:
            why = _why_unreadable(file)
            raise ImageError(f"{label} is not a picture in a format Pillow reads.", why=[why]) from error
        with image:
            shape = _draft(image, scale) if scale and image.format in ("JPEG", "MPO") else None
            drafted = shape is not None and shape != (image.height, image.width)
            pixels = None if drafted else _by_simplejpeg(image, file)
            pixels = _from_pil(image, label) if pixels is None else pixels
            return Decoded(pixels=pixels, shape=shape or _shape(pixels))


@functools.cache
def _simplejpeg() -> Any:
    """The module, which the extra ``fast-jpeg`` installs; ``None`` without it."""
    try:
        return importlib.import_module("simplejpeg")
    except ImportError:
        return None


def _by_simplejpeg(image: Image.Image, file: str | os.PathLike[str] | io.BytesIO) -> Picture | None:
    """The pixels of an upright RGB JPEG, without the copies that Pillow takes; they are the same.

    ``None`` where Pillow has to do it, damaged files among them: it says what is wrong, or mends it.
    """
    if _simplejpeg() is None or (image.format, image.mode, _orientation(image)) != ("JPEG", "RGB", 1):
        return None
    data = file.getbuffer() if isinstance(file, io.BytesIO) else Path(file).read_bytes()
    try:
        pixels: Picture = _simplejpeg().decode_jpeg(data, "RGB", fastdct=False, fastupsample=False)
    except ValueError:
        return None
    return pixels if pixels.shape[:2] == (image.height, image.width) else None


def _shape(pixels: Picture) -> tuple[int, int]:
    return pixels.shape[0], pixels.shape[1]


def _draft(image: Image.Image, scale: Callable[[int, int], float]) -> tuple[int, int]:
    """Have a JPEG decoded as a draft, if one will do; return height and width of the whole as shown."""
    shape = image.size if _orientation(image) in _ON_ITS_SIDE else (image.height, image.width)
    least = scale(*shape) * DRAFT
    image.draft(None, (max(1, math.ceil(image.width * least)), max(1, math.ceil(image.height * least))))
    return shape


@contextlib.contextmanager
def _refusals(label: str) -> Iterator[None]:
    """Turn what Pillow raises into an ``ImageError`` about the picture."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{label} has too many pixels.",
            why=[str(error)],
            fix="shrink it, or, if you trust it, raise PIL.Image.MAX_IMAGE_PIXELS",
        ) from error
    except MemoryError as error:
        raise ImageError(f"{label} does not fit into memory.", fix="shrink the picture first") from error
    except ImageError:
        raise
    except _DAMAGE as error:
        raise ImageError(f"{label} cannot be decoded.", why=[str(error) or type(error).__name__]) from error


def _why_unreadable(file: str | os.PathLike[str] | io.BytesIO) -> str:
    size = len(file.getbuffer()) if isinstance(file, io.BytesIO) else Path(file).stat().st_size
    return "it is empty (0 bytes)" if size == 0 else f"its {size} bytes do not begin as a picture does"


def _from_pil(image: Image.Image, label: str) -> Picture:
    if image.width < 1 or image.height < 1:
        raise ImageError(f"{label} has no pixels: it is {image.width}x{image.height}.")
    image.load()  # which turns a TIFF, and takes its orientation away
    # Pillow gives 16-bit PGM as 32-bit, scaled to 0-65535.
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
    turn = _TURNS.get(_orientation(image))
    image = image if turn is None else image.transpose(turn)
    if sixteen:
        return _from_array(np.asarray(image).astype(np.uint16))
    if image.mode in ("I", "F"):
        raise ImageError(
            f"{label} has 32-bit pixels (mode {image.mode!r}), whose range is not known; wanted: {WANTED}.",
            fix="scale it to 0-255 and convert it to uint8 first",
        )
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return _pixels(image)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1, upright, where the EXIF data are damaged: the pixels are not."""
    try:
        orientation: int = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGE:
        return 1
    return orientation


def _pixels(image: Image.Image) -> Picture:
    """The pixels as RGB, copied in strips: converting and copying it whole holds a large picture four times over."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, STRIP):
        strip = image.crop((0, top, image.width, min(top + STRIP, image.height)))
        # Converting what is RGB already would copy it.
        pixels[top : top + STRIP] = np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))
    return pixels


def _from_array(array: npt.NDArray[Any]) -> Picture:
    was = f"an array of shape {array.shape} and dtype {array.dtype}"
    if array.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        fix = "(image * 255).round().astype('uint8') for values in 0-1" if array.dtype.kind == "f" else ""
        raise ImageError(f"Got {was}; wanted: {WANTED}.", why=["the dtype must be uint8 (or uint16)"], fix=fix)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        fix = "image.transpose(1, 2, 0)" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        fix = fix or ("pass the pictures of a batch as a list to detect_batch" if array.ndim == 4 else "")
        raise ImageError(f"Got {was}; wanted: {WANTED}.", fix=fix)
    if 0 in array.shape:
        raise ImageError(f"Got {was}, which has no pixels; wanted: {WANTED}.")
    if array.dtype.itemsize == 2:
        array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    if array.shape[2] == 4:
        return _from_pil(Image.fromarray(array), "the array")
    return array


@frozen(kw_only=True)
class Frame:
    """How a picture lies in the network's input: scaled to ``width`` by ``height``, at the top left of the padding.

    Args:
        picture_width: of the picture, in pixels; ``picture_height`` likewise.
        width: of the picture after scaling; ``height`` likewise.
        net_width: of the network's input, padding included; ``net_height`` likewise.
    """

    picture_width: int
    picture_height: int
    width: int
    height: int
    net_width: int
    net_height: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the network's input, which pictures of one batch share."""
        return self.net_height, self.net_width


def frame_of(
    picture_height: int,
    picture_width: int,
    preprocess: Preprocess,
    *,
    min_side: int,
    pad_to: int,
    scale: float = 1.0,
    infer_size: tuple[int, int] | None = None,
    fit: str = "letterbox",
) -> Frame:
    """Return how a picture of that size goes into the network.

    Args:
        picture_height: in pixels.
        picture_width: in pixels.
        preprocess: the detector's; its ``stride`` is kept whatever ``pad_to`` is.
        min_side: the least height and width of the network's input, in pixels.
        pad_to: height and width are padded to a multiple of this, in pixels.
        scale: the factor on the picture's sides.
        infer_size: height and width of the network's input, in pixels; decides alone, and enlarges small pictures.
        fit: how the picture fills ``infer_size``: ``"letterbox"`` scales both sides alike and pads, ``"stretch"`` does
            not.
    """
    if infer_size is not None:
        return _fixed_frame(picture_height, picture_width, *infer_size, stretch=fit == "stretch")
    width, height = (max(1, round(side * scale)) for side in (picture_width, picture_height))
    multiple = math.lcm(preprocess.stride, pad_to)
    net_width, net_height = (math.ceil(max(side, min_side) / multiple) * multiple for side in (width, height))
    return Frame(
        picture_width=picture_width,
        picture_height=picture_height,
        width=width,
        height=height,
        net_width=net_width,
        net_height=net_height,
    )


def _fixed_frame(picture_height: int, picture_width: int, net_height: int, net_width: int, *, stretch: bool) -> Frame:
    width, height = net_width, net_height
    if not stretch:
        scale = min(net_height / picture_height, net_width / picture_width)
        width, height = (max(1, round(side * scale)) for side in (picture_width, picture_height))
    return Frame(
        picture_width=picture_width,
        picture_height=picture_height,
        width=width,
        height=height,
        net_width=net_width,
        net_height=net_height,
    )


def prepare(
    pictures: Sequence[Picture], frames: Sequence[Frame], preprocess: Preprocess, out: FloatArray | None = None
) -> FloatArray:
    """Return the network's input ``(N, 3, H, W)`` float32, C-contiguous, for pictures whose frames share one shape.

    Shrinking is anti-aliased (Pillow's bilinear filter widens with the factor).

    Args:
        pictures: RGB uint8 arrays ``(h, w, 3)``.
        frames: how each lies in the input.
        preprocess: the detector's.
        out: where to write it, every number of it; a new array by default.
    """
    batch = np.empty((len(pictures), 3, *frames[0].shape), np.float32) if out is None else out
    order = (0, 1, 2) if preprocess.channels == "rgb" else (2, 1, 0)
    for picture, frame, planes in zip(pictures, frames, batch, strict=True):
        scaled = picture
        if (frame.height, frame.width) != picture.shape[:2]:
            size = (frame.width, frame.height)
            scaled = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
        planes[:, frame.height :] = planes[:, : frame.height, frame.width :] = preprocess.pad_value
        for plane, channel, mean, std in zip(planes, order, preprocess.mean, preprocess.std, strict=True):
            inside = plane[: frame.height, : frame.width]
            inside[...] = scaled[:, :, channel]  # then in place: NumPy subtracts through a buffer where dtypes differ
            inside -= np.float32(mean)
            if std != 1:
                inside /= np.float32(std)
    return batch


def restore(points: FloatArray, frame: Frame) -> FloatArray:
    """Return network coordinates ``(..., 2k)`` or ``(..., 2)``, x and y in turn, in pixels of the picture.

    Args:
        points: boxes ``(K, 4)`` or landmarks ``(K, L, 2)``, float32.
        frame: how the picture lay in the network's input.
    """
    pairs = points.shape[-1] // 2
    scale = np.array([frame.picture_width / frame.width, frame.picture_height / frame.height] * pairs, np.float32)
    restored: FloatArray = points * scale
    return restored
