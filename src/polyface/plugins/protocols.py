"""What plugin authors implement, and the values that cross between their code and core.

Only two things cross from a detector to a backend: a :class:`Graph` goes in, and named float32 NumPy arrays go through
the :class:`Session` that comes out (uint8 ones go into a :class:`PixelSession`). Neither side knows the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import attrs
from attrs import field, frozen

from polyface.errors import NO_FIX, ConfigError, Fix, as_fix, quoted, shortened
from polyface.plugins.records import DetectorSpec, GraphSource, Ref, TensorSpec, WeightsFile

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, ImageArray, IndexArray
    from polyface.results import Item, Result


def _read_only(table: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(table))


class Candidates(NamedTuple):
    """Decoded anchors of one image, before NMS.

    ``boxes`` is ``(K, 4)`` float32, xyxy in network pixels; ``landmarks`` is ``(K, L, 2)`` float32 in network pixels,
    or ``None`` for a detector without landmarks.
    """

    boxes: FloatArray
    landmarks: FloatArray | None


@runtime_checkable
class Head(Protocol):
    """The detector's own arithmetic between raw heads and boxes: NumPy only, stateless, safe from many threads."""

    def priors(self, height: int, width: int) -> FloatArray:
        """Return the anchors of a network input of ``height`` by ``width`` pixels.

        The first axis counts the P anchors; the rest is opaque to core, which caches the array per shape and passes
        it back to :meth:`decode`.
        """

    def scores(self, outputs: Mapping[str, FloatArray]) -> FloatArray:
        """Return the face scores ``(N, P)``, float32 in [0, 1], from the raw heads of a batch of N.

        A network that ends in a sigmoid may give 1.001 in half precision: core clips what lies so little outside.
        """

    def decode(self, outputs: Mapping[str, FloatArray], priors: FloatArray, index: int, keep: IndexArray) -> Candidates:
        """Decode the anchors ``keep`` (K indices) of the image ``index`` of the batch, and no others."""


@frozen(kw_only=True)
class GraphTensor:
    """An input or output of a graph's file.

    Args:
        name: as the file has it.
        dims: a number where a size is fixed, a name where it is free (``"?"`` without one); empty where the file states
            no shape.
        dtype: such as ``"float32"``.
        operation: the one that computes it, past those that only arrange numbers, such as ``"Softmax"``; empty where
            that is not known.
    """

    name: str
    dims: tuple[int | str, ...]
    dtype: str = "float32"
    operation: str = ""

    def __str__(self) -> str:
        dims = ", ".join(map(str, self.dims)) if self.dims else "no shape stated"
        shown = shortened(f"{self.name} ({dims})", 200)
        return f"{shown if shown.isprintable() else quoted(shown)}{'' if self.dtype == 'float32' else f' {self.dtype}'}"


@frozen(kw_only=True)
class Interface:
    """What a user's own graph file says of itself: what a family makes a detector's record from.

    Args:
        family: that which is asked.
        name: what to call the detector: the file's, as records write names.
        weights: the file, which is to be the one file of weights of the record.
        inputs: of the network, in the file's order.
        outputs: likewise.
        opset: the version of ONNX's operations.
    """

    family: str
    name: str
    weights: WeightsFile
    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    opset: int

    @property
    def lines(self) -> list[str]:
        """Two lines that say what the file has, of the inputs and of the outputs."""
        sides = (("inputs", self.inputs), ("outputs", self.outputs))
        return [f"{self.weights.filename} has the {side} {', '.join(map(str, tensors))}" for side, tensors in sides]

    def misfit(self, wanted: str) -> ConfigError:
        """Return the error for a file that holds no network of the family; ``wanted`` is what it must have."""
        return ConfigError(
            f"{self.weights.filename} is not of the family '{self.family}'.",
            why=[f"the family wants {wanted}", *self.lines],
            fix=Fix("choose another", names=("family",)),
        )

    def fields(self, *, free: bool = False) -> dict[str, Any]:
        """Return the fields of the record that are read off the file, alike for every family.

        A file whose input and outputs have a batch axis is an ``onnx`` graph as it is, its batch and size free or
        fixed as in the file. Any other is an ``onnx-file``, of which a converter makes one that is free.

        Args:
            free: make it free in any case.

        Raises:
            ConfigError: there is not one input ``(n, 3, h, w)``, a tensor is not float32, or has no shape.
        """
        tensors = (*self.inputs, *self.outputs)
        shape = self.inputs[0].dims if len(self.inputs) == 1 else ()
        if len(shape) != 4 or shape[1] != 3 or any(tensor.dtype != "float32" or not tensor.dims for tensor in tensors):
            raise ConfigError(
                f"{self.weights.filename} holds a network that no family takes.",
                why=["a family wants one input (n, 3, h, w), and float32 and stated shapes throughout", *self.lines],
                fix="export it as NCHW, with three channels, no other input, in float32, with the shapes of outputs",
            )
        batch, _, height, width = shape
        free = free or any(len(output.dims) < 3 for output in self.outputs) or type(height) is not type(width)
        if free or isinstance(batch, str):
            batch = "n"
        if free or isinstance(height, str):
            height, width = "h", "w"
        outputs = []
        for index, (name, dims) in enumerate((output.name, output.dims) for output in self.outputs):
            sides = dims[1:] if len(dims) > 2 else dims
            if height == "h":  # what depends on the size of the image is free as well
                sides = (sides[0], f"h{index}", f"w{index}") if len(sides) == 3 else (f"p{index}", *sides[1:])
            outputs.append(TensorSpec(name=name, dims=(batch, *sides)))
        return {
            "name": self.name,
            "graph_version": 1,
            "input": TensorSpec(name=self.inputs[0].name, dims=(batch, 3, height, width)),
            "outputs": tuple(outputs),
            "graphs": (GraphSource(kind="onnx-file" if free else "onnx", weights=self.weights.name),),
            "weights": (self.weights,),
            "min_side": 32 if height == "h" else 1,
        }


@frozen(kw_only=True)
class Graph:
    """A network on its way into a backend or a converter.

    Args:
        kind: the graph kind.
        source: the builder's ``Ref``, or the graph's file.
        weights: the checkpoint for the builder; ``None`` for a file, or for a builder that needs none.
        detector: whose network it is; names the input and outputs.
        trusted: whether a plugin brought it or this machine made it. Anybody may have made one that the user named,
            or whose folder they named, and so what was made of it: a backend whose parser may hang or crash on it
            tries it first, by :func:`polyface.graphs.trial.try_first`.
    """

    kind: str
    source: Ref | Path
    weights: Path | None = None
    detector: DetectorSpec
    trusted: bool = True


@frozen(kw_only=True)
class CompileRequest:
    """How to run a graph: exactly so, or not at all.

    Args:
        device: such as ``"cpu"`` or ``"cuda:0"``; never ``"auto"``.
        precision: such as ``"fp32"``.
        infer_size: height and width of every input to come, in pixels, where that is known. A backend may make the
            network faster for it; the numbers are the same.
        threads: the most threads of the processor that a run takes. A runtime may take fewer, and its session says so.
        runs: how many runs there are at once. A runtime where one would wait for the other makes room for so many.
        options: every option of the backend's record, checked, with defaults filled in; ``None`` where it has none.
    """

    device: str
    precision: str
    infer_size: tuple[int, int] | None = None
    threads: int = 1
    runs: int = 1
    options: Mapping[str, Any] = field(factory=dict, converter=_read_only)


@frozen(kw_only=True)
class DeviceReport:
    """What became of a device.

    Args:
        device: with its index.
        precisions: those that work on it; none for a claimed device that is not there.
        detail: what it is, or why it is not there.
        fix: what would bring it, where there is anything; a text is words.
    """

    device: str
    precisions: tuple[str, ...]
    detail: str = ""
    fix: Fix = field(default=NO_FIX, converter=as_fix)


@frozen(kw_only=True)
class Execution:
    """What a session really runs on.

    Args:
        device: with its index.
        precision: such as ``"fp32"``.
        threads: of the processor, as the runtime says; ``None`` where it does not say, or they have no part in it.
        providers: those of the runtime in use.
        versions: by package.
    """

    device: str
    precision: str
    threads: int | None = None
    providers: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(factory=dict, converter=_read_only)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold of it."""
        return {**attrs.asdict(self), "providers": list(self.providers), "versions": dict(self.versions)}


@runtime_checkable
class Session(Protocol):
    """A compiled network.

    In: the declared input, C-contiguous float32 on the host, any batch size, any height and width the detector allows.
    Out: every declared output, float32, on the host, owned by the caller (no buffer is used again). Safe from two
    threads. The input is never written to, nor read after the run: its memory is used again.

    In a child of a fork, a session of the parent either works or refuses to run, with ``BackendUnavailableError`` and
    the reason, and :meth:`close` returns; :mod:`polyface.machine.gate` helps with both. No detector compiles or runs a
    network in the moment of a fork, nor when the process ends: both wait for it.
    """

    @property
    def execution(self) -> Execution:
        """What it really runs on, read back from the runtime."""

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run the network; raises :class:`polyface.ClosedError` after :meth:`close`.

        A :meth:`close` in another thread lets a run that has begun finish.
        """

    def close(self) -> None:
        """Release what the session holds; closing twice is fine."""


@runtime_checkable
class PixelSession(Session, Protocol):
    """A session that takes pixels as they are, and normalises them where the network runs.

    A GPU is sent a quarter of the bytes of a float32 input, and the processor does no more than copy. Worth it only
    where it measures faster. :meth:`Session.run` is there as well: pixels can show no padding but of whole levels from
    0 to 255 (see :attr:`polyface.plugins.records.Preprocess.pad_pixel`), and then core prepares floats.
    """

    def run_pixels(self, pixels: ImageArray) -> dict[str, FloatArray]:
        """Run the network on images as :meth:`Session.run` does on what ``Preprocess`` makes of them, within rounding.

        ``pixels`` are RGB uint8 ``(N, H, W, 3)``, C-contiguous on the host, padding included: channels in the network's
        order, mean and std are the session's to see to. All else is as for :meth:`Session.run`.
        """


@runtime_checkable
class Backend(Protocol):
    """A runtime, loaded only once it is selected."""

    def probe(self) -> tuple[DeviceReport, ...]:
        """Return the devices this machine truly has; may import heavy libraries.

        Raises:
            BackendUnavailableError: it has none, and the backend can say why.
        """

    def compile(self, graph: Graph, request: CompileRequest) -> Session:
        """Return a session that runs ``graph`` exactly as requested.

        Raises:
            BackendUnavailableError: it cannot be had exactly so. Never settle for another device or precision.
        """


@runtime_checkable
class Converter(Protocol):
    """A way from one graph kind to another, of a record that is not ``calibrated``."""

    def convert(self, graph: Graph, directory: Path) -> Path:
        """Write the converted graph into ``directory``, which is empty, and return its path.

        Batch, height and width must stay free in what is written, but for those that ``graph.detector.input`` fixes. A
        library that prints, or switches what all threads share, is called by
        :func:`polyface.machine.processes.call_noisy`; the graph pickles.
        """

    def provenance(self) -> dict[str, str]:
        """Return versions and settings that shape the result, for the artifact's manifest."""


@runtime_checkable
class Quantizer(Protocol):
    """A way from one graph kind to one of fewer bits, of a record that is ``calibrated``."""

    def quantize(self, graph: Graph, images: Iterable[FloatArray], directory: Path) -> Path:
        """Write the quantized graph into ``directory``, which is empty, and return its path.

        Layers whose weights' names match one of ``graph.detector.keep_float`` stay in float. Batch, height and width
        must stay free in what is written.

        Args:
            graph: what to quantize: a file.
            images: what to calibrate with, which may be gone through more than once, and pickles: network inputs
                ``(1, 3, h, w)`` float32, of any sizes; of the batch and the size that the detector's input fixes.
            directory: where to write.
        """

    def provenance(self) -> dict[str, str]:
        """Return versions and settings that shape the result, for the artifact's manifest."""


@runtime_checkable
class Writer(Protocol):
    """What becomes of results. What it has written is whole at any moment, whatever ends the run."""

    def write(self, result: Result) -> Mapping[str, Any] | None:
        """Write one result, which may be an error.

        Returns:
            What it made of the result, such as ``{"drawing": "a_out.jpg"}``, for the writers that come after it: those
            that fill folders come before those that write files.

        Raises:
            ImageError: this result cannot be written; the next may.
            OSError: nothing more can be written.
        """

    def close(self) -> None:
        """Finish what was written; closing twice is fine."""


@runtime_checkable
class Finishing(Writer, Protocol):
    """A writer that makes something of a whole run, such as a video: of one that was cut off it makes nothing."""

    def finish(self) -> None:
        """Make it; called before ``close``, and only where all results were written.

        Raises:
            PolyfaceError: it cannot be made.
            OSError: it cannot be written.
        """


@runtime_checkable
class Resumable(Writer, Protocol):
    """A writer that goes on with what a run before wrote, and so keeps what it finds in its place.

    It is not given a result again that it has. The order in which results come is that of an undisturbed run.
    """

    def has(self, name: str) -> bool:
        """Return whether the result of an image of that name was written, by a run before or by this one."""


@runtime_checkable
class KnowsFailures(Resumable, Protocol):
    """A writer that also knows which images failed, so that a resumed run does not end as if none had."""

    def failed(self, name: str) -> bool:
        """Return whether the result of that name is an error."""


@frozen(kw_only=True)
class Search:
    """How a source looks for images.

    Args:
        formats: Pillow's names of formats to read beside the usual.
        skip: folders that are written to, where nothing is looked for.
        follow_links: whether links to folders are followed.
        endings: those that select other sources: such files in a folder are counted, and read where they are named.
        source_of: returns the source of another location, for a source that lists some; ``None`` of a file or folder.
    """

    formats: tuple[str, ...] = ()
    skip: tuple[Path, ...] = ()
    follow_links: bool = True
    endings: tuple[str, ...] = ()
    source_of: Callable[[str], Source | None] = lambda _: None


@runtime_checkable
class Source(Protocol):
    """Where images come from. What cannot be read is an item with its ``problem``, and ends nothing."""

    @property
    def left_out(self) -> Counter[str]:
        """What was left out so far, counted by what it is, such as ``{"hidden files": 3}``."""

    def __iter__(self) -> Iterator[Item]:
        """Yield the items, in the same order each time; the last may be far away."""

    def count(self) -> int | None:
        """Return how many items there are, for a progress bar; ``None`` where that is not known."""


@runtime_checkable
class Step(Protocol):
    """What stands between the detector and the writers of one job. Its state is its own, and of that job alone."""

    def __call__(self, results: Iterable[Result]) -> Iterable[Result]:
        """Yield each result, changed or not, in the same order; it may hold a bounded number of them back."""
