"""What this package offers polyface. Only records: importing this module must cost next to nothing."""

from __future__ import annotations

from collections.abc import Iterator

import polyface
from polyface.plugins.records import (
    BackendSpec,
    Capability,
    CommandSpec,
    DetectDefaults,
    DetectorSpec,
    GraphSource,
    Preprocess,
    Ref,
    Requirement,
    TensorSpec,
    WriterSpec,
)


@polyface.hookimpl
def polyface_detectors() -> Iterator[DetectorSpec]:
    """A detector of bright red squares."""
    yield DetectorSpec(
        name="example-redbox",
        summary="A toy that finds bright red squares of 8 by 8 pixels",
        graph_version=1,
        # Replace: what your network takes, and the raw heads that it gives, by their names and shapes.
        input=TensorSpec(name="image", dims=("n", 3, "h", "w")),
        outputs=(
            TensorSpec(name="loc", dims=("n", "p", 4)),
            TensorSpec(name="logits", dims=("n", "p", 2)),
        ),
        # Replace: as it was trained; the sides of its input are multiples of stride.
        preprocess=Preprocess(channels="rgb", mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5), stride=8),
        head=Ref("polyface_example.head:RedboxHead"),
        # Replace: leave out the kind that you do not write. A checkpoint goes in weights=(WeightsFile(...),).
        graphs=(
            GraphSource(kind="numpy", ref=Ref("polyface_example.graph:build")),
            GraphSource(
                kind="torch-module",
                ref=Ref("polyface_example.net:build"),
                requires=(Requirement(module="torch", install="torch"),),
            ),
        ),
        # Replace: what is best for your network. A cell that is half red scores 0.5; it takes more than half.
        defaults=DetectDefaults(score_threshold=0.6),
        min_side=8,
    )


@polyface.hookimpl
def polyface_backends() -> Iterator[BackendSpec]:
    """A backend that runs networks written in NumPy."""
    yield BackendSpec(
        name="numpy",
        summary="A toy that runs networks written in NumPy",
        # Replace: the kinds of graph that your runtime runs, such as "onnx" or "torch-module", and where.
        accepts=("numpy",),
        capabilities=(Capability(device="cpu", precisions=("fp32",)),),
        factory=Ref("polyface_example.backend:NumpyBackend"),
    )


@polyface.hookimpl
def polyface_writers() -> Iterator[WriterSpec]:
    """A writer that counts faces."""
    yield WriterSpec(
        name="example-counts",
        summary="A toy that writes how many faces each image has",
        # Replace: the ends of names of files that select it.
        endings=(".counts.txt",),
        factory=Ref("polyface_example.writer:CountsWriter"),
    )


@polyface.hookimpl
def polyface_commands() -> Iterator[CommandSpec]:
    """A command that copies this package under another name."""
    yield CommandSpec(
        name="new",
        summary="Begin a plugin of your own: a package that runs.",
        command=Ref("polyface_example.new:command"),
    )
