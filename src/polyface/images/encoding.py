"""Images as files again: other pixels in the format of the file that they came from, and nothing else of it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image

from polyface.errors import ImageError
from polyface.images.reading import turn_back
from polyface.machine.formats import ENDINGS

if TYPE_CHECKING:
    from polyface.arrays import ImageArray
    from polyface.images.decoding import Opened

QUALITY = 95
"""Of a JPEG whose own tables cannot be taken, and of WebP and AVIF, which do not say theirs."""

_SIGNED = slice(36, 40)
_SPACE = slice(16, 20)


def encode(pixels: ImageArray, like: Opened) -> bytes:
    """Return pixels as a file like an open one: of its format, orientation and, where they fit, colour profile.

    A JPEG is compressed by the tables of its own; a TIFF, PNG, JPEG 2000, BMP, PPM or TGA keeps each pixel. A grey
    image stays one while its pixels are grey. All have 8 bits a channel and no transparency, as images are read.
    Whatever else is in the file is left out: EXIF data with position, thumbnail and the camera's notes, XMP, texts.

    Args:
        pixels: RGB uint8 ``(H, W, 3)``, as shown.
        like: the file.

    Raises:
        ImageError: the file has other width and height, or is in a format that is not written.
        OSError: Pillow cannot write them; so does a ``ValueError`` say.
    """
    image, label = like.image, like.source.label
    own = turn_back(pixels, like.orientation)
    if own.shape[1::-1] != image.size:
        was = f"{own.shape[1]}x{own.shape[0]}"
        raise ImageError(f"{label} has changed.", why=[f"it had {was} pixels, and has {image.width}x{image.height}"])
    if image.format not in ENDINGS:
        why = f"images are not written as {image.format}"
        raise ImageError(f"{label} cannot be written anew.", why=[why], fix="save it as a JPEG first")
    grey = Image.getmodebase(image.mode) == "L" and bool((own == own[:, :, :1]).all())
    given: dict[str, Any] = {**_settings(image)}
    given |= profile_of(like.profile, grey=grey)
    if like.orientation != 1:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = like.orientation
        given["exif"] = exif.tobytes()
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(own[:, :, 0] if grey else own)).save(data, format=image.format, **given)
    return data.getvalue()


def profile_of(profile: bytes, *, grey: bool = False) -> Mapping[str, Any]:
    """Return what ``Image.save`` takes for an ICC profile to be kept, where it is one of such colours."""
    fits = profile[_SIGNED] == b"acsp" and profile[_SPACE] == (b"GRAY" if grey else b"RGB ")
    return {"icc_profile": profile} if fits else {}


def _settings(image: Image.Image) -> Mapping[str, Any]:
    """What keeps an image of that format as it is, or nearly."""
    from PIL import JpegImagePlugin

    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return _SETTINGS.get(str(image.format), {})
    tables = [table for _, table in sorted(image.quantization.items())]
    if image.mode not in ("L", "RGB") or not all(0 < step < 256 for table in tables for step in table):
        return {"quality": QUALITY, "subsampling": 0}
    return {"qtables": tables, "subsampling": max(JpegImagePlugin.get_sampling(image), 0)}


_SETTINGS: dict[str, dict[str, Any]] = {
    "TIFF": {"compression": "tiff_adobe_deflate"},
    "WEBP": {"quality": QUALITY},
    "AVIF": {"quality": QUALITY},
}
