"""A network small enough to work out by hand, for backends to run: one convolution of a pixel, in three heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from polyface.plugins.records import DetectorSpec, FileRef, GraphSource, Preprocess, Ref, TensorSpec

if TYPE_CHECKING:
    from polyface.arrays import FloatArray

KERNEL = np.arange(30, dtype=np.float32).reshape(10, 3) / 8
"""Of the ten channels of ``loc``, ``landms`` and ``logits``; its products with pixels are exact in float32."""

REFERENCE = DetectorSpec(
    name="reference",
    summary="One convolution of a pixel; the conformance kit's own",
    graph_version=1,
    input=TensorSpec(name="image", dims=("n", 3, "h", "w")),
    # Two heads are of one shape, so that nothing but their numbers tells one from the other.
    outputs=(
        TensorSpec(name="loc", dims=("n", "p", 4)),
        TensorSpec(name="landms", dims=("n", "p", 4)),
        TensorSpec(name="logits", dims=("n", "p", 2)),
    ),
    preprocess=Preprocess(channels="rgb", mean=(128, 128, 128), std=(64, 64, 64)),
    head=Ref("polyface.testing.conformance.reference:head"),
    graphs=(
        GraphSource(kind="numpy", ref=Ref("polyface.testing.conformance.reference:build")),
        GraphSource(
            kind="onnx",
            ref=FileRef("polyface.testing.conformance:reference.onnx"),
            sha256="aae3c17fedc1cc8da1cfac15551ae30be84a7bf97e7badf2b6f0a7fcb728e203",
        ),
    ),
    min_side=1,
)


def build(
    weights: Path | None = None,  # noqa: ARG001 - its numbers are part of it
    *,
    seed: int | None = None,  # noqa: ARG001
) -> Callable[[Mapping[str, FloatArray]], dict[str, FloatArray]]:
    """Return the network as a function of named arrays: ``p`` counts the pixels, row by row."""

    def network(inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        image = inputs["image"]
        heads = np.einsum("nchw,oc->nhwo", image, KERNEL).reshape(len(image), -1, 10)
        return {"loc": heads[..., :4], "landms": heads[..., 4:8], "logits": heads[..., 8:]}

    return network


def head() -> None:
    """There is none: no face was ever found by this network."""
    raise NotImplementedError("the reference network has no head")
