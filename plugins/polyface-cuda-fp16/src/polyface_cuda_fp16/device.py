"""A GPU as this backend uses it; nothing else here touches CUDA.

Three streams: inputs go up on one and outputs come down on another, while the network computes on the third. The
streams wait for one another by events, the host only where it reads. What CUDA asks of captured graphs is in PyTorch's
notes:
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import torch
from attrs import frozen
from torch import Tensor, cuda

from polyface_torch.workers import workers_of

if TYPE_CHECKING:
    from polyface_torch.backend import NetworkInput

Network: TypeAlias = Callable[[Tensor], tuple[Tensor, ...]]

WARM_UPS = 3
"""Runs before a capture: in it, libraries must not load, try kernels or take their workspaces any more."""

LOG = logging.getLogger(__name__)

# PyTorch allows one capture at a time in a process, and emptying its cache not during one.
_capturing = threading.Lock()


@frozen(eq=False)
class Captured:
    """A network's work on one shape: it reads ``image``, writes ``heads``, and does so at the same addresses always."""

    graph: cuda.CUDAGraph
    image: Tensor
    heads: tuple[Tensor, ...]


@frozen(eq=False)
class Download:
    """Heads on their way to the host."""

    heads: tuple[Tensor, ...]
    done: cuda.Event

    def wait(self) -> tuple[Tensor, ...]:
        """Return them once they are there."""
        self.done.synchronize()
        return self.heads


class CudaDevice:
    """A GPU with its three streams; all sessions on it share one, by :meth:`of`.

    Whoever calls what gives it work has the :meth:`turn`, since what another thread gave to the computing stream during
    a capture would become part of the graph, and is in inference mode, in which a graph's tensors are made and written
    to.

    Args:
        name: such as ``"cuda:0"``.

    Attributes:
        target: where PyTorch puts tensors that are to lie on it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.target = torch.device(name)
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        # What asks cuDNN for plans goes there; a replay does not.
        self._worker = workers_of(name, None)
        self._up, self._compute, self._down = (_stream(name) for _ in range(3))

    @classmethod
    def of(cls, name: str) -> CudaDevice:
        """Return the one of this process."""
        with _registering:
            if name not in _devices:
                _devices[name] = cls(name)
            return _devices[name]

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Be the only one to give it work."""
        try:
            with self._lock:
                yield
        finally:
            self._do_what_waits()

    def do_in_turn(self, task: Callable[[], None]) -> None:
        """Do a task at once, or where it is another's turn, have that one do it at its end.

        Nobody waits: the garbage collector may close a session in the very thread whose turn it is.
        """
        self._waiting.append(task)
        self._do_what_waits()

    def _do_what_waits(self) -> None:
        while self._waiting and self._lock.acquire(blocking=False):
            try:
                while self._waiting:
                    try:
                        self._waiting.popleft()()
                    except RuntimeError:  # CUDA's: whoever has the turn has nothing to do with it
                        LOG.warning("the graphs of a session that was closed were not freed", exc_info=True)
            finally:
                self._lock.release()

    def settle(self) -> None:
        """Wait until the GPU has done what the calling thread had PyTorch do there, such as taking in weights."""
        cuda.current_stream(self.name).synchronize()

    def upload(self, image: NetworkInput) -> Tensor:
        """Return ``image`` on the GPU, for use on the computing stream, which waits for it: floats in half precision.

        The host rounds them while it copies into pinned memory, which halves what is transferred.
        """
        # from_numpy warns of arrays that may not be written to, though nobody writes to this one.
        source = torch.from_numpy(image if image.flags.writeable else image.copy())
        dtype = torch.uint8 if source.dtype == torch.uint8 else torch.float16
        staging = pinned(image.shape, dtype).copy_(source)
        with cuda.stream(self._up):
            there = torch.empty(image.shape, dtype=dtype, device=self.target).copy_(staging, non_blocking=True)
        there.record_stream(self._compute)
        self._compute.wait_stream(self._up)
        return there

    def forward(self, network: Network, image: Tensor) -> tuple[Tensor, ...]:
        """Run the network on an upload, each operation launched by itself."""
        return self._worker.call(self._forward, network, image)

    @torch.inference_mode()
    def _forward(self, network: Network, image: Tensor) -> tuple[Tensor, ...]:
        with cuda.stream(self._compute):
            return _copied(network(image))

    def capture(self, network: Network, shape: torch.Size, dtype: torch.dtype, beside: Captured | None) -> Captured:
        """Capture the network's work on inputs of ``shape``, in the memory of the graph ``beside`` where there is one.

        Graphs may share memory: they run one after the other on one stream, and what one leaves in the memory it shares
        is copied from there (see :meth:`replay`) before the next runs.

        Raises:
            RuntimeError: PyTorch's, of the operation that cannot be captured or found no memory.
        """
        return self._worker.call(self._capture, network, shape, dtype, beside)

    @torch.inference_mode()
    def _capture(self, network: Network, shape: torch.Size, dtype: torch.dtype, beside: Captured | None) -> Captured:
        pool = None if beside is None else beside.graph.pool()
        graph = cuda.CUDAGraph()
        # cuda.graph leaves its stream current when a capture fails to end; the outer context does not.
        with cuda.device(self.name), cuda.stream(self._compute):
            image = torch.zeros(shape, dtype=dtype, device=self.target)
            if dtype != torch.uint8:
                image = image.contiguous(memory_format=torch.channels_last)
            for _ in range(WARM_UPS):
                network(image)
            # thread_local: other threads may allocate memory and wait for events meanwhile.
            first = None
            try:
                with _capturing, cuda.graph(graph, pool, self._compute, capture_error_mode="thread_local"):
                    try:
                        heads = network(image)
                    except RuntimeError as error:
                        first = error
                        raise
            except RuntimeError as error:
                # After a failure in a capture, ending it fails as well: the first error is the one to tell.
                raise first or error from None
        return Captured(graph, image, heads)

    def replay(self, captured: Captured, image: Tensor) -> tuple[Tensor, ...]:
        """Run a captured graph on an upload of its shape."""
        with cuda.stream(self._compute):
            captured.image.copy_(image)
            captured.graph.replay()
            return _copied(captured.heads)

    def download(self, heads: tuple[Tensor, ...]) -> Download:
        """Send heads from the computing stream to the host, in their own precision."""
        self._down.wait_stream(self._compute)
        with cuda.stream(self._down):
            arrived = tuple(pinned(head.shape, head.dtype).copy_(head, non_blocking=True) for head in heads)
        for head in heads:
            head.record_stream(self._down)
        return Download(arrived, self._down.record_event())

    def release(self, captured: Captured) -> None:
        """Free a graph, once what it computes is done."""
        self._compute.synchronize()
        captured.graph.reset()

    def give_back(self) -> None:
        """Give the driver the memory that PyTorch holds and nobody uses."""
        with _capturing:
            cuda.empty_cache()


_devices: dict[str, CudaDevice] = {}
_registering = threading.Lock()


def _stream(name: str) -> cuda.Stream:
    return cuda.Stream(name)  # type: ignore[no-untyped-call]


def pinned(shape: torch.Size | tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return page-locked memory, which alone is copied while the host goes on; PyTorch keeps it for other runs."""
    return torch.empty(shape, dtype=dtype, pin_memory=True)


def _copied(heads: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Contiguous copies: a graph's own heads are overwritten, and strided ones would not come down asynchronously."""
    return tuple(head.clone(memory_format=torch.contiguous_format) for head in heads)
