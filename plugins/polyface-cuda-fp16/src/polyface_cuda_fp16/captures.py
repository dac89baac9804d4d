"""Which shapes run as captured graphs."""

from __future__ import annotations

import traceback
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from polyface.errors import BackendUnavailableError, Fix
from polyface_torch.backend import first_line, size_of

if TYPE_CHECKING:
    from polyface_cuda_fp16.device import Captured, CudaDevice, Network


Shape: TypeAlias = tuple[torch.Size, torch.dtype]
"""Floats and pixels have graphs of their own."""


class Captures:
    """A network on a device, with a captured graph for each of the shapes that come back, ``most`` of them at most.

    A capture costs several runs and holds memory, so the first input of a shape runs plainly. The second captures it,
    unless ``most`` other shapes ran plainly for the first time in between; the graph used least recently makes room. So
    shapes that come once cost nothing, and more shapes than graphs, taken in turn, do not chase each other's graphs
    away. (A small relative of 2Q: Johnson and Shasha, VLDB 1994.)

    Not safe from two threads: it is the caller's turn, by the device.
    """

    def __init__(self, device: CudaDevice, network: Network, most: int) -> None:
        self._device = device
        self._network = network
        self._most = most
        self._graphs: OrderedDict[Shape, Captured] = OrderedDict()
        self._seen: OrderedDict[Shape, None] = OrderedDict()

    def run(self, image: Tensor) -> tuple[Tensor, ...]:
        """Run the network on an upload, by its shape's graph or plainly.

        Raises:
            BackendUnavailableError: its shape came back, and the network cannot be captured.
        """
        shape = image.shape, image.dtype
        if shape in self._graphs:
            self._graphs.move_to_end(shape)
        elif shape in self._seen:
            self._capture(shape)
        else:
            self._remember(shape)
            return self._device.forward(self._network, image)
        return self._device.replay(self._graphs[shape], image)

    def release(self) -> None:
        """Free every graph."""
        while self._graphs:
            self._evict()

    def _capture(self, shape: Shape) -> None:
        while len(self._graphs) >= self._most:
            self._evict()
        beside = next(iter(self._graphs.values()), None)
        try:
            self._graphs[shape] = self._device.capture(self._network, *shape, beside)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            traceback.clear_frames(error.__traceback__)  # they hold the graph's memory for as long as the error lives
            n, height, width = size_of(*shape)
            raise BackendUnavailableError(
                f"The network cannot be captured as a CUDA graph on a batch of {n} of {width}x{height} pixels.",
                why=[first_line(error)],
                fix=Fix("run it without graphs", settings={"backend_options": {"graphs": 0}}),
            ) from error
        del self._seen[shape]

    def _evict(self) -> None:
        _, captured = self._graphs.popitem(last=False)
        self._device.release(captured)

    def _remember(self, shape: Shape) -> None:
        self._seen[shape] = None
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)
