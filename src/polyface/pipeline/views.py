"""Views: what a network sees of an image.

A :class:`View` is the image, or a crop of it, scaled and perhaps mirrored. The plain call has one view; by default
there are as many as faces of every size need (:func:`plan_views`).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import attrs
from attrs import frozen

from polyface.errors import ConfigError, Fix, ImageError
from polyface.images.geometry import Placement, place_image
from polyface.plugins.records import DetectorSpec, least_run

if TYPE_CHECKING:
    from polyface.arrays import ImageArray
    from polyface.settings.config import Config


Crop: TypeAlias = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels of the image."""

EDGE = 4
"""A box that comes this near to an edge along which a tile was cut, in pixels, is taken for part of a face."""

FACE_ASPECT = 1.5
"""A face is about so many times as high as it is wide, at most: in WIDER FACE the median is 1.4. Networks find upright
faces, so that an image 640 wide and 480 high has none of 640."""

FINER, COARSER = 5 / 16, 1 / 4
"""Where two views meet: the finer counts faces whose shorter side is under 5/16 of the largest that the network sees
well, the coarser those whose longer side is over 1/4 of it. What lies between counts in both, so that no face is lost
to the fifth by which two views differ on its size."""

SHRINKS = (2.0, 2.5, 3.0)
"""A shrunken view has half the sides of the one before. Where that and what tiles share are too much work, less. The
smallest face that it counts, a twelfth at least of the largest that the network sees well, is one that it sees well."""

MOST_WORK = 4 / 3
"""All views have at most so many times the pixels of those that the settings ask for: what halves of halves come to."""

MOST_PIXELS = 2**30
"""All views of an image have at most so many pixels of the network's input."""

MOST_VIEWS = 4096
"""A view of an image has at most so many tiles."""


@frozen(kw_only=True)
class View:
    """What the network sees of an image.

    Args:
        crop: the part of the image; for the whole image, all of it.
        scale: the factor from pixels of the image to those of the network.
        flip: whether it is mirrored, left to right.
        larger_than: only faces whose longer side is greater count; in pixels of the image.
        smaller_than: only faces whose shorter side is less count; in pixels of the image.
        confirmed_over: faces whose longer side is greater count only where the views of the next smaller scale show
            them as well (see :func:`polyface.pipeline.merging.keep_confirmed`); in pixels of the image.
    """

    crop: Crop
    scale: float = 1.0
    flip: bool = False
    larger_than: float = -math.inf
    smaller_than: float = math.inf
    confirmed_over: float = math.inf

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the crop, in pixels of the image."""
        x1, y1, x2, y2 = self.crop
        return y2 - y1, x2 - x1


@frozen
class NetworkView:
    """A view of one image, as the network sees it.

    Args:
        index: the image's, among those that are detected together.
        shape: height and width of the image, in pixels.
        view: what is seen of it.
        placement: how that lies in the network's input.
        confirms: it is searched for less than faces, since finer views look to it for confirmation.
    """

    index: int
    shape: tuple[int, int]
    view: View
    placement: Placement
    confirms: bool = False


def whole_view(config: Config, height: int, width: int) -> View:
    """Return the view of a whole image of that size, in pixels, shrunk to ``max_side`` where it is longer."""
    scale = min(1.0, config.max_side / max(height, width)) if config.max_side else 1.0
    return View(crop=(0, 0, width, height), scale=scale)


def make_views(config: Config, height: int, width: int) -> tuple[View, ...]:
    """Return the views of an image of that size, in pixels, that the settings ask for, each once.

    What is longer than ``tile`` after scaling is seen once as a whole, too, shrunk to it, for the faces that are larger
    than what tiles share.
    """
    whole, tile = whole_view(config, height, width), config.tile
    views: list[View] = []
    for scale in (whole.scale * factor for factor in config.scales):
        if tile is None or round(max(height, width) * scale) <= tile:
            views.append(View(crop=whole.crop, scale=scale))
        else:
            side = max(1, round(tile / scale))
            views += [View(crop=crop, scale=scale) for crop in tiles(height, width, side, config.tile_overlap)]
            views.append(View(crop=whole.crop, scale=tile / max(height, width)))
    return _each_once(views, flip=config.flip)


def _each_once(views: Sequence[View], *, flip: bool) -> tuple[View, ...]:
    mirrored = [attrs.evolve(view, flip=True) for view in views if flip]
    return tuple(dict.fromkeys([*views, *mirrored]))


def plan_views(config: Config, detector: DetectorSpec, run_pixels: int, height: int, width: int) -> tuple[View, ...]:
    """Return what it takes to find faces of every size: from the smallest that the settings show to the whole image.

    To the views that the settings ask for come as few shrunken ones of the whole as bring the largest face down to what
    the detector's network sees well (``face_sizes`` of its :class:`polyface.plugins.records.DetectorSpec`). Where a
    coarser view takes over, a finer one no longer counts: of a face that is too large for it, the network sees pieces.
    And what a coarser view would have to see, it must confirm. A view of more than ``run_pixels`` is cut into tiles,
    which share what the largest face they must find needs. All that is at most a third more work than the views asked
    for, but for images of many times ``run_pixels``.

    Args:
        config: the settings, without an ``infer_size``.
        detector: whose network is to see it.
        run_pixels: the most pixels of input in a run of the network.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Raises:
        ImageError: all that would be more than ``MOST_PIXELS``.
    """

    @functools.cache  # asked of each view three times
    def cost(size: tuple[int, int], scale: float) -> int:
        return math.prod(place_image(config, detector, *size, scale).shape)

    def fits(size: tuple[int, int], scale: float) -> bool:
        return cost(size, scale) <= run_pixels

    whole, largest = (0, 0, width, height), min(height, FACE_ASPECT * width)
    asked = [view for view in make_views(config, height, width) if not view.flip]
    work = [cost(view.size, view.scale) for view in asked]
    check_pixels(work)
    sizes = detector.face_sizes
    if sizes is None:
        if max(work) <= run_pixels:
            return _each_once(asked, flip=config.flip)
        # Tiles hide what is larger than they are, as a network does that sees faces up to some size.
        sizes = (math.sqrt(run_pixels) / 64, math.sqrt(run_pixels) / 4)
    for shrink in SHRINKS:
        parts: list[View] = []
        for view in _with_shrunken(asked, whole, largest, sizes, shrink):
            if fits(view.size, view.scale):
                parts.append(view)
            else:
                shared = math.ceil(min(view.smaller_than, 1.25 * largest) + 2 * EDGE)
                parts += _cut_into_tiles(view, shared, functools.partial(fits, scale=view.scale))
        if sum(cost(part.size, part.scale) for part in parts) <= MOST_WORK * sum(work):
            break
    return _each_once(parts, flip=config.flip)


def _with_shrunken(
    views: Sequence[View], whole: Crop, largest: float, sizes: tuple[float, float], shrink: float
) -> list[View]:
    """Return the views, which are not mirrored, the shrunken ones of the whole that they lack, and the limits of each.

    ``largest`` is the largest face that there may be, in pixels of the image; ``sizes`` are those of the faces that the
    network sees well, in pixels of its input. A view is shrunk by ``shrink`` to make the next.
    """
    least, most = sizes
    asked = sorted({view.scale for view in views}, reverse=True)
    shrunken = []
    for finer, coarser in itertools.pairwise([*asked, 0.0]):
        scale = finer
        while largest * scale > most and scale > coarser * shrink:
            shrunken.append(View(crop=whole, scale=scale / shrink, larger_than=COARSER * most / scale))
            scale /= shrink
    scales = sorted({*asked, *(view.scale for view in shrunken)}, reverse=True)
    below = dict(itertools.pairwise(scales))
    return [
        attrs.evolve(view, smaller_than=FINER * most / view.scale, confirmed_over=least / below[view.scale])
        if view.scale in below and largest * view.scale > most
        else view
        for view in (*views, *shrunken)
    ]


def _cut_into_tiles(view: View, shared: int, fits: Callable[[tuple[int, int]], bool]) -> list[View]:
    """Return the view in equal tiles of the fewest pixels in all, of which neighbours share so many at least.

    ``fits`` says whether a tile of that height and width, in pixels of the image, may be.
    """
    height, width = view.size
    grids: list[tuple[int, int, int]] = []
    for columns in range(1, _most_parts(width, shared) + 1):
        across = _part(width, columns, shared)
        every = range(1, _most_parts(height, shared) + 1)
        rows = next((count for count in every if fits((_part(height, count, shared), across))), 0)
        if rows:
            grids.append((rows * columns * across * _part(height, rows, shared), rows, columns))
        if rows == 1:  # more columns are more tiles and no fewer pixels
            break
    if not grids:
        raise ConfigError(
            "A tile that shares a face with its neighbours has more pixels than run_pixels.",
            fix=Fix("raise", names=("run_pixels",)) | Fix("lower", names=("pad_to",)),
        )
    _, rows, columns = min(grids)
    x, y = view.crop[:2]
    return [
        attrs.evolve(view, crop=(x + left, y + top, x + right, y + bottom))
        for top, bottom in _spans(height, rows, shared)
        for left, right in _spans(width, columns, shared)
    ]


def _most_parts(length: int, shared: int) -> int:
    """How many parts there may be: each is twice as long as what it shares, where it can be."""
    return max(1, math.ceil((length - shared) / shared))


def _part(length: int, count: int, shared: int) -> int:
    """How long each of so many parts is that share so much."""
    return length if count == 1 else math.ceil((length - shared) / count) + shared


def _spans(length: int, count: int, shared: int) -> Iterator[tuple[int, int]]:
    part = _part(length, count, shared)
    for index in range(count):
        start = 0 if count == 1 else index * (length - part) // (count - 1)
        yield start, start + part


def resolve_run_pixels(config: Config, detector: DetectorSpec) -> int:
    """Return the most pixels of input in a run of the network: the setting ``run_pixels``, or the detector's.

    Where ``pad_to`` alone makes the smallest tile larger than the detector's, that tile is the least there is.

    Raises:
        ConfigError: the setting leaves no room for the detector's largest faces.
    """
    least = least_run(detector.face_sizes, math.lcm(detector.preprocess.stride, config.pad_to))
    if config.run_pixels is None:
        return max(least, detector.run_pixels)
    if config.run_pixels < least and config.view == "auto":
        raise ConfigError(
            f"run_pixels must be at least {least} for '{detector.name}', not {config.run_pixels}.",
            why=["smaller tiles could not share a face of the largest size that its network sees"],
            fix=Fix(settings={"run_pixels": least}) | Fix(settings={"view": "plain"}),
        )
    return config.run_pixels


def check_pixels(costs: Iterable[int]) -> None:
    """Refuse views of an image that have more than ``MOST_PIXELS`` pixels of input in all.

    Raises:
        ImageError: they have.
    """
    pixels = sum(costs)
    if pixels > MOST_PIXELS:
        raise ImageError(
            f"The views of the image have {pixels:,} pixels; at most {MOST_PIXELS:,} go through the network.",
            fix=Fix("lower", names=("scales", "tile_overlap", "pad_to", "infer_size", "max_side")),
        )


def tiles(height: int, width: int, side: int, overlap: float) -> tuple[Crop, ...]:
    """Return the fewest squares of ``side`` pixels, evenly spread, that cover the image and overlap by that part.

    Raises:
        ImageError: they are more than ``MOST_VIEWS``.
    """
    rows, columns = (_starts(length, side, overlap) for length in (height, width))
    if len(rows) * len(columns) > MOST_VIEWS:
        raise ImageError(
            f"The image would be seen in {len(rows) * len(columns):,} tiles; at most {MOST_VIEWS:,} are taken.",
            fix=Fix("raise", names=("tile",)) | Fix("lower", names=("tile_overlap", "scales", "max_side")),
        )
    return tuple((x, y, min(x + side, width), min(y + side, height)) for y in rows for x in columns)


def _starts(length: int, side: int, overlap: float) -> Sequence[int]:
    if length <= side:
        return [0]
    steps = math.ceil((length - side) / (side * (1 - overlap)))
    if steps >= length - side:  # steps shorter than a pixel would start twice at one place
        return range(length - side + 1)
    return [step * (length - side) // steps for step in range(steps + 1)]


def crop(image: ImageArray, view: View) -> ImageArray:
    """Return the crop of the image ``(H, W, 3)``, mirrored if the view is; nothing is copied."""
    x1, y1, x2, y2 = view.crop
    part = image[y1:y2, x1:x2]
    return part[:, ::-1] if view.flip else part
