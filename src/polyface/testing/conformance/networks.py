"""Inputs to run a network on, and what to make of its outputs."""

from __future__ import annotations

import gc
import itertools
import math
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from polyface.building import resolve
from polyface.graphs.plan import Selection, plan
from polyface.graphs.resolve import load_graph
from polyface.images.geometry import place_image
from polyface.images.preparing import prepare
from polyface.machine.cores import default_threads
from polyface.machine.memory import resident_memory
from polyface.pipeline.batching import in_batches
from polyface.plugins.manager import PluginManager
from polyface.plugins.options import check_options
from polyface.plugins.protocols import CompileRequest, Graph, Session
from polyface.plugins.records import BackendSpec, DetectorSpec, OptionValue
from polyface.settings.config import Config
from polyface.testing.conformance.base import Conformance, fail

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, ImageArray

SHAPES = 66
"""So many shapes a cache may hold: the memory checks let it fill with these, and then show it as many others."""

LEAK = 256
"""Bytes kept a shape from which on a cache counts as growing; a dictionary's entry for a small array takes more."""

NATIVE_LEAK = 512 * 1024
"""Bytes kept outside Python a shape from which on a cache counts as growing. A runtime keeps plans and workspaces for
more than ``SHAPES`` shapes: up to 230 KiB a shape on a CPU (OpenVINO, RetinaFace MobileNet0.25 in bf16)."""


class NetworkConformance(Conformance):
    """What checks of a network share: where it runs, and on which weights."""

    backend: ClassVar[str] = ""
    device: ClassVar[str] = "cpu"
    precision: ClassVar[str] = "fp32"
    options: ClassVar[Mapping[str, OptionValue]] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def weights(cls) -> str | None:
        """The detector's weights: its default."""
        return None

    @classmethod
    def _config(cls, detector: str, weights: str | None) -> Config:
        return Config(
            detector=detector, backend=cls.backend, device=cls.device, precision=cls.precision, weights=weights
        )

    @classmethod
    def _select(cls, detector: str, plugins: PluginManager, weights: str | None) -> Selection:
        return plan(resolve(cls._config(detector, weights), plugins)).first

    @pytest.fixture(scope="class")
    @classmethod
    def graph(cls, selection: Selection) -> Graph:
        """The network, as the backend is given it; a conversion runs once."""
        return load_graph(selection.route, selection.detector, selection.weights)

    @pytest.fixture(scope="class")
    @classmethod
    def session(cls, selection: Selection, graph: Graph) -> Iterator[Session]:
        """The session that all checks share which leave it as it is."""
        with closing(open_session(graph, selection.backend, cls.device, cls.precision, cls.options)) as session:
            yield session

    def test_outputs_are_the_declared_ones(self, session: Session, spec: DetectorSpec) -> None:
        """The head takes arrays by name, and trusts that they are what the detector's record says."""
        for height, width in sizes(spec):
            outputs = session.run({spec.input.name: network_input(spec, noise(2, height, width))})
            check_outputs(spec, outputs, 2, height, width)


def open_session(
    graph: Graph,
    backend: BackendSpec,
    device: str,
    precision: str,
    options: Mapping[str, OptionValue] | None = None,
    *,
    threads: int | None = None,
) -> Session:
    """Compile a graph with a backend's options checked, and return the session."""
    request = CompileRequest(
        device=device,
        precision=precision,
        infer_size=graph.detector.fixed_size,
        threads=threads or default_threads(),
        options=check_options(backend.name, backend.options, options or {}),
    )
    session: Session = backend.factory.load()().compile(graph, request)
    return in_batches(session, graph.detector.fixed_batch)


def sizes(spec: DetectorSpec) -> list[tuple[int, int]]:
    """Return legal heights and widths of the network's input: the least, even, odd and square, and one of each.

    They are even or odd in units of the stride, so that halving one leaves a remainder. Where the size is fixed, all
    are that one.
    """
    if spec.fixed_size is not None:
        return [spec.fixed_size] * 4
    even = [_side(spec, side, parity=0) for side in (64, 48)]
    odd = [_side(spec, side, parity=1) for side in (47, 33)]
    return [(_side(spec, 1), _side(spec, 1)), (even[0], even[1]), (odd[0], odd[0]), (odd[1], even[0])]


def _side(spec: DetectorSpec, pixels: int, parity: int | None = None) -> int:
    stride = spec.preprocess.stride
    units = math.ceil(max(pixels, spec.min_side) / stride)
    if parity is not None and units % 2 != parity:
        units += 1
    return units * stride


def noise(count: int, height: int, width: int, seed: int = 0) -> list[ImageArray]:
    """Return RGB uint8 images ``(H, W, 3)`` of random pixels: no network was trained on them."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return list(pixels)


def network_input(spec: DetectorSpec, images: Sequence[ImageArray]) -> FloatArray:
    """Return images of one size as polyface hands them to the network: ``(N, 3, H, W)`` float32."""
    placements = [place_image(Config(pad_to=1), spec, *image.shape[:2]) for image in images]
    return prepare(images, placements, spec.preprocess)


def run(session: Session, spec: DetectorSpec, image: FloatArray) -> dict[str, FloatArray]:
    """Run the network on a copy, and return copies: what a session does to its arrays is one check's affair."""
    return {name: np.array(value) for name, value in session.run({spec.input.name: image.copy()}).items()}


def differences(
    actual: Mapping[str, FloatArray], expected: Mapping[str, FloatArray], allowed: float, *, heads: bool = False
) -> list[str]:
    """Return one line for each expected array that is missing, of another shape, or further off than allowed.

    Raw heads are measured as :class:`polyface.measure.tolerances.Tolerance` says: relative to their largest magnitude.
    """
    lines = []
    for name, wanted in expected.items():
        got = actual.get(name)
        if got is None or got.shape != wanted.shape:
            lines.append(f"{name}: {'nothing' if got is None else got.shape} in the place of {wanted.shape}")
            continue
        off = float(np.abs(got - wanted).max(initial=0)) / (np.abs(wanted).max(initial=1) if heads else 1)
        if not off <= allowed:  # a NaN is off, too
            lines.append(f"{name}: up to {off:.3g} apart; allowed: {allowed:.3g}")
    return lines


def check_growth(what: str, spec: DetectorSpec, visit: Callable[[int, int], object]) -> None:
    """Fail where a second lot of shapes outgrows a first: in Python's and NumPy's memory, or in all of the process's.

    The first is of ``SHAPES`` heights and widths, the second of the same with height and width exchanged: a cache that
    is bounded by fewer holds as much after the one as after the other.
    """
    count = math.isqrt(2 * SHAPES) + 1
    steps = [_side(spec, 1) + index * spec.preprocess.stride for index in range(count)]
    shapes = list(itertools.combinations(steps, 2)) if spec.fixed_size is None else []
    tracemalloc.start()
    try:
        marks = []
        for lot in (shapes, [(width, height) for height, width in shapes]):
            for height, width in lot:
                visit(height, width)
            gc.collect()
            marks.append((tracemalloc.get_traced_memory()[0], resident_memory()))
    finally:
        tracemalloc.stop()
    for before, after, leak, where in zip(*marks, (LEAK, NATIVE_LEAK), ("", " outside Python"), strict=True):
        bytes_ = after - before
        if bytes_ > SHAPES * leak:
            fail(
                f"{what} keeps {bytes_ / SHAPES / 1024:.1f} KiB{where} for each new shape.",
                why=[
                    f"{SHAPES} new shapes after {SHAPES} others took {bytes_ / 1024:.0f} KiB more",
                    f"a cache of more than {SHAPES} shapes counts as one without bound",
                ],
                fix="bound the cache, as functools.lru_cache(maxsize=32) does, or keep none",
            )


def check_outputs(spec: DetectorSpec, outputs: Mapping[str, Any], n: int, height: int, width: int) -> None:
    """Fail unless these are the outputs that a detector's record declares, of ``n`` images of that size."""
    if outputs.keys() != {output.name for output in spec.outputs}:
        fail(f"The outputs are {', '.join(outputs)}.", why=[f"declared: {', '.join(o.name for o in spec.outputs)}"])
    known = dict(zip(spec.input.dims, (n, 3, height, width), strict=True))
    for declared in spec.outputs:
        output = outputs[declared.name]
        if not isinstance(output, np.ndarray) or output.dtype != np.float32 or not output.flags.c_contiguous:
            what = getattr(output, "dtype", type(output).__name__)
            fail(f"The output '{declared.name}' is no C-contiguous float32 array on the host, but {what}.")
        fits = len(output.shape) == len(declared.dims)
        # The first axis is the batch, of which any number runs even where a run takes a fixed one.
        for dim, size in zip((n, *declared.dims[1:]), output.shape, strict=False):
            fits &= size == (known.setdefault(dim, size) if isinstance(dim, str) else dim)
        if not fits:
            sizes_ = ", ".join(f"{name} = {size}" for name, size in known.items() if isinstance(name, str))
            fail(
                f"The output '{declared.name}' has the shape {output.shape}.",
                why=[f"declared: ({', '.join(map(str, declared.dims))}), where {sizes_}"],
            )


def check_same(
    otherwise: str,
    actual: Mapping[str, FloatArray],
    expected: Mapping[str, FloatArray],
    allowed: float,
    *,
    heads: bool = False,
) -> None:
    """Fail where there are :func:`differences`."""
    if off := differences(actual, expected, allowed, heads=heads):
        fail(f"{otherwise}.", why=off)
