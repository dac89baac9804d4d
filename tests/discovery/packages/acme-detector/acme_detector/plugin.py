from __future__ import annotations

from collections.abc import Iterator

import polyface
from polyface.plugins.records import DetectorSpec, GraphSource, Preprocess, Ref, TensorSpec


@polyface.hookimpl
def polyface_detectors() -> Iterator[DetectorSpec]:
    yield DetectorSpec(
        name="acme-stripes",
        summary="Finds bright stripes as wide as the image and 16 pixels high",
        graph_version=1,
        input=TensorSpec(name="pixels", dims=("n", 3, "h", "w")),
        outputs=(TensorSpec(name="brightness", dims=("n", "p")),),
        preprocess=Preprocess(channels="bgr", mean=(0, 0, 0), std=(255, 255, 255), stride=16),
        head=Ref("acme_detector.stripes:Head"),
        graphs=(GraphSource(kind="numpy", ref=Ref("acme_detector.stripes:build")),),
        landmarks=("left", "right"),
        min_side=16,
    )
