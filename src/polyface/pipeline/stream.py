"""Items in, results out, in order: one item's failure is its own."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import attrs

from polyface.errors import ClosedError, Fix, ImageError, PluginError, PolyfaceError, described
from polyface.images.reading import Decoded
from polyface.pipeline.batching import Window, read_windows
from polyface.pipeline.overlap import Steps, overlap
from polyface.results import Detections, Item, Result

if TYPE_CHECKING:
    from polyface.pipeline.timing import Stopwatch

    Detect: TypeAlias = Callable[
        [Mapping[int, Decoded], Stopwatch, int, AbstractContextManager[Any]], Mapping[int, Detections]
    ]

T = TypeVar("T")


def stream(
    items: Iterable[Any],
    read: Callable[[Any], Decoded],
    detect: Detect,
    share: Callable[[Decoded], tuple[Hashable, int]],
    *,
    batch_size: int,
    workers: int,
    runs: int,
    look_ahead: int,
    keep_images: bool,
    timing: bool,
) -> Generator[Result, None, None]:
    """Yield the result of each item; see :meth:`polyface.FaceDetector.stream`.

    ``read`` returns the decoded image of what an item holds, ``detect`` the faces of images that are in memory
    together, by their numbers. ``share`` is that of :class:`polyface.pipeline.overlap.Steps`, ``timing`` whether
    seconds are counted.
    """
    named = (as_item(item, number) for number, item in enumerate(items))
    read_one = functools.partial(read_item, read)
    if workers:

        def apart(
            images: Mapping[int, Decoded], watch: Stopwatch, network: AbstractContextManager[Any]
        ) -> dict[int, Detections | PolyfaceError]:
            return _detect_apart(detect, images, watch, batch_size, network)

        yield from overlap(
            named,
            Steps(read=read_one, share=share, most=batch_size, detect=apart, finish=_result),
            workers=workers,
            runs=runs,
            look_ahead=look_ahead,
            keep_images=keep_images,
            timing=timing,
        )
        return
    for window in read_windows(named, read_one, most=batch_size, pixels=-(-look_ahead // 3), timing=timing):
        found = _detect_apart(detect, _to_examine(window), window.watch, batch_size, contextlib.nullcontext())
        for number, (item, image) in enumerate(zip(window.items, window.read, strict=True)):
            result = _result(item, image, found.get(number))
            yield result if keep_images else attrs.evolve(result, image=None)


def _to_examine(window: Window[Item]) -> dict[int, Decoded]:
    return {number: image for number, image in window.images.items() if window.items[number].examine}


def as_item(given: Any, number: int) -> Item:
    """Return what a stream was given as an item with a name."""
    if isinstance(given, Item):
        return given
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str):
        return Item(name=given[0], image=given[1])
    return Item(name=os.fspath(given) if isinstance(given, str | os.PathLike) else str(number), image=given)


def read_item(read: Callable[[Any], T], item: Item) -> T | PolyfaceError:
    """Return the image of an item, or why it cannot be read.

    Raises:
        PluginError: the code of a plugin fails.
    """
    if item.problem:
        return ImageError(item.problem)
    try:
        return read(item.image)
    except PluginError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a file makes a decoder raise is that file's
        return failure_of(error)


def failure_of(error: Exception) -> PolyfaceError:
    """Return what went wrong with one item as polyface's own error, which its result bears."""
    if isinstance(error, PolyfaceError):
        return error
    if isinstance(error, MemoryError):
        return ImageError("does not fit into memory", fix=Fix("lower", names=("max_side", "pad_to")))
    return ImageError("it cannot be read", why=[described(error)])


def _detect_apart(
    detect: Detect,
    images: Mapping[int, Decoded],
    watch: Stopwatch,
    batch_size: int,
    network: AbstractContextManager[Any],
) -> dict[int, Detections | PolyfaceError]:
    """The faces of images by their numbers; where they fail together, each is tried alone."""
    if not images:
        return {}
    try:
        return {**detect(images, watch, batch_size, network)}
    except (ClosedError, PluginError):
        raise  # it is every item's
    except Exception as error:  # noqa: BLE001 - whatever goes wrong with one image is that image's
        if len(images) == 1:
            return dict.fromkeys(images, failure_of(error))
    alone = [_detect_apart(detect, {number: image}, watch, 1, network) for number, image in images.items()]
    return {number: found for one in alone for number, found in one.items()}


def _result(item: Item, image: Decoded | PolyfaceError, found: Detections | PolyfaceError | None) -> Result:
    result = Result(name=item.name, extra=item.extra, item=item)
    if isinstance(image, PolyfaceError):
        return attrs.evolve(result, error=image)
    height, width = image.shape
    extra = {**result.extra, "damaged": True} if image.damaged else result.extra
    result = attrs.evolve(result, width=width, height=height, extra=extra)
    if not item.examine:
        return attrs.evolve(result, image=image, extra={**extra, "examined": False})
    if isinstance(found, Detections):
        return attrs.evolve(result, faces=found, timing=found.timing, image=image)
    return attrs.evolve(result, error=found)  # without the image: a writer that has one knows that it was examined
