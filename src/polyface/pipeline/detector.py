"""The detector: views of an image through the network, and what they show merged into one answer."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import numpy as np
import numpy.typing as npt

from polyface.errors import ConfigError, Fix, ImageError, quoted
from polyface.images.geometry import place_image
from polyface.images.reading import Decoded, decode, read_image
from polyface.machine import gate, memory
from polyface.machine.cores import default_threads
from polyface.pipeline import stages
from polyface.pipeline.batching import HELD_PIXELS, group_by_shape, read_windows
from polyface.pipeline.merging import ViewFaces, clip, merge_views
from polyface.pipeline.stages import Network
from polyface.pipeline.stream import stream
from polyface.pipeline.views import NetworkView, View, check_pixels, crop, whole_view
from polyface.settings.config import MOST_THREADS
from polyface.settings.values import count, whole

if TYPE_CHECKING:
    from polyface.arrays import FloatArray
    from polyface.images.reading import ImageSource
    from polyface.pipeline.presets import Strategy
    from polyface.pipeline.timing import Stopwatch
    from polyface.results import Detections, Result
    from polyface.settings.config import Config

S = TypeVar("S")
T = TypeVar("T")


class FaceDetector:
    """A face detector on a backend, ready to run; made by :func:`polyface.create_detector`.

    It holds no state per call, so many threads may use one. It can be pickled: another process builds it again from its
    configuration and the plugins installed there, and refuses a user's own file that is another by then. As a context
    manager it closes itself.

    Attributes:
        config: the settings it was made with.
        spec: the record of the detector; ``spec.landmarks`` names the landmarks.
        backend: the record of the backend.
        route: how the network reached the backend, such as ``"onnx, packaged"``.
        execution: what it really runs on.
        strategy: which views of an image it takes, and how it merges what it finds in them.
        score_threshold: a face scores at least this.
        iou_threshold: of two boxes that overlap more than this, one goes.
    """

    def __init__(
        self,
        config: Config,
        network: Network,
        strategy: Strategy,
        *,
        route: str,
        rebuild: Callable[[Config], FaceDetector],
    ) -> None:
        self.config = config
        self.spec = network.spec
        self.backend = network.backend
        self.route = route
        self.execution = network.execution
        self.strategy = strategy
        self.score_threshold = strategy.score_threshold
        self.iou_threshold = strategy.iou_threshold
        self._network = network
        self._place = functools.partial(place_image, config, network.spec)
        self._rebuild = rebuild
        self._trims = network.backend.trim if config.trim is None else config.trim

    def __repr__(self) -> str:
        run = self.execution
        return f"<FaceDetector {self.spec.name} on {self.backend.name}, {run.device}, {run.precision}>"

    def read(self, image: ImageSource | Decoded) -> Decoded:
        """Return an image decoded as this detector needs it: with the setting ``draft``, perhaps as a draft.

        Raises:
            ImageError: it is not an image, or cannot be read.
        """
        if isinstance(image, Decoded):
            return image
        config = self.config
        scale = self._scale if config.draft else None
        damaged = config.damaged == "read"
        return decode(image, scale, formats=config.formats, max_pixels=config.max_pixels, damaged=damaged)

    def detect(self, image: ImageSource | Decoded) -> Detections:
        """Return the faces of one image, the highest score first.

        Args:
            image: an RGB uint8 array ``(H, W, 3)``, a PIL image, a path, the bytes of an image file, or such a file
                open in binary mode; see :func:`polyface.read_image`. Or what :meth:`read` returned.

        Raises:
            ImageError: it is not an image, or cannot be read.
            ClosedError: the detector is closed.
            BackendUnavailableError: the runtime failed: ``OutOfMemoryError``, ``NumericalError``, or another way.
        """
        return self._detect([image], self.read)[0]

    def detect_batch(self, images: Sequence[ImageSource | Decoded] | npt.NDArray[Any]) -> list[Detections]:
        """Return the faces of each image, in the same order; the images may differ in size.

        Views of one padded shape go through the network together, at most ``batch_size`` of them and ``run_pixels``
        pixels of input. What is found in one never depends on the others. The images are read a few at a time, so that
        their number does not count in memory.

        Raises:
            ImageError: one of them is not an image; says which.
            PolyfaceError: whatever else :meth:`detect` raises.
        """
        _refuse_one_image(images, "detect_batch wants a sequence of images.")
        return self._detect(enumerate(images), lambda numbered: _read_numbered(self.read, *numbered))

    def stream(
        self,
        items: Iterable[Any],
        *,
        batch_size: int | None = None,
        workers: int | None = None,
        look_ahead: int | None = None,
        keep_images: bool = False,
    ) -> Generator[Result, None, None]:
        """Yield the result of each item, in the same order.

        What is wrong with one item is the ``error`` of its result, and the next is done all the same. Images are read,
        prepared and merged in threads while the network runs on others; what is found in one never depends on the
        others. Neither the number of items nor their size counts in memory. Closing the iterator ends its threads;
        :func:`contextlib.closing` does so at once where the loop may be left early.

        Args:
            items: each an image as :meth:`detect` takes it, a pair of a name and an image, or an
                :class:`polyface.results.Item`. A path is its own name; what has none is called by its number, from 0.
                They are taken in the calling thread, some ahead of the result that is asked for.
            batch_size: how many images go through the network together at most; the setting by default.
            workers: how many threads there are; the setting by default. With 0 all is done in the calling thread,
                ``batch_size`` items at a time: with 1 at a time, the result of a camera's frame never waits for the
                next frame.
            look_ahead: bytes at which no further item is taken, 100 MB by default: those of decoded images, and those
                that items themselves hold (bytes, arrays, Pillow images), until their results are taken. The last
                image, and as many as there are threads, may exceed it.
            keep_images: whether each result has its decoded image.

        Raises:
            ImageError: ``items`` is one image.
            ConfigError: a number is out of range.
            ClosedError: the detector is closed, and there is an image to examine.
            PluginError: the code of the detector or the backend fails, and would for every item.
            BackendUnavailableError: this process was forked off after the stream began.
        """
        _refuse_one_image(items, "stream wants an iterable of images.")
        config, runs = self.config, self.config.runs or 1
        crew = max(runs, default_threads()) + 1 if config.workers is None else config.workers
        return stream(
            items,
            self.read,
            self._detect_window,
            self._share,
            batch_size=_checked("batch_size", config.batch_size if batch_size is None else batch_size, count),
            workers=_checked("workers", crew if workers is None else workers, whole(0, MOST_THREADS)),
            runs=runs,
            look_ahead=_checked("look_ahead", 3 * HELD_PIXELS if look_ahead is None else look_ahead, whole(1, 2**62)),
            keep_images=keep_images,
            timing=config.timing,
        )

    def raw_heads(self, images: Sequence[ImageSource]) -> dict[str, FloatArray]:
        """Return what the network itself gives for images of one padded shape, in one run: to compare backends.

        The network sees each image once, whole and not mirrored, after ``max_side``, ``infer_size`` and ``pad_to``;
        other views are for detecting.

        Returns:
            By output name, float32 with one row an image; ``detector.spec.outputs`` says the shapes.

        Raises:
            ImageError: one of them is not an image, there is none, or their padded shapes differ.
            PolyfaceError: whatever else :meth:`detect` raises.
        """
        config = self.config
        read = functools.partial(
            read_image, formats=config.formats, max_pixels=config.max_pixels, damaged=config.damaged
        )
        pixels = [_read_numbered(read, index, image) for index, image in enumerate(images)]
        wholes = [whole_view(self.config, *image.shape[:2]) for image in pixels]
        views = [self._see(index, view.size, view) for index, view in enumerate(wholes)]
        shapes = dict.fromkeys(f"{view.placement.net_width}x{view.placement.net_height}" for view in views)
        if len(shapes) != 1:
            raise ImageError(
                f"raw_heads wants images of one padded shape, not {', '.join(shapes) or 'none'}.",
                fix=Fix("call it for each shape") | Fix("set", names=("infer_size",)),
            )
        batch = stages.prepare(self._network, pixels, views)
        stages.run(self._network, batch)
        if not all(np.isfinite(output).all() for output in batch.outputs.values()):
            raise self._network.not_finite(batch.outputs)
        return {output.name: batch.outputs[output.name] for output in self.spec.outputs}

    def close(self) -> None:
        """Release the network; closing twice is fine, detecting afterwards raises ``ClosedError``."""
        with gate.runs:
            self._network.close()

    def __del__(self) -> None:
        # Where the process ends meanwhile, a runtime that is taken apart in a daemon thread aborts it.
        with gate.runs:
            vars(self).pop("_network", None)

    def __enter__(self) -> FaceDetector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return self._rebuild, (self.config,)

    def _detect(self, images: Iterable[S], read: Callable[[S], Decoded]) -> list[Detections]:
        found: list[Detections] = []
        for window in read_windows(images, read, timing=self.config.timing):
            found += self._detect_window(window.images, window.watch, self.config.batch_size).values()
        return found

    def _share(self, image: Decoded) -> tuple[frozenset[tuple[int, int]], int]:
        """The shapes of an image's views, and how many such images fill a run."""
        shapes = [view.placement.shape for view in self._views(0, image.shape)]
        return frozenset(shapes), max(1, self.strategy.run_pixels // sum(map(math.prod, shapes)))

    def _detect_window(
        self,
        images: Mapping[int, Decoded],
        watch: Stopwatch,
        batch_size: int,
        network: AbstractContextManager[Any] = contextlib.nullcontext(),  # noqa: B008 - it has no state
    ) -> dict[int, Detections]:
        """The faces of images that are in memory together, by their numbers; ``network`` is held while it runs."""
        views = [view for index, image in images.items() for view in self._views(index, image.shape)]
        shown: dict[int, ViewFaces] = {}
        placements, exactly = [view.placement for view in views], self.spec.fixed_batch or 1
        for group in group_by_shape(placements, batch_size, self.strategy.run_pixels, exactly):
            together = [views[number] for number in group]
            shown |= zip(group, self._detect_views(images, together, watch, network), strict=True)
        by_image: dict[int, list[ViewFaces]] = {index: [] for index in images}
        for number, view in enumerate(views):  # in their order, whatever groups they went through the network in
            by_image[view.index].append(shown[number])
        return {index: self._merge(found, index, images[index], watch) for index, found in by_image.items()}

    def _detect_views(
        self,
        images: Mapping[int, Decoded],
        views: Sequence[NetworkView],
        watch: Stopwatch,
        network: AbstractContextManager[Any],
    ) -> list[ViewFaces]:
        """What is found in views of one shape, which go through the network together."""
        together = [view.index for view in views]
        with watch.stage("prepare", together):
            # Every view of a draft is of the whole image, so that its crop reaches over all of the draft.
            parts = [crop(images[view.index].pixels, view.view) for view in views]
            batch = stages.prepare(self._network, parts, views)
        with network, watch.stage("network", together):
            stages.run(self._network, batch)
        if self._trims:
            with gate.runs, watch.stage("trim", together):  # it has a lock, which no fork may leave held
                memory.process.ran((self.spec.name, self.backend.name, len(views), *views[0].placement.shape))
        return stages.finish(self._network, batch, self.strategy, watch)

    def _merge(self, shown: Sequence[ViewFaces], index: int, image: Decoded, watch: Stopwatch) -> Detections:
        with watch.stage("nms", [index]):
            faces = merge_views(shown, self.strategy)
            if self.config.clip:
                faces = clip(faces, *image.shape)
        return attrs.evolve(faces, timing=watch.seconds(index)) if self.config.timing else faces

    def _views(self, index: int, shape: tuple[int, int]) -> list[NetworkView]:
        views = self.strategy.views(*shape)
        # A view that finer ones look to for confirmation is searched for less than faces.
        finest = max((view.scale for view in views if view.confirmed_over < math.inf), default=0.0)
        seen = [self._see(index, shape, view, confirms=view.scale < finest) for view in views]
        check_pixels(math.prod(view.placement.shape) for view in seen)
        return seen

    def _see(self, index: int, shape: tuple[int, int], view: View, *, confirms: bool = False) -> NetworkView:
        return NetworkView(index, shape, view, self._place(*view.size, view.scale), confirms=confirms)

    def _scale(self, height: int, width: int) -> float:
        """The largest factor at which an image of that size is seen; 1 where a view sees only a part of it."""
        views = self.strategy.views(height, width)
        if any(view.size != (height, width) for view in views):
            return 1.0
        placements = [self._place(height, width, view.scale) for view in views]
        return max(max(place.height / height, place.width / width) for place in placements)


def _refuse_one_image(images: Any, what: str) -> None:
    one = not hasattr(images, "__iter__") or isinstance(images, str | bytes | bytearray | memoryview)
    one = one or hasattr(images, "read")  # an open file, which iterates over its lines
    if one or (isinstance(images, np.ndarray) and images.ndim != 4):
        raise ImageError(what, fix="detector.detect(image) for one")


def _read_numbered(read: Callable[[S], T], index: int, image: S) -> T:
    try:
        return read(image)
    except ImageError as error:
        raise ImageError(f"Image {index} of the batch: {error.what}", why=error.why, fix=error.fix) from error


def _checked(name: str, value: Any, check: Callable[[Any], int]) -> int:
    try:
        return check(value)
    except ValueError as error:
        raise ConfigError(f"{name} must be {error}, not {quoted(value)}.") from None
