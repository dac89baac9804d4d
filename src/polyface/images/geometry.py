"""How an image lies in a network's input, and the way back into its own pixels.

Coordinates are measured from the outer edge of the top-left pixel, so an image of width W spans x from 0 to W, and
resizing by a factor multiplies coordinates by it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import numpy as np
from attrs import frozen

from polyface.errors import NO_FIX, ConfigError, Fix, ImageError
from polyface.plugins.records import DetectorSpec
from polyface.settings.config import Config, contradicted

if TYPE_CHECKING:
    from polyface.arrays import FloatArray

PADDING = 2**24
"""Pixels that padding may add to a network's input beside as many again as the image has there: one that is a pixel
wide would cost as much as one of 32 times its pixels."""


FREE = Fix("if its family has the option free, make the file's size free by free=true among", names=("family_options",))


@frozen(kw_only=True)
class Placement:
    """How an image lies in the network's input: scaled to ``width`` by ``height``, at the top left of the padding.

    All in pixels; ``net_width`` and ``net_height`` are those of the network's input, padding included.
    """

    image_width: int
    image_height: int
    width: int
    height: int
    net_width: int
    net_height: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the network's input, which images of one batch share."""
        return self.net_height, self.net_width


def settle_size(config: Config, detector: DetectorSpec) -> Config:
    """Return the settings with the height and width at which a detector's network runs, and how images fill them.

    What its input fixes decides; its defaults give way to a setting that says how large images are seen.

    Raises:
        ConfigError: a setting contradicts what its input fixes; or a side of ``infer_size`` is no multiple of the
            stride, or under ``min_side``: names the nearest legal size.
    """
    fixed, usual, size = detector.fixed_size, detector.defaults, config.infer_size
    if size is None:
        given = any(config.is_given(name) for name in ("max_side", "scales", "tile", "preset"))
        size = fixed or (None if given else usual.infer_size)
    if size is None:
        return config
    legal = fixed or detector.legal_size(size)
    only = f"its network takes {legal[0]}x{legal[1]} and nothing else"
    for name in contradicted("infer_size") if fixed else ():
        if config.differs(name):
            raise ConfigError(
                f"'{detector.name}' cannot run with {name}.",
                why=[only, f"{name} is set ({config.sources.get(name, 'keyword')})"],
                fix=Fix("leave out", names=(name,)) | (FREE if config.family else NO_FIX),
            )
    if size != legal:
        stride = detector.preprocess.stride
        raise ConfigError(
            f"'{detector.name}' cannot run at infer_size {size[0]}x{size[1]}.",
            why=[only if fixed else f"its sides must be multiples of {stride} and at least {detector.min_side}"],
            fix=Fix(settings={"infer_size": legal}),
        )
    fit = config.fit if config.is_given("fit") else usual.fit
    return attrs.evolve(
        config, infer_size=size, fit=fit, sources={"infer_size": f"by '{detector.name}'", **config.sources}
    )


def place_image(
    config: Config, detector: DetectorSpec, image_height: int, image_width: int, scale: float = 1.0
) -> Placement:
    """Return how an image of that size in pixels, times ``scale``, goes into a detector's network by the settings.

    Of settings that :func:`settle_size` returned, ``infer_size`` decides alone, filled as ``fit`` says, and enlarges
    small images; else height and width are padded to a multiple of ``pad_to``, and of the detector's ``stride``, and
    are no less than its ``min_side``.

    Raises:
        ImageError: padding would add more than the image's own pixels and ``PADDING`` more.
    """
    infer_size, min_side = config.infer_size, detector.min_side
    if infer_size is not None:
        scale = min(infer_size[0] / image_height, infer_size[1] / image_width)
    width, height = (max(1, round(side * scale)) for side in (image_width, image_height))
    if infer_size is not None:
        net_height, net_width = infer_size
        width, height = (net_width, net_height) if config.fit == "stretch" else (width, height)
    else:
        multiple = math.lcm(detector.preprocess.stride, config.pad_to)
        net_width, net_height = (math.ceil(max(side, min_side) / multiple) * multiple for side in (width, height))
        if net_width * net_height > 2 * width * height + PADDING:
            raise ImageError(
                f"The image, {width}x{height} pixels for the network, would be padded to {net_width}x{net_height}.",
                why=[f"padding may add as many pixels as it has, and {PADDING:,} more"],
                fix=Fix("lower", names=("pad_to", "max_side")) | "cut a long thin image into parts",
            )
    return Placement(
        image_width=image_width,
        image_height=image_height,
        width=width,
        height=height,
        net_width=net_width,
        net_height=net_height,
    )


def restore(points: FloatArray, placement: Placement) -> FloatArray:
    """Return boxes ``(K, 4)`` or landmarks ``(K, L, 2)``, float32, of the network's input in pixels of the image."""
    pairs = points.shape[-1] // 2
    scale = np.array(
        [placement.image_width / placement.width, placement.image_height / placement.height] * pairs, np.float32
    )
    restored: FloatArray = points * scale
    return restored
