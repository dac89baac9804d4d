from __future__ import annotations

from collections.abc import Iterator

import polyface
from polyface.plugins.records import DetectorSpec, GraphSource, Preprocess, Ref, TensorSpec


@polyface.hookimpl
def polyface_detectors() -> Iterator[DetectorSpec]:
    yield DetectorSpec(
        name="clash",
        summary="The 'clash' of clash-two",
        graph_version=1,
        input=TensorSpec(name="image", dims=("n", 3, "h", "w")),
        outputs=(TensorSpec(name="logits", dims=("n", "p", 2)),),
        preprocess=Preprocess(channels="rgb", mean=(0, 0, 0)),
        head=Ref("clash_two:Head"),
        graphs=(GraphSource(kind="numpy", ref=Ref("clash_two:build")),),
    )
