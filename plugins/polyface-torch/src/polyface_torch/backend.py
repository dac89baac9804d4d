"""Eager PyTorch behind polyface's session contract."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from polyface.errors import BackendUnavailableError, ContractError, Fix, OutOfMemoryError
from polyface.machine.gate import refuse_in_child
from polyface.plugins.protocols import CompileRequest, DeviceReport, Execution, Graph
from polyface.plugins.records import DetectorSpec, Preprocess
from polyface.plugins.toolkit import Held, graph_builder
from polyface_torch.depthwise import use_native_depthwise
from polyface_torch.precision import exact_float32
from polyface_torch.runtime import torch
from polyface_torch.workers import workers_of

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, ImageArray

    NetworkInput: TypeAlias = FloatArray | ImageArray

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_NO_CUDA = DeviceReport(
    device="cuda",
    precisions=(),
    detail=f"PyTorch {torch.__version__} finds no CUDA device",
    fix=Fix("see whether there is a GPU with its driver", command="nvidia-smi") | Fix(settings={"device": "cpu"}),
)


_used_in: list[int] = []  # the process that used PyTorch first, once one has


class TorchBackend:
    """Runs ``torch-module`` graphs with eager PyTorch, on the CPU or on CUDA."""

    def probe(self) -> tuple[DeviceReport, ...]:
        """Return the CUDA devices and the CPU, each with the precisions that its arithmetic units have.

        Without any, CUDA is there without a precision, with the reason.

        Raises:
            BackendUnavailableError: PyTorch was used before this process was forked off.
        """
        check_process()
        cuda = [_cuda(index) for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
        return (*(cuda or [_NO_CUDA]), _cpu())

    def compile(self, graph: Graph, request: CompileRequest) -> TorchSession:
        """Return a session that runs the graph's module exactly as requested.

        Raises:
            BackendUnavailableError: the device or precision is not there, or its memory is too small for the weights.
            ContractError: the graph's builder does not return a ``torch.nn.Module``.
        """
        device = granted(request, self.probe())
        # Built here: who makes a detector while a module is imported holds its lock, and a worker would wait for it.
        module = build(graph)
        workers = workers_of(device, request.threads)
        workers.call(place, module, graph.detector, device, request.precision)
        # On the processor pixels gained nothing: 2.3 ms in the place of 2.1 for 1024x704, of 90.
        kind = TorchSession if device == "cpu" else TorchPixelSession
        return kind(module, graph.detector, device, request.precision, request.threads)


class TorchSession:
    """A module ready to run; see :class:`polyface.plugins.protocols.Session`."""

    def __init__(
        self, module: torch.nn.Module, detector: DetectorSpec, device: str, precision: str, threads: int | None
    ) -> None:
        self._held = Held(module, "PyTorch")
        self._detector = detector
        self._dtype = _DTYPES[precision]
        self._workers = workers_of(device, threads)
        # What a GPU computes takes none of them.
        in_use = self._workers.call(torch.get_num_threads) if device == "cpu" else None
        self.execution = Execution(
            device=device, precision=precision, threads=in_use, versions={"torch": torch.__version__}
        )

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run the network on ``(n, 3, h, w)`` float32; return every declared output by name, float32 on the host.

        Raises:
            ClosedError: the session is closed.
            OutOfMemoryError: the device ran out of memory.
            BackendUnavailableError: this process was forked off from the one that made the session.
            ContractError: the module does not return a tuple of one tensor for each declared output.
        """
        # torch.tensor copies, so that an in-place module cannot write to the caller's array.
        return self._run(inputs[self._detector.input.name], torch.tensor)

    def _run(self, image: NetworkInput, load: Callable[[NetworkInput], torch.Tensor]) -> dict[str, FloatArray]:
        """Run the network on what ``load`` makes of an input: ``(n, 3, h, w)``, of any type and on any device."""
        check_process()
        return self._workers.call(self._compute, image, load)

    def _compute(self, image: NetworkInput, load: Callable[[NetworkInput], torch.Tensor]) -> dict[str, FloatArray]:
        module = self._held.get()
        device = self.execution.device
        exact = exact_float32.on(device) if self._dtype is torch.float32 else contextlib.nullcontext()
        try:
            with torch.inference_mode(), exact:
                tensor = load(image).to(device, self._dtype, memory_format=torch.channels_last)
                return named_outputs(module(tensor), self._detector)
        except torch.OutOfMemoryError as error:
            fewer = Fix("pass fewer images at a time, or lower", names=("max_side",))
            fix = fewer | Fix(settings={"precision": "fp16"})
            raise out_of_memory(error, device, image, fix) from error

    def close(self) -> None:
        """Let go of the module; runs under way finish first."""
        self._held.close()


class TorchPixelSession(TorchSession):
    """A module on a GPU; see :class:`polyface.plugins.protocols.PixelSession`."""

    @functools.cached_property
    def _normalise(self) -> Normalise:
        return Normalise(self._detector.preprocess).to(self.execution.device)

    def run_pixels(self, pixels: ImageArray) -> dict[str, FloatArray]:
        """Run the network on ``(n, h, w, 3)`` RGB uint8; all else is as of :meth:`run`."""
        return self._run(pixels, lambda there: self._normalise(torch.tensor(there).to(self.execution.device)))


def check_process() -> None:
    """Refuse what would wait for ever.

    Raises:
        BackendUnavailableError: PyTorch was used before this process was forked off.
    """
    for process in _used_in:
        why = "PyTorch's threads (OpenMP) and CUDA do not survive a fork: it would wait for them for ever"
        refuse_in_child(process, "PyTorch", why, Fix("on a processor", settings={"backend": "onnxruntime"}))


def granted(request: CompileRequest, there: Sequence[DeviceReport]) -> str:
    """Return the device of the request, with its index, from those that a probe found.

    Raises:
        BackendUnavailableError: it is not there, or not in that precision.
    """
    device = "cuda:0" if request.device == "cuda" else request.device
    if any(found.device == device and request.precision in found.precisions for found in there):
        return device
    raise BackendUnavailableError(
        f"PyTorch {torch.__version__} cannot run on '{request.device}' in '{request.precision}' on this machine.",
        why=[f"{found.device} ({found.detail}) has {', '.join(found.precisions) or 'nothing'}" for found in there],
        fix=Fix("choose another", names=("device", "precision"), command="polyface matrix --probe"),
    )


class Normalise(torch.nn.Module):
    """Makes the network's input ``(n, 3, h, w)`` float32 of RGB uint8 ``(n, h, w, 3)``, in memory the channels last.

    The numbers are those of :func:`polyface.images.preparing.prepare`.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self._turned = preprocess.channels == "bgr"
        for name, values in (("mean", preprocess.mean), ("std", preprocess.std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32)[:, None, None])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return a new tensor."""
        image = pixels.permute(0, 3, 1, 2)
        image = (image.flip(1) if self._turned else image).float()
        return image.sub_(self.mean).div_(self.std)


def build(graph: Graph) -> torch.nn.Module:
    """Return the graph's module in evaluation mode on the CPU, in float32, without gradients.

    Raises:
        BackendUnavailableError: PyTorch was used before this process was forked off.
        ContractError: the source is not a builder, or what it returns is not a module.
    """
    check_process()
    if not _used_in:
        _used_in.append(os.getpid())
    builder = graph_builder(graph)
    module = builder.load()(graph.weights)
    if not isinstance(module, torch.nn.Module):
        raise ContractError(f"'{builder.target}' must return a torch.nn.Module, not {type(module).__name__}.")
    return module.eval().requires_grad_(False)


def place(module: torch.nn.Module, detector: DetectorSpec, device: str | torch.device, precision: str) -> None:
    """Move a module to the device, in the precision, its kernels in ``channels_last``.

    On a GPU its depthwise convolutions are PyTorch's own.

    Raises:
        OutOfMemoryError: the device's free memory is too small for the weights.
    """
    if torch.device(device).type != "cpu":
        use_native_depthwise(module)
    try:
        module.to(device, _DTYPES[precision]).to(memory_format=torch.channels_last)
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"The weights of '{detector.name}' do not fit into the free memory of {device}.",
            why=[first_line(error)],
            fix=Fix("free that memory")
            | Fix(settings={"backend": "torch", "device": "cpu"})
            | Fix("choose a lighter one", names=("detector",), command="polyface detectors"),
        ) from error


def heads(outputs: object, detector: DetectorSpec) -> tuple[torch.Tensor, ...]:
    """Return a module's outputs, checked.

    Raises:
        ContractError: they are not a tuple of as many tensors as the detector declares.
    """
    names = [tensor.name for tensor in detector.outputs]
    if (
        isinstance(outputs, tuple)
        and len(outputs) == len(names)
        and all(isinstance(output, torch.Tensor) for output in outputs)
    ):
        return outputs
    what = f"a tuple of {len(outputs)}" if isinstance(outputs, tuple) else type(outputs).__name__
    raise ContractError(
        f"The module of '{detector.name}' must return a tuple of {len(names)} tensors, not {what}.",
        why=[f"the detector declares {', '.join(names)}"],
    )


def named_outputs(outputs: object, detector: DetectorSpec) -> dict[str, FloatArray]:
    """Return a module's outputs by their declared names, as new float32 arrays on the host.

    Raises:
        ContractError: as :func:`heads`.
    """
    # On the CPU a tensor may share its memory with the module; np.array makes the copy that the caller owns.
    arrays = [np.array(output.to("cpu", torch.float32).numpy(), order="C") for output in heads(outputs, detector)]
    return dict(zip((tensor.name for tensor in detector.outputs), arrays, strict=True))


def size_of(shape: Sequence[int], dtype: np.dtype[Any] | torch.dtype) -> tuple[int, int, int]:
    """Return the number of images, height and width of floats ``(n, 3, h, w)`` or pixels, uint8 ``(n, h, w, 3)``."""
    n, *sides = shape
    height, width = sides[:2] if dtype in (np.uint8, torch.uint8) else sides[1:]
    return n, height, width


def out_of_memory(error: BaseException, device: str, image: NetworkInput, fix: Fix) -> OutOfMemoryError:
    """Return what to raise for a run on ``image`` that found no memory, and let go of that run's tensors.

    PyTorch's error holds the frames of the run, and these the tensors, for as long as anybody holds the error: a caller
    who tries again with less while handling it would find the memory still taken.
    """
    traceback.clear_frames(error.__traceback__)
    n, height, width = size_of(image.shape, image.dtype)
    return OutOfMemoryError(
        f"{device} ran out of memory on a batch of {n} of {width}x{height} pixels.", why=[first_line(error)], fix=fix
    )


def _cuda(index: int) -> DeviceReport:
    with torch.cuda.device(index):  # is_bf16_supported asks the current device
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    precisions = ("fp32", "bf16", "fp16") if bf16 else ("fp32", "fp16")
    return DeviceReport(device=f"cuda:{index}", precisions=precisions, detail=torch.cuda.get_device_name(index))


def _cpu() -> DeviceReport:
    precisions = ("fp32", *(name for name in ("bf16", "fp16") if _cpu_computes_in(name)))
    return DeviceReport(device="cpu", precisions=precisions, detail=torch.backends.cpu.get_cpu_capability())


def _cpu_computes_in(precision: str) -> bool:
    """Whether oneDNN has convolutions in ``"bf16"`` or ``"fp16"`` for this CPU, made of its own instructions."""
    supported = getattr(torch.ops.mkldnn, f"_is_mkldnn_{precision}_supported", None)
    if supported is None or not supported():
        return False
    # On x86, oneDNN counts bf16 as supported from AVX-512 on, and emulates it up to AVX512_BF16.
    emulated = precision == "bf16" and platform.machine() in ("x86_64", "AMD64")
    return not emulated or torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001 - no public name in every version


def first_line(error: BaseException) -> str:
    """Return an error's type and the first line of its message; PyTorch's messages are pages."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
