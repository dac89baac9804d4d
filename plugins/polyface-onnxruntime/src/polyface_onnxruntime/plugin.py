"""What this package tells polyface; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

import polyface
from polyface.plugins.records import BackendSpec, Capability, ConverterSpec, OptionSpec, Ref, Requirement
from polyface.plugins.toolkit import CUDA_DRIVER

UNPROVEN = "not yet run on a GPU"
"""What stands beside every claim on CUDA until somebody has run it there."""


@polyface.hookimpl
def polyface_backends() -> Iterator[BackendSpec]:
    yield BackendSpec(
        name="onnxruntime",
        summary="ONNX Runtime on the CPU or on CUDA, without torch",
        accepts=("onnx",),
        capabilities=(
            Capability(device="cuda", precisions=("fp32",), note=UNPROVEN, driver=CUDA_DRIVER),
            Capability(device="cpu", precisions=("fp32",)),
            Capability(device="cpu", precisions=("int8",), accepts=("onnx-int8",)),
        ),
        requires=(Requirement(module="onnxruntime", install="onnxruntime"),),
        factory=Ref("polyface_onnxruntime.backend:OnnxRuntimeBackend"),
        options=(
            OptionSpec(
                name="allow_spinning",
                type="bool",
                help="idle threads spin for long, for a machine without other work, or not at all; unset: for 20 us",
            ),
            OptionSpec(
                name="graph_optimization",
                type="str",
                choices=("none", "basic", "extended", "all"),
                help="how far the graph is rewritten before the first run; unset: all",
            ),
            OptionSpec(name="gpu_mem_limit", type="int", minimum=1, help="CUDA: the most memory to take, in MiB"),
            OptionSpec(
                name="cudnn_conv_algo_search",
                type="str",
                choices=("heuristic", "exhaustive", "default"),
                default="heuristic",
                help="CUDA: how cuDNN chooses a convolution; exhaustive times every one at each new shape",
            ),
        ),
        preference=20,
        trim=True,
    )
    yield BackendSpec(
        name="tensorrt",
        summary="ONNX Runtime's TensorRT provider; the first run of a graph builds its engine, for minutes",
        accepts=("onnx",),
        capabilities=(Capability(device="cuda", precisions=("fp32", "fp16"), note=UNPROVEN, driver=CUDA_DRIVER),),
        requires=(
            Requirement(module="onnxruntime", install="polyface-onnxruntime[gpu]"),
            Requirement(module="tensorrt", install="polyface-onnxruntime[tensorrt]"),
        ),
        factory=Ref("polyface_onnxruntime.tensorrt:TensorRTBackend"),
        options=(
            OptionSpec(name="min_side", type="int", minimum=1, help="least side, in pixels; unset: the detector's"),
            OptionSpec(
                name="opt_side", type="int", minimum=1, help="side to be fastest at; unset: 640, or the nearest"
            ),
            OptionSpec(name="max_side", type="int", minimum=1, help="greatest side, in pixels; unset: 1600"),
            OptionSpec(name="max_batch", type="int", minimum=1, default=1, help="most images in one run of the engine"),
        ),
        preference=5,
    )


@polyface.hookimpl
def polyface_converters() -> Iterator[ConverterSpec]:
    yield ConverterSpec(
        source="onnx",
        target="onnx-int8",
        calibrated=True,
        requires=(
            Requirement(module="onnxruntime", install="onnxruntime"),
            Requirement(module="onnx", install="polyface-onnxruntime[quantize]"),
        ),
        factory=Ref("polyface_onnxruntime.quantize:Int8Quantizer"),
    )
    yield ConverterSpec(
        source="onnx-file",
        target="onnx",
        requires=(
            Requirement(module="onnxruntime", install="onnxruntime"),
            Requirement(module="onnx", install="polyface-onnxruntime[onnx]"),
        ),
        factory=Ref("polyface_onnxruntime.onnx_file:OnnxFileConverter"),
    )
