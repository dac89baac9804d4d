"""Images as a network takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, ImageArray
    from polyface.images.geometry import Placement
    from polyface.plugins.records import Preprocess


def prepare(
    images: Sequence[ImageArray], placements: Sequence[Placement], preprocess: Preprocess, out: FloatArray | None = None
) -> FloatArray:
    """Return the network's input ``(N, 3, H, W)`` float32, C-contiguous, for images whose placements share one shape.

    The images are RGB uint8 arrays ``(h, w, 3)``. Shrinking is anti-aliased (Pillow's bilinear filter widens with the
    factor). Every number of ``out``, a new array by default, is written.
    """
    batch = np.empty((len(images), 3, *placements[0].shape), np.float32) if out is None else out
    order = (0, 1, 2) if preprocess.channels == "rgb" else (2, 1, 0)
    for image, placement, planes in zip(images, placements, batch, strict=True):
        scaled = _scale(image, placement)
        channels = zip(planes, order, preprocess.mean, preprocess.std, preprocess.pads, strict=True)
        for plane, channel, mean, std, pad in channels:
            plane[placement.height :] = plane[: placement.height, placement.width :] = pad
            inside = plane[: placement.height, : placement.width]
            inside[...] = scaled[:, :, channel]  # then in place: NumPy subtracts through a buffer where dtypes differ
            if mean != 0:
                inside -= np.float32(mean)
            if std != 1:
                with np.errstate(over="ignore"):  # a wrong std: what comes of it is told where the network gives it
                    inside /= np.float32(std)
    return batch


def place_pixels(
    images: Sequence[ImageArray], placements: Sequence[Placement], preprocess: Preprocess, out: ImageArray | None = None
) -> ImageArray:
    """Return what :func:`prepare` normalises, RGB uint8 ``(N, H, W, 3)``: the images, and ``pad_pixel`` around them."""
    batch = np.empty((len(images), *placements[0].shape, 3), np.uint8) if out is None else out
    pad = preprocess.pad_pixel
    for image, placement, pixels in zip(images, placements, batch, strict=True):
        pixels[placement.height :] = pixels[: placement.height, placement.width :] = pad
        pixels[: placement.height, : placement.width] = _scale(image, placement)
    return batch


def _scale(image: ImageArray, placement: Placement) -> ImageArray:
    if (placement.height, placement.width) == image.shape[:2]:
        return image
    size = (placement.width, placement.height)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
