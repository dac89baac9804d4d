"""What this package tells polyface; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

import polyface
from polyface.plugins.records import BackendSpec, Capability, ConverterSpec, Ref, Requirement
from polyface.plugins.toolkit import CUDA_DRIVER

_TORCH = Requirement(module="torch", install="torch")
_EVERY_PRECISION = ("fp32", "bf16", "fp16")


@polyface.hookimpl
def polyface_backends() -> Iterator[BackendSpec]:
    yield BackendSpec(
        name="torch",
        summary="eager PyTorch on the CPU or on CUDA",
        accepts=("torch-module",),
        capabilities=(
            Capability(device="cuda", precisions=_EVERY_PRECISION, driver=CUDA_DRIVER),
            Capability(device="cpu", precisions=_EVERY_PRECISION),
        ),
        requires=(_TORCH,),
        factory=Ref("polyface_torch.backend:TorchBackend"),
        preference=10,
        trim=True,
    )


@polyface.hookimpl
def polyface_converters() -> Iterator[ConverterSpec]:
    yield ConverterSpec(
        source="torch-module",
        target="onnx",
        requires=(
            _TORCH,
            Requirement(module="onnx", install="polyface-torch[export]"),
            Requirement(module="onnxscript", install="polyface-torch[export]"),
        ),
        factory=Ref("polyface_torch.export:OnnxExporter"),
    )
