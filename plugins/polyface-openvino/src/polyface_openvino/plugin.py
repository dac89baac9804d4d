"""What this package tells polyface; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

import polyface
from polyface.plugins.records import BackendSpec, Capability, OptionSpec, Ref, Requirement


@polyface.hookimpl
def polyface_backends() -> Iterator[BackendSpec]:
    yield BackendSpec(
        name="openvino",
        summary="OpenVINO on the CPU, without torch; bf16 where the processor has it, and int8",
        accepts=("onnx",),
        capabilities=(
            Capability(device="cpu", precisions=("fp32", "bf16", "fp16")),
            Capability(device="cpu", precisions=("int8",), accepts=("onnx-int8",)),
        ),
        requires=(Requirement(module="openvino", install="openvino"),),
        factory=Ref("polyface_openvino.backend:OpenVINOBackend"),
        options=(
            OptionSpec(
                name="hint",
                type="str",
                choices=("latency", "throughput"),
                default="latency",
                help="latency: all threads on one run; throughput: several runs at once, for a caller with threads",
            ),
            OptionSpec(
                name="streams",
                type="int",
                minimum=1,
                maximum=1024,
                help="runs at once, which share the threads; unset: as the hint has it",
            ),
            OptionSpec(
                name="cache",
                type="bool",
                default=False,
                help="keep the compiled network in polyface's home, for a faster start; as large as the network",
            ),
        ),
        preference=15,  # below ONNX Runtime, above PyTorch; the README has the figures
        trim=True,
    )
