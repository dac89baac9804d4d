"""The detector: views of the picture, prepare, run, threshold, decode, restore, merge."""

from __future__ import annotations

import contextlib
import functools
import math
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import attrs
import numpy as np
import numpy.typing as npt
from attrs import frozen

from polyface.errors import (
    BackendUnavailableError,
    ConfigError,
    ContractError,
    ImageError,
    PluginError,
    UnsupportedError,
    blaming,
    described,
    nearest,
    quoted,
    shortened,
)
from polyface.graphs.artifacts import ArtifactStore
from polyface.graphs.plan import Reason, Route, choose_device, has_driver, plan
from polyface.graphs.resolve import graph_of
from polyface.graphs.weights import Weights, choose
from polyface.images.reading import Decoded, Frame, decode, frame_of, prepare, read_image
from polyface.machine import gate
from polyface.machine.memory import Trimmer
from polyface.optional import install
from polyface.pipeline.buffers import Buffers
from polyface.pipeline.nms import top_k
from polyface.pipeline.priors import PriorCache
from polyface.pipeline.timing import Stopwatch
from polyface.pipeline.views import (
    CONFIRMS,
    View,
    check_pixels,
    clipped,
    confirmed,
    counted,
    cut,
    in_picture,
    joined,
    merged,
    run_budget,
    scoring,
    strategy_of,
    views_of,
    without_pieces,
)
from polyface.plugins.manager import PluginManager, installed_plugins
from polyface.plugins.protocols import Backend, CompileRequest, Execution, Found, Head, Session
from polyface.plugins.records import BackendSpec, DetectorSpec, OptionValue
from polyface.results import Detections
from polyface.settings.config import Config, load_config, settings
from polyface.settings.paths import expand_user

if TYPE_CHECKING:
    from polyface.images.reading import ImageSource, Picture
    from polyface.plugins.protocols import FloatArray

    Outputs: TypeAlias = dict[str, FloatArray]
    Refusal: TypeAlias = UnsupportedError | BackendUnavailableError | PluginError

S = TypeVar("S")
T = TypeVar("T")

OTHER_BACKEND = "mend its installation, or choose another --backend"

HELD_PIXELS = 2**25
"""Of a batch, so many pixels and one picture more are in memory at a time: 100 MB."""

FARTHEST = 1e9
"""No coordinate that a network gives is farther away, in pixels of its input; scaled back it is finite as well."""


@frozen(kw_only=True)
class Selection:
    """A detector, the backend and device to run it on, and how its network gets there: what is known before loading."""

    detector: DetectorSpec
    backend: BackendSpec
    device: str = "auto"
    weights: Weights
    route: Route


class Look(NamedTuple):
    """A view of one picture of the batch (``picture`` is its place, ``shape`` its height and width) and its frame."""

    picture: int
    shape: tuple[int, int]
    view: View
    frame: Frame
    confirms: bool = False


class Seen(NamedTuple):
    """What a view shows: the faces that count, and all that it was searched for."""

    view: View
    faces: Detections
    everything: Detections


class FaceDetector:
    """A face detector on a backend, ready to run; made by :func:`create_detector`.

    It holds no state per call, so many threads may use one. It can be pickled: another process builds it again from its
    configuration and the plugins installed there. As a context manager it closes itself.

    Attributes:
        config: the settings it was made with.
        detector: the record of the detector; ``detector.landmarks`` names the landmarks.
        backend: the record of the backend.
        route: how the network reached the backend.
        execution: what it really runs on.
        strategy: which views of a picture it takes, and how it merges what it finds in them.
    """

    def __init__(self, config: Config, selection: Selection, head: Head, session: Session) -> None:
        self.config = config
        self.detector = selection.detector
        self.backend = selection.backend
        self.route = selection.route
        self.execution: Execution = session.execution
        self._head = head
        self._session = session
        self._buffers = Buffers()
        self._trimmer = Trimmer()
        self._priors = PriorCache(head.priors)
        self.strategy = strategy_of(config, self.detector)
        self._run_pixels = run_budget(config, self.detector)
        defaults = self.detector.defaults
        self.score_threshold = _first(config.score_threshold, self.strategy.score_threshold, defaults.score_threshold)
        self.iou_threshold = _first(config.iou_threshold, self.strategy.iou_threshold, defaults.iou_threshold)
        self._limit = defaults.post_nms_top_k if self.strategy.limit is None else self.strategy.limit

    def __repr__(self) -> str:
        run = self.execution
        return f"<FaceDetector {self.detector.name} on {self.backend.name}, {run.device}, {run.precision}>"

    def read(self, image: ImageSource | Decoded) -> Decoded:
        """Return a picture decoded as this detector needs it: with the setting ``draft``, perhaps as a draft.

        Raises:
            ImageError: it is not a picture, or cannot be read.
        """
        if isinstance(image, Decoded):
            return image
        scale = self._scale if self.config.draft else None
        return decode(image, scale, formats=self.config.formats, max_pixels=self.config.max_pixels)

    def detect(self, image: ImageSource | Decoded) -> Detections:
        """Return the faces of one picture, the highest score first.

        Args:
            image: an RGB uint8 array ``(H, W, 3)``, a PIL image, a path, the bytes of an image file, or such a file
                open in binary mode; see :func:`polyface.read_image`. Or what :meth:`read` returned.

        Raises:
            ImageError: it is not a picture, or cannot be read.
            BackendUnavailableError: the detector is closed, or the runtime failed.
        """
        return self._detect(map(self.read, [image]))[0]

    def detect_batch(self, images: Sequence[ImageSource | Decoded] | npt.NDArray[Any]) -> list[Detections]:
        """Return the faces of each picture, in the same order; the pictures may differ in size.

        Views of one padded shape go through the network together, at most ``batch_size`` of them and ``run_pixels``
        pixels of input. What is found in one never depends on the others. The pictures are read a few at a time, so
        that their number does not count in memory.

        Raises:
            ImageError: one of them is not a picture; says which.
            BackendUnavailableError: the detector is closed, or the runtime failed.
        """
        one = not hasattr(images, "__iter__") or isinstance(images, str | bytes | bytearray | memoryview)
        one = one or hasattr(images, "read")  # an open file, which iterates over its lines
        if one or (isinstance(images, np.ndarray) and images.ndim != 4):
            raise ImageError("detect_batch wants a sequence of pictures.", fix="detector.detect(image) for one")
        return self._detect(_numbered(index, self.read, image) for index, image in enumerate(images))

    def raw_heads(self, images: Sequence[ImageSource]) -> dict[str, FloatArray]:
        """Return what the network itself gives for pictures of one padded shape, in one run: to compare backends.

        The network sees each picture once, whole and not mirrored, after ``max_side``, ``infer_size`` and ``pad_to``;
        other views are for detecting.

        Returns:
            By output name, float32 with one row a picture; ``detector.outputs`` says the shapes.

        Raises:
            ImageError: one of them is not a picture, there is none, or their padded shapes differ.
            BackendUnavailableError: the detector is closed, the runtime failed, or a number is not finite.
        """
        read = functools.partial(read_image, formats=self.config.formats, max_pixels=self.config.max_pixels)
        pictures = [_numbered(index, read, image) for index, image in enumerate(images)]
        looks = [views_of(*picture.shape[:2], max_side=self.config.max_side)[0] for picture in pictures]
        frames = [self._frame(*view.size, view.scale) for view in looks]
        shapes = dict.fromkeys(f"{frame.net_width}x{frame.net_height}" for frame in frames)
        if len(shapes) != 1:
            raise ImageError(
                f"raw_heads wants pictures of one padded shape, not {', '.join(shapes) or 'none'}.",
                fix="call it for each shape, or set infer_size",
            )
        with self._input(pictures, frames) as batch:
            outputs = self._run(batch)
        if not all(np.isfinite(output).all() for output in outputs.values()):
            raise self._not_finite()
        return {spec.name: outputs[spec.name] for spec in self.detector.outputs}

    def close(self) -> None:
        """Release the network; closing twice is fine, detecting afterwards raises ``BackendUnavailableError``."""
        with gate.runs:
            self._session.close()
        self._buffers = Buffers()

    def __del__(self) -> None:
        # Where the process ends meanwhile, a runtime that is taken apart in a daemon thread aborts it.
        with gate.runs:
            vars(self).pop("_session", None)

    def __enter__(self) -> FaceDetector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.config,)

    def _detect(self, images: Iterable[Decoded]) -> list[Detections]:
        found: list[Detections] = []
        remaining, more = iter(images), True
        while more:
            watch = Stopwatch(on=self.config.timing)
            pictures: list[Decoded] = []
            pixels, more = 0, False
            for picture in remaining:  # which reads it
                watch.lap("read", [len(pictures)])
                pictures.append(picture)
                pixels += math.prod(picture.pixels.shape[:2])
                if pixels >= HELD_PIXELS:
                    more = True
                    break
            found += self._detect_together(pictures, watch)
        return found

    def _detect_together(self, pictures: list[Decoded], watch: Stopwatch) -> list[Detections]:
        looks = [look for index, picture in enumerate(pictures) for look in self._looks(index, picture.shape)]
        found: dict[int, Seen] = {}
        for group in _groups([look.frame for look in looks], self.config.batch_size, self._run_pixels):
            seen = self._seen(pictures, [looks[index] for index in group], watch)
            found.update(zip(group, seen, strict=True))
        by_picture: list[list[Seen]] = [[] for _ in pictures]
        for index, look in enumerate(looks):
            by_picture[look.picture].append(found[index])
        return [self._merged(views, index, pictures[index].shape, watch) for index, views in enumerate(by_picture)]

    def _looks(self, index: int, shape: tuple[int, int]) -> list[Look]:
        views = self.strategy.views(*shape)
        # A view that finer ones look to for confirmation is searched for less than faces.
        scales = sorted({view.scale for view in views if view.confirmed_over < math.inf})
        looks = [
            Look(
                index,
                shape,
                view,
                self._frame(*view.size, view.scale),
                confirms=bool(scales) and view.scale < scales[-1],
            )
            for view in views
        ]
        check_pixels(math.prod(look.frame.shape) for look in looks)
        return looks

    def _scale(self, height: int, width: int) -> float:
        """The largest factor at which a picture of that size is seen; 1 where a view sees only a part of it."""
        views = self.strategy.views(height, width)
        if any(view.size != (height, width) for view in views):
            return 1.0
        frames = [self._frame(height, width, view.scale) for view in views]
        return max(max(frame.height / height, frame.width / width) for frame in frames)

    def _seen(self, pictures: list[Decoded], looks: list[Look], watch: Stopwatch) -> list[Seen]:
        """What is found in views of one shape, which go through the network together."""
        together = [look.picture for look in looks]
        # Every view of a draft is of the whole picture, so that its crop reaches over all of the draft.
        parts = [cut(pictures[look.picture].pixels, look.view) for look in looks]
        with self._input(parts, [look.frame for look in looks]) as batch:
            watch.lap("prepare", together)
            outputs = self._run(batch)
        self._trimmer.ran((len(looks), *looks[0].frame.shape))
        watch.lap("network", together)
        with self._blaming_head():
            scores = self._head.scores(outputs)
            priors = self._priors(*looks[0].frame.shape)
        if scores.shape != (len(looks), len(priors)):
            raise ContractError(
                f"'{self.detector.name}' gave scores {scores.shape} for {len(looks)} pictures and {len(priors)} "
                f"anchors of a network input of {looks[0].frame.net_width}x{looks[0].frame.net_height}."
            )
        if not np.isfinite(scores).all():
            raise self._not_finite()
        watch.lap("decode", together)
        seen = []
        for place, look in enumerate(looks):
            faces = self._candidates(outputs, scores[place], priors, place, look)
            watch.lap("decode", [look.picture])
            counts = counted(
                scoring(faces, self.score_threshold) if look.confirms else faces,
                look.view,
                merge=self.strategy.merge,
                iou_threshold=self.iou_threshold,
            )
            seen.append(Seen(look.view, counts, faces))
            watch.lap("nms", [look.picture])
        return seen

    def _frame(self, height: int, width: int, scale: float = 1.0) -> Frame:
        return frame_for(self.config, self.detector, height, width, scale)

    @contextlib.contextmanager
    def _input(self, pictures: list[Picture], frames: list[Frame]) -> Iterator[FloatArray]:
        """Lend the network's input for pictures of one padded shape, until the network has run."""
        height, width = frames[0].shape
        with contextlib.ExitStack() as stack:
            try:
                batch = stack.enter_context(self._buffers.lent((len(frames), 3, height, width)))
                prepare(pictures, frames, self.detector.preprocess, out=batch)
            except MemoryError as error:
                raise ImageError(
                    f"{len(frames)} network inputs of {width}x{height} pixels do not fit into memory.",
                    fix="lower run_pixels, scales, infer_size, max_side, pad_to or batch_size",
                ) from error
            yield batch

    def _run(self, batch: FloatArray) -> Outputs:
        what = f"The backend '{self.backend.name}' failed while it ran '{self.detector.name}'."
        with blaming(what, OTHER_BACKEND), gate.runs:
            outputs = self._session.run({self.detector.input.name: batch})
        for spec in self.detector.outputs:
            output: object = outputs.get(spec.name)
            rows = output.shape[:1] if isinstance(output, np.ndarray) and output.dtype == np.float32 else ()
            if rows != batch.shape[:1]:
                raise ContractError(
                    f"The backend '{self.backend.name}' gave {_named(output)} for the output '{spec.name}' of "
                    f"'{self.detector.name}'; wanted: float32 with {len(batch)} rows."
                )
            if np.may_share_memory(output, batch):
                raise ContractError(
                    f"The backend '{self.backend.name}' gave memory of its input for the output '{spec.name}' of "
                    f"'{self.detector.name}'; wanted: a copy, since that memory is used again."
                )
        return outputs

    def _candidates(
        self, outputs: Outputs, scores: FloatArray, priors: FloatArray, place: int, look: Look
    ) -> Detections:
        """Decode what passes the threshold, and no more: decoding every anchor costs 60 to 100 times as much."""
        above = np.flatnonzero(scores >= self.score_threshold * (CONFIRMS if look.confirms else 1))
        most = self.detector.defaults.pre_nms_top_k
        keep = above[top_k(scores[above], most)]
        with self._blaming_head():
            boxes, landmarks = self._head.decode(outputs, priors, place, keep)
        if not all((np.abs(array) <= FARTHEST).all() for array in (boxes, landmarks) if array is not None):
            raise self._not_finite()
        truncated = int(np.count_nonzero(scores[above] >= self.score_threshold)) > most
        faces = Detections(boxes=boxes, scores=scores[keep], landmarks=landmarks, truncated=truncated)
        return in_picture(faces, look.view, look.frame, look.shape, self.detector.landmarks)

    def _merged(self, seen: list[Seen], index: int, shape: tuple[int, int], watch: Stopwatch) -> Detections:
        faces = merged(
            _agreed(seen),
            merge=self.strategy.merge,
            iou_threshold=self.iou_threshold,
            limit=self._limit,
            min_votes=self.strategy.min_votes,
        )
        if self.config.clip:
            faces = clipped(faces, *shape)
        watch.lap("nms", [index])
        return attrs.evolve(faces, timing=watch.of(index)) if self.config.timing else faces

    def _blaming_head(self) -> contextlib.AbstractContextManager[None]:
        return blaming(f"The head of '{self.detector.name}' failed.", "mend its plugin, or choose another --detector")

    def _not_finite(self) -> BackendUnavailableError:
        run = self.execution
        full = run.precision == "fp32"
        narrow = f"precision {run.precision} on {run.device} may be too narrow for these weights"
        return BackendUnavailableError(
            f"'{self.detector.name}' on '{self.backend.name}' gave numbers that are not finite, or far too large.",
            why=["the weights may be damaged" if full else narrow],
            fix="choose other --weights" if full else "--precision fp32",
        )


def frame_for(config: Config, detector: DetectorSpec, height: int, width: int, scale: float = 1.0) -> Frame:
    """Return how a picture of that size, scaled, goes into a detector's network by the settings."""
    return frame_of(
        height,
        width,
        detector.preprocess,
        min_side=detector.min_side,
        pad_to=config.pad_to,
        scale=scale,
        infer_size=config.infer_size,
        fit=config.fit,
    )


def create_detector(
    detector: str | None = None,
    *,
    config: Config | str | Path | None = None,
    plugins: PluginManager | None = None,
    **settings: Any,
) -> FaceDetector:
    """Build a detector by name.

    Args:
        detector: such as ``"retinaface-mobilenet025"``; see :func:`available_detectors`.
        config: a configuration file to read instead of the one found from the current folder upwards, or a
            :class:`Config`, which is then used as it stands.
        plugins: where names are looked up; the installed plugins by default.
        **settings: any setting of :class:`Config`, such as ``backend="onnxruntime"``; stronger than the configuration.

    Raises:
        ConfigError: a setting is unknown or wrong.
        UnknownNameError: no plugin provides that detector or backend; ``AmbiguousNameError`` if two do.
        UnsupportedError: the backend cannot run that detector as asked; says why for every way that was tried.
        BackendUnavailableError: the device or precision cannot be had here.
        WeightsError: the weights are missing or damaged.
    """
    if detector is not None:
        settings["detector"] = detector
    merged = config.replace(**settings) if isinstance(config, Config) else load_config(config, **settings)
    return build(merged, installed_plugins() if plugins is None else plugins)


def available_detectors() -> list[str]:
    """Return the names of the installed detectors, sorted."""
    return list(installed_plugins().detectors)


def available_backends() -> list[str]:
    """Return the names of the installed backends, sorted. Being installed is a claim; ``polyface matrix`` checks it."""
    return list(installed_plugins().backends)


def build(config: Config, plugins: PluginManager) -> FaceDetector:
    """Build the detector that ``config`` describes; raises as :func:`create_detector` does.

    With ``backend="auto"`` a backend that does not load here, or lacks the device or precision, is passed over. With
    ``device="auto"`` as well, a device with a driver of its own, such as a GPU, is looked for on every backend before
    the processor is taken; where there is no driver, that costs nothing.
    """
    refused: list[Refusal] = []
    for selection in _selections(config, plugins, store_of(config), refused):
        try:
            backend, found = _loaded(selection.backend)
            device = choose_device(selection.backend, found, selection.device, config.precision)
        except (BackendUnavailableError, PluginError) as error:
            refused.append(error)
        else:
            return _built(config, selection, backend, device)
    raise _refusal(config, refused)


def select(config: Config, plugins: PluginManager) -> Selection:
    """Return what to run on what, and by which route, going by what is claimed and installed; nothing heavy is loaded.

    ``backend="auto"`` takes the backend of the highest preference that has a route; by name among equals. With
    ``device="auto"`` as well, one that claims a device whose driver is here comes before those that do not.

    Raises:
        UnknownNameError: no plugin provides that detector or backend; ``AmbiguousNameError`` if two do.
        UnsupportedError: there is no route; with ``"auto"``, with the reasons of every backend.
    """
    refused: list[Refusal] = []
    for selection in _selections(config, plugins, store_of(config), refused):
        return selection
    raise _refusal(config, refused)


def store_of(config: Config) -> ArtifactStore:
    """Return where the settings say that graphs are stored.

    Raises:
        ConfigError: ``artifacts`` names no folder.
    """
    named = None if config.artifacts is None else expand_user(config.artifacts).absolute()
    if named is not None and not named.is_dir():
        choice = [] if config.weights is None else ["--weights", config.weights]
        raise ConfigError(
            f"artifacts must name a folder that exists, not {shortened(str(named), 500)}.",
            fix=shlex.join(["polyface", "export", config.detector, *choice, "--output", str(named)]),
        )
    return ArtifactStore(named=named)


def _selections(
    config: Config, plugins: PluginManager, store: ArtifactStore, refused: list[Refusal]
) -> Iterator[Selection]:
    """Yield what can run what, preferred first; ``refused`` receives what cannot, of one device at a time."""
    detector = plugins.detector(config.detector)
    weights = choose(detector, config.weights)
    preferred = sorted(plugins.backends.values(), key=lambda spec: (-spec.preference, spec.name))
    candidates = preferred if config.backend == "auto" else [plugins.backend(config.backend)]
    for device in _devices(config, candidates):
        refused.clear()
        for backend in candidates:
            try:
                route = plan(
                    detector,
                    backend,
                    plugins.converters,
                    weights,
                    device=device,
                    precision=config.precision,
                    stored=store.finder(detector, plugins.converters, weights),
                )
            except UnsupportedError as error:
                refused.append(error)
            else:
                yield Selection(detector=detector, backend=backend, device=device, weights=weights, route=route)


def _devices(config: Config, backends: Sequence[BackendSpec]) -> Iterator[str]:
    """The devices to ask for, one after the other."""
    if config.backend == config.device == "auto":
        claims = [capability for backend in backends for capability in backend.capabilities]
        yield from dict.fromkeys(claim.device for claim in claims if has_driver(claim))
    yield config.device


def _refusal(config: Config, refused: Sequence[Refusal]) -> Refusal:
    """Return the one error, or one with the reasons of all."""
    if len(refused) == 1:
        return refused[0]
    reasons = [
        reason
        for error in refused
        for reason in (
            error.reasons
            if isinstance(error, UnsupportedError)
            else [Reason(subject=error.what.rstrip("."), why="; ".join(error.why), fix=error.fix)]
        )
    ]
    none = Reason(subject="backends", why="none is installed", fix=install("polyface-onnxruntime[cpu]"))
    return UnsupportedError(
        f"No installed backend can run '{config.detector}' as asked.", list(dict.fromkeys(reasons)) or [none]
    )


def _loaded(spec: BackendSpec) -> tuple[Backend, tuple[Found, ...]]:
    """Return a backend and what it finds on this machine.

    Raises:
        PluginError: its code fails, whatever it raises.
    """
    try:
        with gate.loading():
            backend: Backend = _made(spec.factory, Backend)
            return backend, tuple(backend.probe())
    except BackendUnavailableError:
        raise
    except Exception as error:
        why = [error.what, *error.why] if isinstance(error, ContractError) else [described(error)]
        raise PluginError(
            f"The backend '{spec.name}' does not load.",
            why=why,
            fix=OTHER_BACKEND,
        ) from error


def _built(config: Config, selection: Selection, backend: Backend, device: str) -> FaceDetector:
    strategy_of(config, selection.detector)  # an unknown preset is refused before anything is compiled
    check_infer_size(config, selection.detector)
    options = check_options(selection.backend, config.backend_options)
    head = _made(selection.detector.head, Head)
    request = CompileRequest(
        device=device,
        precision=config.precision,
        infer_size=config.infer_size,
        threads=config.threads,
        options=options,
    )
    graph = graph_of(selection.route, selection.detector, selection.weights)
    what = f"The backend '{selection.backend.name}' failed to load '{selection.detector.name}'."
    with blaming(what, OTHER_BACKEND), gate.runs:
        session = backend.compile(graph, request)
    gate.close_first_at_exit()
    execution = session.execution
    if (execution.device, execution.precision) != (device, config.precision):
        session.close()
        raise ContractError(
            f"The backend '{selection.backend.name}' runs on {execution.device} in {execution.precision}; "
            f"it was asked for {device} in {config.precision}."
        )
    if config.threads is not None and execution.threads not in (None, config.threads):
        session.close()
        raise BackendUnavailableError(
            f"The backend '{selection.backend.name}' was asked for {config.threads} threads; "
            f"it runs on {execution.threads}.",
            fix=f"--threads {execution.threads}, or leave it to polyface",
        )
    return FaceDetector(config, selection, head, session)


def check_options(backend: BackendSpec, given: Any) -> dict[str, OptionValue | None]:
    """Return every option of the backend with its value or default.

    Raises:
        ConfigError: the backend has no such option, or the value is wrong.
    """
    options = {option.name: option for option in backend.options}
    known = {key.name for key in settings()}
    for name, value in given.items():
        if name not in options:
            raise ConfigError(
                f"The backend '{backend.name}' has no option {quoted(name)}{nearest(name, options) or '.'}",
                why=[f"its options: {', '.join(options) or 'none'}"],
                fix=f"set it by itself, for every backend: --{name.replace('_', '-')}" if name in known else "",
            )
        problem = options[name].problem(value)
        if problem:
            raise ConfigError(f"backend_options: {name} {problem}.", why=[options[name].help])
    return {name: given.get(name, option.default) for name, option in options.items()}


def check_infer_size(config: Config, detector: DetectorSpec) -> None:
    """Refuse an ``infer_size`` that the detector's network cannot take.

    Raises:
        ConfigError: a side is no multiple of the stride, or under ``min_side``; names the nearest legal size.
    """
    if config.infer_size is None:
        return
    stride, least = detector.preprocess.stride, detector.min_side
    smallest = math.ceil(least / stride) * stride
    height, width = config.infer_size
    # Of two multiples equally near, the larger.
    legal = tuple(max(smallest, (side + stride // 2) // stride * stride) for side in (height, width))
    if legal != (height, width):
        raise ConfigError(
            f"'{detector.name}' cannot run at infer_size {height}x{width}.",
            why=[f"its sides must be multiples of {stride} and at least {least}"],
            fix=f"--infer-size {legal[0]}x{legal[1]}",
        )


def _named(output: object) -> str:
    if isinstance(output, np.ndarray):
        return f"{output.dtype} {output.shape}"
    return "nothing" if output is None else f"a {type(output).__name__}"


def _first(*values: T | None) -> T:
    """Return the first that is given."""
    return next(value for value in values if value is not None)


def _made(ref: Any, protocol: type[Any]) -> Any:
    made = ref.load()()
    if not isinstance(made, protocol):
        methods = [name for name in vars(protocol) if not name.startswith("_") and not hasattr(made, name)]
        raise ContractError(f"'{ref.target}' gives no {protocol.__name__}: it lacks {', '.join(methods)}.")
    return made


def _agreed(seen: list[Seen]) -> list[Detections]:
    """What counts of each view in the light of coarser ones: they confirm it, and show what is a piece of a face."""
    agreed = [one.faces for one in seen]
    for index in sorted(range(len(seen)), key=lambda index: seen[index].view.scale):
        view, faces = seen[index].view, agreed[index]
        if len(faces) and view.confirmed_over < math.inf:
            coarser = [other for other, one in enumerate(seen) if one.view.scale < view.scale]
            below = max(seen[other].view.scale for other in coarser)
            faces = confirmed(faces, view, [one.everything for one in seen if one.view.scale == below])
            agreed[index] = without_pieces(faces, joined([agreed[other] for other in coarser]))
    return agreed


def _groups(frames: Sequence[Frame], batch_size: int, run_pixels: int) -> Iterator[list[int]]:
    """Indices of views that go through the network together: one shape, within the limits, and always one view."""
    by_shape: dict[tuple[int, int], list[int]] = {}
    for index, frame in enumerate(frames):
        by_shape.setdefault(frame.shape, []).append(index)
    for (height, width), indices in by_shape.items():
        size = max(1, min(batch_size, run_pixels // (height * width)))
        for start in range(0, len(indices), size):
            yield indices[start : start + size]


def _numbered(index: int, read: Callable[[S], T], image: S) -> T:
    try:
        return read(image)
    except ImageError as error:
        raise ImageError(f"Picture {index} of the batch: {error.what}", why=error.why, fix=error.fix) from error


def _rebuild(config: Config) -> FaceDetector:
    return build(config, installed_plugins())
