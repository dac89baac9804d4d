"""What this package tells polyface; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

import polyface
from polyface.specs import BackendSpec, Capability, OptionSpec, Ref, Requirement

CUDA_DRIVER = ("libcuda.so.1", "nvcuda.dll")
UNPROVEN = "not yet run on a GPU"
"""What stands beside the claim until somebody has run it there."""


@polyface.hookimpl
def polyface_backends() -> Iterator[BackendSpec]:
    yield BackendSpec(
        name="cuda-fp16",
        summary="PyTorch in half precision on CUDA, with captured graphs",
        accepts=("torch-module",),
        capabilities=(Capability(device="cuda", precisions=("fp16",), note=UNPROVEN, driver=CUDA_DRIVER),),
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
        # Under eager PyTorch, which runs wherever this does, until it has run on a GPU.
        preference=8,
    )
