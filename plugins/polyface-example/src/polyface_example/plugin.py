"""What this package offers polyface. Only records: importing this module must cost next to nothing."""

from __future__ import annotations

from collections.abc import Iterator

import polyface
from polyface.plugins.records import (
    BackendSpec,
    Capability,
    DetectDefaults,
    DetectorSpec,
    GraphSource,
    Preprocess,
    Ref,
    Requirement,
    TensorSpec,
)


@polyface.hookimpl
def polyface_detectors() -> Iterator[DetectorSpec]:
    """A detector of bright red squares."""
    yield DetectorSpec(
        name="example-redbox",
        summary="A toy that finds bright red squares of 8 by 8 pixels",
        graph_version=1,
        input=TensorSpec(name="image", dims=("n", 3, "h", "w")),
        outputs=(
            TensorSpec(name="loc", dims=("n", "p", 4)),
            TensorSpec(name="logits", dims=("n", "p", 2)),
        ),
        preprocess=Preprocess(channels="rgb", mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5), stride=8),
        head=Ref("polyface_example.head:RedboxHead"),
        graphs=(
            GraphSource(kind="numpy", ref=Ref("polyface_example.graph:build")),
            GraphSource(
                kind="torch-module",
                ref=Ref("polyface_example.net:build"),
                requires=(Requirement(module="torch", install="torch"),),
            ),
        ),
        # A cell that is half red scores 0.5; it takes more than half.
        defaults=DetectDefaults(score_threshold=0.6),
        min_side=8,
    )


@polyface.hookimpl
def polyface_backends() -> Iterator[BackendSpec]:
    """A backend that runs networks written in NumPy."""
    yield BackendSpec(
        name="numpy",
        summary="A toy that runs networks written in NumPy",
        accepts=("numpy",),
        capabilities=(Capability(device="cpu", precisions=("fp32",)),),
        factory=Ref("polyface_example.backend:NumpyBackend"),
    )
