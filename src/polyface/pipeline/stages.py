"""The three stages of a batch: prepare the network's input, run the network, finish what it gave.

Each is a function over a :class:`Batch`, so that they can follow each other in one thread or overlap in several.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import attrs
import numpy as np
from attrs import Factory, field, frozen, mutable

from polyface.errors import ContractError, Fix, ImageError, NumericalError, plugin_errors
from polyface.images.preparing import place_pixels
from polyface.images.preparing import prepare as fill
from polyface.machine import gate
from polyface.pipeline.buffers import Buffers, Lease
from polyface.pipeline.merging import CONFIRMS, ViewFaces, filter_by_size, to_image
from polyface.pipeline.nms import top_k
from polyface.pipeline.priors import PriorCache
from polyface.plugins.protocols import Candidates, PixelSession
from polyface.plugins.toolkit import clip_rounding

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, ImageArray
    from polyface.pipeline.presets import Strategy
    from polyface.pipeline.timing import Stopwatch
    from polyface.pipeline.views import NetworkView
    from polyface.plugins.protocols import Execution, Head, Session
    from polyface.plugins.records import BackendSpec, DetectorSpec
    from polyface.results import Detections

    Outputs: TypeAlias = dict[str, FloatArray]

FARTHEST = 1e9
"""No coordinate that a network gives is farther away, in pixels of its input; scaled back it is finite as well."""

OTHER_BACKEND = Fix("mend its installation") | Fix("choose another", names=("backend",))


@frozen(kw_only=True, eq=False)
class Network:
    """A compiled network, its detector's head, and the memory that its inputs take turns in.

    ``owner`` is the distribution that has the head; ``family`` is that of a user's own file. ``pixels`` is the session
    where it takes pixels, padded as the detector wants it.
    """

    spec: DetectorSpec
    backend: BackendSpec
    head: Head
    session: Session
    owner: str
    family: str | None = None
    execution: Execution = field(default=Factory(lambda self: self.session.execution, takes_self=True), init=False)
    pixels: PixelSession | None = field(default=Factory(lambda self: self._find_pixels(), takes_self=True), init=False)
    buffers: Buffers = field(factory=Buffers, init=False)
    priors: PriorCache = field(default=Factory(lambda self: PriorCache(self._make_priors), takes_self=True), init=False)

    def _find_pixels(self) -> PixelSession | None:
        padded = self.spec.preprocess.pad_pixel is not None
        return self.session if padded and isinstance(self.session, PixelSession) else None

    def _make_priors(self, height: int, width: int) -> FloatArray:
        priors: object = self.head.priors(height, width)
        if not isinstance(priors, np.ndarray) or not priors.ndim:
            raise self.breach(f"gave {_named(priors)} for the priors of {width}x{height} pixels.")
        return priors

    @property
    def maker(self) -> str:
        """Whose code reads what the network gives, for a message."""
        return self.owner if self.family is None else f"the family '{self.family}' of {self.owner}"

    @property
    def remedy(self) -> Fix:
        """What to do about that code; of a file it may be no more than an option that is wrong."""
        mend = Fix(f"mend {self.maker}")
        if self.family is None:
            return mend | Fix("choose another", names=("detector",))
        return Fix("change", names=("family_options", "family")) | mend

    def breach(self, what: str) -> ContractError:
        """Return the error for what no head may give; ``what`` says what it did."""
        return ContractError(f"'{self.spec.name}' {what}", why=[f"its head is that of {self.maker}"], fix=self.remedy)

    def close(self) -> None:
        """Release the session and the memory of its inputs; twice is fine."""
        self.session.close()
        self.buffers.clear()

    def not_finite(self, outputs: Outputs) -> NumericalError:
        """Return the error for numbers that no face can come of; ``outputs`` are the raw heads."""
        run = self.execution
        if all(np.isfinite(output).all() for output in outputs.values()):
            why, fix = f"the network's own are finite, and the head of {self.maker} makes these of them", self.remedy
        elif run.precision != "fp32":
            why = f"precision {run.precision} on {run.device} may be too narrow for these weights"
            fix = Fix(settings={"precision": "fp32"})
        elif self.family is not None:
            why = "options such as mean and std may be others than the network was trained with, or the file is damaged"
            fix = Fix("change", names=("family_options",)) | "get the file again"
        else:
            why, fix = "the weights may be damaged", Fix("choose other", names=("weights",))
        return NumericalError(
            f"'{self.spec.name}' on '{self.backend.name}' gave numbers that are not finite, or far too large.",
            why=[why],
            fix=fix,
        )


@mutable(eq=False)
class Batch:
    """Views of one shape, on their way through the network.

    Args:
        views: what goes through together.
        lease: the network's input, floats ``(N, 3, H, W)`` or pixels ``(N, H, W, 3)``; given back once it has run.
        outputs: the raw heads, once it has run.
    """

    views: Sequence[NetworkView]
    lease: Lease
    outputs: Outputs = field(factory=dict)


def prepare(network: Network, parts: Sequence[ImageArray], views: Sequence[NetworkView]) -> Batch:
    """Return a batch with its input filled.

    Args:
        network: for whom.
        parts: what each view shows, RGB uint8 ``(h, w, 3)``.
        views: their placements share one shape.

    Raises:
        ImageError: the input does not fit into memory.
    """
    placements = [view.placement for view in views]
    height, width = placements[0].shape
    preprocess = network.spec.preprocess
    try:
        if network.pixels is None:
            lease = network.buffers.lease((len(views), 3, height, width))
            fill(parts, placements, preprocess, out=lease.array)
        else:
            lease = network.buffers.lease((len(views), height, width, 3), np.uint8)
            place_pixels(parts, placements, preprocess, out=lease.array)
    except MemoryError as error:
        raise ImageError(
            f"{len(views)} network inputs of {width}x{height} pixels do not fit into memory.",
            fix=Fix("lower", names=("run_pixels", "scales", "infer_size", "max_side", "pad_to", "batch_size")),
        ) from error
    return Batch(views, lease)


def run(network: Network, batch: Batch) -> None:
    """Run the network on a batch, and give its input back.

    Raises:
        ClosedError: the session is closed.
        BackendUnavailableError: the runtime failed; ``OutOfMemoryError`` where it ran out of memory.
        PluginError: the backend failed, or broke its contract.
    """
    spec, backend = network.spec, network.backend
    what = f"The backend '{backend.name}' failed while it ran '{spec.name}'."
    with batch.lease as image:
        with plugin_errors(what, OTHER_BACKEND), gate.runs:
            if network.pixels is None:
                outputs = network.session.run({spec.input.name: image})
            else:
                outputs = network.pixels.run_pixels(image)
        for declared in spec.outputs:
            output: object = outputs.get(declared.name)
            wanted = (len(image), *declared.dims[1:])
            if not isinstance(output, np.ndarray) or output.dtype != np.float32 or not _fits(output.shape, wanted):
                raise ContractError(
                    f"The backend '{backend.name}' gave {_named(output)} for the output '{declared.name}' of "
                    f"'{spec.name}'; wanted: float32 ({', '.join(map(str, wanted))}).",
                    why=[f"the record is that of {network.maker}"],
                    fix=OTHER_BACKEND | network.remedy,
                )
            if np.may_share_memory(output, image):
                raise ContractError(
                    f"The backend '{backend.name}' gave memory of its input for the output '{declared.name}' of "
                    f"'{spec.name}'; wanted: a copy, since that memory is used again.",
                    fix=OTHER_BACKEND,
                )
    batch.outputs = outputs


def finish(network: Network, batch: Batch, strategy: Strategy, watch: Stopwatch) -> list[ViewFaces]:
    """Return what each view of a batch that has run shows.

    Raises:
        PluginError: the head failed, or broke its contract.
        NumericalError: a number is not finite.
    """
    with watch.stage("decode", [view.index for view in batch.views]):
        scores, priors = _score(network, batch)
    shown = []
    for row, view in enumerate(batch.views):
        with watch.stage("decode", [view.index]):
            faces = _decode(network, batch, row, scores=scores[row], priors=priors, threshold=strategy.score_threshold)
        with watch.stage("nms", [view.index]):
            sure = faces[faces.scores >= strategy.score_threshold] if view.confirms else faces
            counts = filter_by_size(sure, view.view, strategy)
            shown.append(ViewFaces(view.view, counts, faces))
    return shown


def _score(network: Network, batch: Batch) -> tuple[FloatArray, FloatArray]:
    """The scores ``(N, P)`` of a batch, and its anchors."""
    placement = batch.views[0].placement
    with _head_errors(network):
        scores: object = network.head.scores(batch.outputs)
        priors = network.priors(*placement.shape)
    if not isinstance(scores, np.ndarray) or scores.shape != (len(batch.views), len(priors)):
        raise network.breach(
            f"gave {_named(scores)} as scores for {len(batch.views)} images and {len(priors)} anchors of a network "
            f"input of {placement.net_width}x{placement.net_height}."
        )
    if scores.dtype.kind != "f":
        raise network.breach(f"gave {_named(scores)} as scores; wanted: float32.")
    least, most = scores.min(initial=0), scores.max(initial=1)  # a NaN is both, where there is one
    if least < 0 or most > 1:
        scores = clip_rounding(scores)
        least, most = scores.min(initial=0), scores.max(initial=1)
    if not (least >= 0 and most <= 1):
        if not all(np.isfinite(output).all() for output in batch.outputs.values()):
            raise network.not_finite(batch.outputs)
        raise network.breach(f"gave scores from {least:g} to {most:g}; wanted: from 0 to 1.")
    return scores, priors


def _decode(
    network: Network, batch: Batch, row: int, *, scores: FloatArray, priors: FloatArray, threshold: float
) -> Detections:
    """What passes the threshold in a view, the highest score first. Decoding every anchor takes 60 times as long."""
    view = batch.views[row]
    above = np.flatnonzero(scores >= threshold * (CONFIRMS if view.confirms else 1))
    most = network.spec.defaults.pre_nms_top_k
    keep = above[top_k(scores[above], most)]
    with _head_errors(network):
        found = Candidates(*network.head.decode(batch.outputs, priors, row, keep))
        boxes, landmarks = (getattr(array, "shape", None) for array in found)
    wanted = (len(keep), 4), (len(keep), len(network.spec.landmarks), 2) if network.spec.landmarks else None
    if (boxes, landmarks) != wanted:
        raise network.breach(
            f"decoded {len(keep)} anchors into boxes {boxes} and landmarks {landmarks}; wanted: {wanted[0]} and "
            f"{wanted[1]}."
        )
    for what, array in found._asdict().items():
        if array is not None and not (isinstance(array, np.ndarray) and array.dtype.kind == "f"):
            raise network.breach(f"decoded anchors into {what} of {_named(array)}; wanted: float32.")
    if not all((np.abs(array) <= FARTHEST).all() for array in found if array is not None):
        raise network.not_finite(batch.outputs)
    truncated = int(np.count_nonzero(scores[above] >= threshold)) > most
    faces = to_image(found, scores[keep], view, network.spec.mirrored_places)
    return attrs.evolve(faces, truncated=truncated)


def _head_errors(network: Network) -> contextlib.AbstractContextManager[None]:
    return plugin_errors(f"The head of '{network.spec.name}' failed.", network.remedy)


def _fits(shape: tuple[int, ...], dims: tuple[int | str, ...]) -> bool:
    return len(shape) == len(dims) and all(
        isinstance(dim, str) or dim == size for dim, size in zip(dims, shape, strict=True)
    )


def _named(output: object) -> str:
    if isinstance(output, np.ndarray):
        return f"{output.dtype} {output.shape}"
    return "nothing" if output is None else f"a {type(output).__name__}"
