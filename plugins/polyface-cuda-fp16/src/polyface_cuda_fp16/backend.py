"""PyTorch in half precision on CUDA behind polyface's session contract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import attrs
import torch

from polyface.errors import BackendUnavailableError, Fix
from polyface.plugins.protocols import CompileRequest, DeviceReport, Execution, Graph
from polyface.plugins.records import DetectorSpec
from polyface.plugins.toolkit import Held
from polyface_cuda_fp16.captures import Captures
from polyface_cuda_fp16.device import CudaDevice
from polyface_torch.backend import (
    Normalise,
    TorchBackend,
    build,
    check_process,
    granted,
    heads,
    named_outputs,
    out_of_memory,
    place,
    size_of,
)

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, ImageArray
    from polyface_cuda_fp16.device import Download
    from polyface_torch.backend import NetworkInput

PART_PIXELS = 2 * 1024 * 1024
"""A batch goes through the GPU in parts of so many input pixels, or of one image.

While one part is computed, the next goes up and the one before comes down. A guess: other sizes were not measured.
"""


_WITHOUT = Fix("see whether there is a GPU", command="nvidia-smi") | Fix(settings={"backend": "torch"})


class CudaFp16Backend:
    """Runs ``torch-module`` graphs in half precision on CUDA."""

    def probe(self) -> tuple[DeviceReport, ...]:
        """Return the CUDA devices that PyTorch finds.

        Without any, CUDA is there without a precision, with the reason.

        Raises:
            BackendUnavailableError: PyTorch was used before this process was forked off.
        """
        return tuple(
            attrs.evolve(found, precisions=("fp16",))
            if "fp16" in found.precisions
            else attrs.evolve(found, fix=_WITHOUT)
            for found in TorchBackend().probe()
            if found.device != "cpu"
        )

    def compile(self, graph: Graph, request: CompileRequest) -> CudaFp16Session:
        """Return a session that runs the graph's module exactly as requested.

        Raises:
            BackendUnavailableError: the device or precision is not there, or its memory is too small for the weights.
            ContractError: the graph's builder does not return a ``torch.nn.Module``.
        """
        device = CudaDevice.of(granted(request, self.probe()))
        module = build(graph)
        place(module, graph.detector, device.target, "fp16")
        session = CudaFp16Session(module, graph.detector, device, int(request.options.get("graphs") or 0))
        device.settle()
        return session


class CudaFp16Session:
    """A module on a GPU; see :class:`polyface.plugins.protocols.PixelSession`.

    Args:
        module: in half precision and ``channels_last``, on the device.
        detector: whose module it is.
        device: where it lies.
        graphs: how many captured graphs are kept at most.
    """

    def __init__(self, module: torch.nn.Module, detector: DetectorSpec, device: CudaDevice, graphs: int) -> None:
        normalise = Normalise(detector.preprocess).to(device.target)

        def network(image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            image = normalise(image).half() if image.dtype == torch.uint8 else image
            return heads(module(image.contiguous(memory_format=torch.channels_last)), detector)

        self._held = Held(Captures(device, network, graphs), "cuda-fp16")
        self._device = device
        self._detector = detector
        self.execution = Execution(device=device.name, precision="fp16", versions={"torch": torch.__version__})

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run the network on ``(n, 3, h, w)`` float32; return every declared output by name, float32 on the host.

        Raises:
            ClosedError: the session is closed.
            OutOfMemoryError: CUDA ran out of memory.
            BackendUnavailableError: the network cannot be captured, or this process was forked off from the one that
                made the session.
            ContractError: the module does not return a tuple of one tensor for each declared output.
        """
        return self._run(inputs[self._detector.input.name])

    def run_pixels(self, pixels: ImageArray) -> dict[str, FloatArray]:
        """Run the network on ``(n, h, w, 3)`` RGB uint8; all else is as of :meth:`run`."""
        return self._run(pixels)

    def _run(self, image: NetworkInput) -> dict[str, FloatArray]:
        check_process()
        with torch.inference_mode():
            # One thread at a time hands its work to the GPU. It waits for the results afterwards, so that the next
            # thread's work is there before the GPU is done.
            with self._device.turn():
                captures = self._held.get()
                downloads = [self._start(captures, part) for part in _parts(image)]
            parts = [download.wait() for download in downloads]
            return named_outputs(tuple(map(torch.cat, zip(*parts, strict=True))), self._detector)

    def close(self) -> None:
        """Let go of the module and its graphs; runs under way finish first."""
        try:
            check_process()
        except BackendUnavailableError:
            return  # in a child, CUDA can be told nothing any more
        captures = self._held.close()
        if captures is not None:
            self._device.do_in_turn(captures.release)

    def _start(self, captures: Captures, part: NetworkInput) -> Download:
        """Hand a part to the GPU."""
        device = self._device
        try:
            return device.download(captures.run(device.upload(part)))
        except torch.OutOfMemoryError as error:
            less = Fix("lower", names=("max_side", "batch_size"))
            fix = less | Fix("keep fewer graphs", settings={"backend_options": {"graphs": 0}})
            raised = out_of_memory(error, device.name, part, fix)
            device.give_back()
            raise raised from error


def _parts(image: NetworkInput) -> Iterator[NetworkInput]:
    """Yield as few parts as there may be, about as large as each other: parts of one size share a graph."""
    n, height, width = size_of(image.shape, image.dtype)
    most = max(1, PART_PIXELS // (height * width))
    step = -(-n // -(-n // most))
    for start in range(0, n, step):
        yield image[start : start + step]
