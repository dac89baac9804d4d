"""The detector: views of an image through the network, and what they show merged into one answer."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import numpy as np
import numpy.typing as npt

from polyface.errors import ImageError
from polyface.images.geometry import placement_for
from polyface.images.reading import Decoded, decode, read_image
from polyface.machine import gate, memory
from polyface.pipeline import stages
from polyface.pipeline.batching import group_by_shape
from polyface.pipeline.merging import ViewFaces, clip, merge_views
from polyface.pipeline.stages import Network
from polyface.pipeline.timing import Stopwatch
from polyface.pipeline.views import NetworkView, check_pixels, crop, make_views

if TYPE_CHECKING:
    from polyface.arrays import FloatArray
    from polyface.images.geometry import Placement
    from polyface.images.reading import ImageSource
    from polyface.pipeline.presets import Strategy
    from polyface.results import Detections
    from polyface.settings.config import Config

S = TypeVar("S")
T = TypeVar("T")

HELD_PIXELS = 2**25
"""Of a batch, so many pixels and one image more are in memory at a time: 100 MB."""


class FaceDetector:
    """A face detector on a backend, ready to run; made by :func:`polyface.create_detector`.

    It holds no state per call, so many threads may use one. It can be pickled: another process builds it again from its
    configuration and the plugins installed there. As a context manager it closes itself.

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
        scale = self._scale if self.config.draft else None
        return decode(image, scale, formats=self.config.formats, max_pixels=self.config.max_pixels)

    def detect(self, image: ImageSource | Decoded) -> Detections:
        """Return the faces of one image, the highest score first.

        Args:
            image: an RGB uint8 array ``(H, W, 3)``, a PIL image, a path, the bytes of an image file, or such a file
                open in binary mode; see :func:`polyface.read_image`. Or what :meth:`read` returned.

        Raises:
            ImageError: it is not an image, or cannot be read.
            BackendUnavailableError: the detector is closed, or the runtime failed.
        """
        return self._detect([image], self.read)[0]

    def detect_batch(self, images: Sequence[ImageSource | Decoded] | npt.NDArray[Any]) -> list[Detections]:
        """Return the faces of each image, in the same order; the images may differ in size.

        Views of one padded shape go through the network together, at most ``batch_size`` of them and ``run_pixels``
        pixels of input. What is found in one never depends on the others. The images are read a few at a time, so that
        their number does not count in memory.

        Raises:
            ImageError: one of them is not an image; says which.
            BackendUnavailableError: the detector is closed, or the runtime failed.
        """
        one = not hasattr(images, "__iter__") or isinstance(images, str | bytes | bytearray | memoryview)
        one = one or hasattr(images, "read")  # an open file, which iterates over its lines
        if one or (isinstance(images, np.ndarray) and images.ndim != 4):
            raise ImageError("detect_batch wants a sequence of images.", fix="detector.detect(image) for one")
        return self._detect(enumerate(images), lambda numbered: _read_numbered(self.read, *numbered))

    def raw_heads(self, images: Sequence[ImageSource]) -> dict[str, FloatArray]:
        """Return what the network itself gives for images of one padded shape, in one run: to compare backends.

        The network sees each image once, whole and not mirrored, after ``max_side``, ``infer_size`` and ``pad_to``;
        other views are for detecting.

        Returns:
            By output name, float32 with one row an image; ``detector.spec.outputs`` says the shapes.

        Raises:
            ImageError: one of them is not an image, there is none, or their padded shapes differ.
            BackendUnavailableError: the detector is closed, the runtime failed, or a number is not finite.
        """
        read = functools.partial(read_image, formats=self.config.formats, max_pixels=self.config.max_pixels)
        pixels = [_read_numbered(read, index, image) for index, image in enumerate(images)]
        views = []
        for index, image in enumerate(pixels):
            height, width = image.shape[:2]
            view = make_views(height, width, max_side=self.config.max_side)[0]
            views.append(NetworkView(index, (height, width), view, self._place(height, width, view.scale)))
        shapes = dict.fromkeys(f"{view.placement.net_width}x{view.placement.net_height}" for view in views)
        if len(shapes) != 1:
            raise ImageError(
                f"raw_heads wants images of one padded shape, not {', '.join(shapes) or 'none'}.",
                fix="call it for each shape, or set infer_size",
            )
        batch = stages.prepare(self._network, pixels, views)
        stages.run(self._network, batch)
        if not all(np.isfinite(output).all() for output in batch.outputs.values()):
            raise self._network.not_finite()
        return {output.name: batch.outputs[output.name] for output in self.spec.outputs}

    def close(self) -> None:
        """Release the network; closing twice is fine, detecting afterwards raises ``BackendUnavailableError``."""
        with gate.runs:
            self._network.close()

    def __del__(self) -> None:
        # Where the process ends meanwhile, a runtime that is taken apart in a daemon thread aborts it.
        with gate.runs:
            vars(self).pop("_network", None)

    def __enter__(self) -> FaceDetector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return self._rebuild, (self.config,)

    def _detect(self, images: Iterable[S], read: Callable[[S], Decoded]) -> list[Detections]:
        found: list[Detections] = []
        remaining, more = iter(images), True
        while more:
            watch = Stopwatch(on=self.config.timing)
            held: list[Decoded] = []
            pixels, more = 0, False
            for image in remaining:
                with watch.stage("read", [len(held)]):
                    held.append(read(image))
                pixels += math.prod(held[-1].pixels.shape[:2])
                if pixels >= HELD_PIXELS:
                    more = True
                    break
            found += self._detect_together(held, watch)
        return found

    def _detect_together(self, images: Sequence[Decoded], watch: Stopwatch) -> list[Detections]:
        views = [view for index, image in enumerate(images) for view in self._views(index, image.shape)]
        by_image: list[list[tuple[int, ViewFaces]]] = [[] for _ in images]
        placements = [view.placement for view in views]
        for group in group_by_shape(placements, self.config.batch_size, self.strategy.run_pixels):
            shown = self._detect_views(images, [views[number] for number in group], watch)
            for number, one in zip(group, shown, strict=True):
                by_image[views[number].index].append((number, one))
        return [self._merge(numbered, index, images[index], watch) for index, numbered in enumerate(by_image)]

    def _detect_views(
        self, images: Sequence[Decoded], views: Sequence[NetworkView], watch: Stopwatch
    ) -> list[ViewFaces]:
        """What is found in views of one shape, which go through the network together."""
        together = [view.index for view in views]
        with watch.stage("prepare", together):
            # Every view of a draft is of the whole image, so that its crop reaches over all of the draft.
            parts = [crop(images[view.index].pixels, view.view) for view in views]
            batch = stages.prepare(self._network, parts, views)
        with watch.stage("network", together):
            stages.run(self._network, batch)
        if self._trims:
            with watch.stage("trim", together):
                memory.process.ran((self.spec.name, self.backend.name, len(views), *views[0].placement.shape))
        return stages.finish(self._network, batch, self.strategy, watch)

    def _merge(
        self, numbered: Sequence[tuple[int, ViewFaces]], index: int, image: Decoded, watch: Stopwatch
    ) -> Detections:
        with watch.stage("nms", [index]):
            # In the order of the views, whatever groups they went through the network in.
            faces = merge_views([shown for _, shown in sorted(numbered, key=lambda pair: pair[0])], self.strategy)
            if self.config.clip:
                faces = clip(faces, *image.shape)
        return attrs.evolve(faces, timing=watch.seconds(index)) if self.config.timing else faces

    def _views(self, index: int, shape: tuple[int, int]) -> list[NetworkView]:
        views = self.strategy.views(*shape)
        # A view that finer ones look to for confirmation is searched for less than faces.
        finest = max((view.scale for view in views if view.confirmed_over < math.inf), default=0.0)
        seen = [
            NetworkView(index, shape, view, self._place(*view.size, view.scale), confirms=view.scale < finest)
            for view in views
        ]
        check_pixels(math.prod(view.placement.shape) for view in seen)
        return seen

    def _scale(self, height: int, width: int) -> float:
        """The largest factor at which an image of that size is seen; 1 where a view sees only a part of it."""
        views = self.strategy.views(height, width)
        if any(view.size != (height, width) for view in views):
            return 1.0
        placements = [self._place(height, width, view.scale) for view in views]
        return max(max(place.height / height, place.width / width) for place in placements)

    def _place(self, height: int, width: int, scale: float) -> Placement:
        return placement_for(self.config, self.spec, height, width, scale)


def _read_numbered(read: Callable[[S], T], index: int, image: S) -> T:
    try:
        return read(image)
    except ImageError as error:
        raise ImageError(f"Image {index} of the batch: {error.what}", why=error.why, fix=error.fix) from error
