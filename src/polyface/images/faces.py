"""Faces out of images: cropped, aligned as recognition wants them, or made unrecognisable."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import attrs
import numpy as np
import numpy.typing as npt
from attrs import frozen
from PIL import Image, ImageStat

from polyface.errors import ConfigError, Fix, ImageError, Reason, UnsupportedError, quoted
from polyface.images.reading import Decoded, read_image
from polyface.settings import values

if TYPE_CHECKING:
    from polyface.arrays import Float64Array, FloatArray, ImageArray, Mask
    from polyface.images.reading import ImageSource
    from polyface.results import Detections

    Complex: TypeAlias = npt.NDArray[np.complex128]

T = TypeVar("T")

FIVE = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
"""The landmarks by which faces are aligned, in this order, as seen in the image."""

TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
"""Where ArcFace wants the five in 112x112 pixels, counted from the middle of the top-left one: ``arcface_dst`` of
InsightFace, https://github.com/deepinsight/insightface, python-package/insightface/utils/face_align.py."""

TEMPLATE_SIZE = 112

LARGEST_SIZE = 4096
"""Pixels of a side of an aligned face."""

LEAST_SCALE = 1e-9
"""Landmarks that would be shrunk more than that have no direction: they lie in one point, or in a mirror."""

FARTHEST = 2.0**40
"""Pixels from the image at which boxes end."""

MIDDLE = 0.5
"""How far the middle of a face reaches, as a part of its ellipse: what lies beyond is its rim."""

LEVELS = 1024
"""The shades between the colours of a face's middle and rim."""

CELLS = 6
"""The cells of a mosaic, across and down."""

THIN = 1e-3
"""Pixels of a replacement: the least that is stretched over a part of a face."""

ROUNDING = 0.01
"""An image may be shrunk by so much more before it is averaged, for landmarks that are of its size but for rounding."""

SHARP = 2
"""An image is reduced for an aligned face to so many of its pixels a pixel, and resampled from there: what averages
over whole blocks of pixels has blocks that lie as the image does, and not as the face."""


def scale_faces(image: ImageSource | Decoded, faces: Detections) -> tuple[ImageArray, Detections]:
    """Return the pixels of an image, and the faces in them: those of a draft are fewer than the image's."""
    if not isinstance(image, Decoded):
        return read_image(image), faces
    scale = np.divide(image.pixels.shape[1::-1], image.shape[::-1], dtype=np.float32)
    marks = None if faces.landmarks is None else faces.landmarks * scale
    return image.pixels, attrs.evolve(faces, boxes=faces.boxes * np.tile(scale, 2), landmarks=marks)


def crop(image: ImageSource | Decoded, faces: Detections, *, margin: float = 0.0) -> list[ImageArray]:
    """Return each face: every pixel that its box and the margin around it touch.

    What lies outside the image is cut off. A crop has one pixel at least, the nearest to the box.

    Args:
        image: as :func:`polyface.read_image` takes it, or what :meth:`polyface.FaceDetector.read` returned; of a draft,
            crops have its fewer pixels.
        faces: in pixels of that image.
        margin: on each side, as a part of the box's longer side, from 0 to 10.

    Returns:
        RGB uint8 arrays ``(h, w, 3)``, copies, in the order of the faces.

    Raises:
        ImageError: as :func:`polyface.read_image`.
        ConfigError: the margin is out of range.
    """
    margin = _check("margin", values.fraction(10), margin)
    pixels, faces = scale_faces(image, faces)
    sides = np.array(pixels.shape[1::-1])
    whole = _touched(faces, margin)
    low = np.clip(whole[:, :2], 0, sides - 1).astype(int)
    high = np.clip(whole[:, 2:], low + 1, sides).astype(int)
    return [pixels[top:bottom, left:right].copy() for (left, top), (right, bottom) in zip(low, high, strict=True)]


def align(image: ImageSource | Decoded, faces: Detections, *, size: int = 112) -> ImageArray:
    """Return each face turned, scaled and moved so that its landmarks lie where ArcFace and its like want them.

    The transform is the similarity, without a reflection, that brings the five landmarks nearest to ArcFace's template
    by least squares (Umeyama, "Least-squares estimation of transformation parameters between two point patterns", IEEE
    TPAMI 13(4), 1991). Shrinking is antialiased. What lies outside the image is black.

    Args:
        image: as of :func:`crop`.
        faces: with the landmarks left_eye, right_eye, nose, mouth_left and mouth_right, in this order, as seen in the
            image: every detector with five landmarks that comes with polyface gives these.
        size: height and width of the aligned faces, in pixels, from 1 to 4096; the template is scaled from 112.

    Returns:
        RGB uint8 ``(N, size, size, 3)``, in the order of the faces.

    Raises:
        ImageError: as :func:`polyface.read_image`; or all landmarks of a face lie in one point.
        ConfigError: the size is out of range.
        UnsupportedError: the faces have no landmarks, or others than these five.
    """
    size = _check("size", values.whole(1, LARGEST_SIZE), size)
    pixels, faces = scale_faces(image, faces)
    aligned = np.empty((len(faces), size, size, 3), np.uint8)
    if len(faces):
        for out, (turn, shift) in zip(aligned, _similarities(_five(faces), size), strict=True):
            out[:] = _resample(pixels, turn, shift, size)
    return aligned


def anonymize(
    image: ImageSource | Decoded,
    faces: Detections,
    *,
    how: str = "blur",
    shape: str = "ellipse",
    grow: float = 0.2,
    replacement: ImageSource | None = None,
) -> ImageArray:
    """Return the image with its faces made unrecognisable; no pixel outside their shapes changes.

    Of a face ``"blur"`` and ``"pixelate"`` leave two colours, whatever its size: the mean of its middle and the mean
    of its rim. All else is gone, so that no sharpening brings it back. A blur or a mosaic that kept more could be
    matched to its original: a mosaic of 4x4 cells was, for 64 of 100 faces of WIDER FACE among 239.

    Args:
        image: as of :func:`crop`.
        faces: in pixels of that image.
        how: ``"blur"``: from the colour of the middle smoothly to that of the rim; ``"pixelate"``: the same in 6x6
            cells; ``"fill"``: black; ``"image"``: the replacement, stretched.
        shape: ``"ellipse"``, or ``"box"`` with its corners.
        grow: by how much the shape exceeds the face's box on each side, as a part of the box's longer side, from 0 to
            10. An ellipse that has grown by 0.2 holds the corners of most boxes.
        replacement: what lies over each face with ``how="image"``; transparent pixels of it are white.

    Returns:
        RGB uint8 ``(H, W, 3)``, a copy.

    Raises:
        ImageError: as :func:`polyface.read_image`, of either image.
        ConfigError: an argument is none of these, or a replacement is missing or not wanted.
    """
    how = _check("how", values.one_of(*_WAYS), how)
    shape = _check("shape", values.one_of("ellipse", "box"), shape)
    grow = _check("grow", values.fraction(10), grow)
    if how == "image" and replacement is None:
        raise ConfigError("There is no image to lie over each face.", fix=Fix("name it by", names=("replacement",)))
    if how != "image" and replacement is not None:
        raise ConfigError(f"A replacement is given, and how is {quoted(how)}.", fix=Fix(settings={"how": "image"}))
    cover = Image.fromarray(np.zeros((1, 1, 3), np.uint8) if replacement is None else read_image(replacement))
    pixels, faces = scale_faces(image, faces)
    done = pixels.copy()
    for edges in reversed(_touched(faces, grow).tolist()):  # the best face last, so that it lies on top
        there, part = _cut(pixels, edges, shape)
        if part.inside.any():
            np.copyto(done[there], _WAYS[how](part, cover), where=part.inside[:, :, None])
    return done


def _check(name: str, parse: Callable[[Any], T], value: Any) -> T:
    try:
        return parse(value)
    except ValueError as error:
        raise ConfigError(f"{name} must be {error}, not {quoted(value)}.") from None


def _touched(faces: Detections, grow: float) -> Float64Array:
    """The rectangles ``(N, 4)`` of pixels, whole numbers, that boxes touch, grown by a part of their longer side.

    Each has one pixel at least; it may reach beyond the image. A box that is inside out is one of its corners.
    """
    corners = np.sort(faces.boxes.astype(np.float64).reshape(-1, 2, 2), axis=1)
    by = grow * (corners[:, 1] - corners[:, 0]).max(axis=1, keepdims=True)
    # What lies so far out is beyond any image, and from there on float64 counts no single pixels.
    low, high = np.clip(corners[:, 0] - by, -FARTHEST, FARTHEST), np.clip(corners[:, 1] + by, -FARTHEST, FARTHEST)
    low = np.floor(low)
    return np.concatenate([low, np.maximum(np.ceil(high), low + 1)], axis=1)


def check_landmarks(names: Sequence[str]) -> None:
    """Check that a detector whose landmarks have these names gives those by which faces are aligned.

    Raises:
        UnsupportedError: it gives others, or in another order.
    """
    if tuple(names) != FIVE:
        raise _other_landmarks(", ".join(names) or "none")


def _five(faces: Detections) -> Float64Array:
    """The five landmarks of each face, ``(N, 5, 2)``."""
    if faces.landmarks is None or faces.landmarks.shape[1] != len(FIVE):
        raise _other_landmarks("none" if faces.landmarks is None else f"{faces.landmarks.shape[1]} a face")
    return faces.landmarks.astype(np.float64)


def _other_landmarks(given: str) -> UnsupportedError:
    fix = Fix("take a detector that gives these, as this shows", command="polyface detectors")
    why = f"wanted are {', '.join(FIVE[:-1])} and {FIVE[-1]}, in this order; the detector gives {given}"
    return UnsupportedError("These faces cannot be aligned.", [Reason(subject="landmarks", why=why, fix=fix)])


def _similarities(points: Float64Array, size: int) -> list[tuple[complex, complex]]:
    """For each five points ``(N, 5, 2)`` the numbers a and b: a * point + b lies nearest to the template of that size.

    In the plane, a similarity without a reflection is this multiplication, with points as complex numbers.
    """
    template = (np.array(TEMPLATE) + 0.5) * (size / TEMPLATE_SIZE)  # as polyface counts, from the pixel's outer edge
    start, end = _complex(points), _complex(template)
    from_middle = start - start.mean(axis=1, keepdims=True)
    spread = (np.abs(from_middle) ** 2).sum(axis=1)
    turn = (from_middle.conj() @ (end - end.mean())) / np.where(spread > 0, spread, 1)
    if len(odd := np.flatnonzero(np.abs(turn) < LEAST_SCALE)):
        raise ImageError(
            f"Face {odd[0]} cannot be aligned.", why=["its landmarks lie in one point, or as no face's do"]
        )
    shift = end.mean() - turn * start.mean(axis=1)
    return list(zip(turn.tolist(), shift.tolist(), strict=True))


def _complex(points: Float64Array) -> Complex:
    found: Complex = points[..., 0] + 1j * points[..., 1]
    return found


def _resample(pixels: ImageArray, turn: complex, shift: complex, size: int) -> ImageArray:
    """The square that pixels fill under ``turn * point + shift``, averaged where one of its pixels holds several."""
    corners = [(corner - shift) / turn for corner in (0, size, 1j * size, size + 1j * size)]
    step = 1 / abs(turn)  # pixels of the image for one of the square
    height, width = pixels.shape[:2]
    block = max(1, int(min(step / SHARP, height, width)))
    left, right = _span([corner.real for corner in corners], 2 * block, width)
    top, bottom = _span([corner.imag for corner in corners], 2 * block, height)
    if left == right or top == bottom:
        return np.zeros((size, size, 3), np.uint8)
    part = Image.fromarray(pixels[top:bottom, left:right]).reduce(block)
    # The pixels between those of the square, as many as it takes for each to lie within one of the part's.
    several = max(1, math.ceil(min(step / block, 2 * SHARP) - ROUNDING))
    back = 1 / (turn * several * block)
    origin = (-shift / turn - complex(left, top)) / block
    matrix = (back.real, -back.imag, origin.real, back.imag, back.real, origin.imag)
    whole = part.transform(
        (several * size, several * size), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=0
    )
    return np.asarray(whole.reduce(several))


def _span(numbers: Sequence[float], reach: int, length: int) -> tuple[int, int]:
    """From where to where numbers lie, and what is in reach of them, within a length."""
    edges = math.floor(min(numbers)) - reach, math.ceil(max(numbers)) + reach
    low, high = (min(max(edge, 0), length) for edge in edges)
    return low, high


@frozen(eq=False)
class _Part:
    """What of a rectangle lies inside an image, which it may exceed.

    Args:
        pixels: RGB uint8 ``(h, w, 3)``: the image's there.
        inside: ``(h, w)``: which of them are to be painted.
        x: ``(w,)``: where their middles lie in the rectangle, -1 and 1 at its edges.
        y: ``(h,)``: likewise.
        square: ``(h, w)``: of the radius, 0 in the middle of the rectangle, 1 on the ellipse in it.
        box: left, top, right and bottom of the part, in parts of the rectangle's sides.
    """

    pixels: ImageArray
    inside: Mask
    x: FloatArray
    y: FloatArray
    square: FloatArray
    box: tuple[float, float, float, float]


def _cut(image: ImageArray, edges: Sequence[float], shape: str) -> tuple[tuple[slice, slice], _Part]:
    """Which rows and columns of an image lie between left, top, right and bottom edges, and what is there."""
    slices, places, box = [], [], []
    for low, high, length in zip(edges[:2], edges[2:], image.shape[1::-1], strict=True):
        start, stop = (int(min(max(edge, 0), length)) for edge in (low, high))
        middles = (2 * np.arange(start, stop) + 1 - low - high) / (high - low)
        slices.append(slice(start, stop))
        places.append(middles.astype(np.float32))
        box.append([(edge - low) / (high - low) for edge in (start, stop)])
    (columns, rows), (x, y), ((left, right), (top, bottom)) = slices, places, box
    square = _square(x, y)
    inside: Mask = square <= (1 if shape == "ellipse" else math.inf)
    return (rows, columns), _Part(image[rows, columns], inside, x, y, square, (left, top, right, bottom))


def _square(x: FloatArray, y: FloatArray) -> FloatArray:
    square: FloatArray = x * x + (y * y)[:, None]
    return square


def _blur(part: _Part, _: Image.Image) -> ImageArray:
    return _blend(part, part.square)


def _pixelate(part: _Part, _: Image.Image) -> ImageArray:
    x, y = ((np.floor((at + 1) * (CELLS / 2)) + 0.5) * (2 / CELLS) - 1 for at in (part.x, part.y))
    return _blend(part, _square(x, y))


def _blend(part: _Part, square: FloatArray) -> ImageArray:
    """From the mean colour of the middle smoothly to that of the rim, where the squared radius is 1."""
    middle = part.inside & (part.square < MIDDLE**2)
    image = Image.fromarray(part.pixels)
    cells = [cell for cell in (middle, part.inside & ~middle) if cell.any()]  # a tiny face may have one alone
    colours = [ImageStat.Stat(image, Image.fromarray(cell)).mean for cell in cells]
    # A table, since a face may have millions of pixels.
    way = np.sqrt(np.linspace(0, 1, LEVELS))[:, None]
    table = np.rint(colours[0] + np.subtract(colours[-1], colours[0]) * (way * way * (3 - 2 * way))).astype(np.uint8)
    blend: ImageArray = table[(np.minimum(square, 1) * (LEVELS - 1)).astype(np.uint16)]
    return blend


def _fill(part: _Part, _: Image.Image) -> ImageArray:
    return np.zeros_like(part.pixels)


def _paste(part: _Part, cover: Image.Image) -> ImageArray:
    left, top, right, bottom = np.multiply(part.box, cover.size * 2)
    left, top = min(left, cover.width - THIN), min(top, cover.height - THIN)
    piece = (left, top, max(right, left + THIN), max(bottom, top + THIN))
    return np.asarray(cover.resize((len(part.x), len(part.y)), Image.Resampling.BILINEAR, piece))


_WAYS: dict[str, Callable[[_Part, Image.Image], ImageArray]] = {
    "blur": _blur,
    "pixelate": _pixelate,
    "fill": _fill,
    "image": _paste,
}
