"""What this package tells polyface; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

import polyface
from polyface.plugins.records import BackendSpec, Capability, OptionSpec, Ref, Requirement
from polyface.plugins.toolkit import CUDA_DRIVER


@polyface.hookimpl
def polyface_backends() -> Iterator[BackendSpec]:
    yield BackendSpec(
        name="cuda-fp16",
        summary="PyTorch in half precision on CUDA, with captured graphs",
        accepts=("torch-module",),
        capabilities=(Capability(device="cuda", precisions=("fp16",), driver=CUDA_DRIVER),),
        requires=(
            Requirement(module="torch", install="torch"),
            Requirement(module="polyface_torch", install="polyface-torch"),
        ),
        factory=Ref("polyface_cuda_fp16.backend:CudaFp16Backend"),
        options=(
            OptionSpec(
                name="graphs",
                type="int",
                minimum=0,
                maximum=1024,
                default=8,
                help="how many shapes keep a captured graph; 0: none is captured",
            ),
        ),
        preference=12,  # above eager PyTorch, which runs wherever this does; the README has the figures
    )
