"""The records of the SCRFD detectors; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable

import polyface
from polyface.plugins.records import (
    DetectDefaults,
    DetectorSpec,
    FamilySpec,
    GraphSource,
    Preprocess,
    Ref,
    TensorSpec,
    WeightsFile,
)
from polyface.plugins.toolkit import input_options

_OUTPUTS = tuple(
    TensorSpec(name=f"{name}_{stride}", dims=("n", f"p{stride}", width))
    for name, width in (("score", 1), ("bbox", 4), ("kps", 10))
    for stride in (8, 16, 32)
)


def _spec(
    *,
    size: str,
    summary: str,
    sha256: str,
    file_size: int,
    urls: Iterable[str],
    run_pixels: int,
    keep_float: Iterable[str] = (),
) -> DetectorSpec:
    weights = WeightsFile(
        name="insightface",
        filename=f"scrfd_{size}_kps.onnx",
        sha256=sha256,
        size=file_size,
        license="non-commercial research only (InsightFace's trained models)",
        research_only=True,
        urls=tuple(urls),
        origin="https://github.com/deepinsight/insightface, detection/scrfd; trained on WIDER FACE (for research)",
    )
    return DetectorSpec(
        name=f"scrfd-{size}",
        summary=summary,
        graph_version=1,
        input=TensorSpec(name="image", dims=("n", 3, "h", "w")),
        outputs=_OUTPUTS,
        preprocess=Preprocess(
            channels="rgb",
            mean=(127.5, 127.5, 127.5),
            std=(128, 128, 128),
            stride=32,
            pad_value=-127.5 / 128,  # black, as the original pads
        ),
        head=Ref("polyface_scrfd.head:Head"),
        graphs=(GraphSource(kind="onnx-file", weights=weights.name),),
        weights=(weights,),
        keep_float=("bbox_head.stride_*", *keep_float),  # the three heads of each level, and more
        landmarks=("left_eye", "right_eye", "nose", "mouth_left", "mouth_right"),  # as seen in the image
        defaults=DetectDefaults(score_threshold=0.5, iou_threshold=0.4, pre_nms_top_k=5000),
        # Measured with 500M and 2.5G: beyond it faces are missed, without a box in their place. 10G was not at hand.
        face_sizes=(26, 400),
        run_pixels=run_pixels,
        references=("https://arxiv.org/abs/2105.04714", "https://github.com/deepinsight/insightface"),
    )


@polyface.hookimpl
def polyface_detectors() -> Iterable[DetectorSpec | FamilySpec]:
    """Yield ``scrfd-500m``, ``scrfd-2.5g`` and ``scrfd-10g``, and the family ``scrfd``.

    Detectors are named by the multiplications of an input of 640x480.
    """
    releases = "https://github.com/yakhyo/uniface/releases/download/weights"
    yield _spec(
        size="500m",
        summary="SCRFD of 0.5 GFLOP: small and fast; weights for research only",
        sha256="5e4447f50245bbd7966bd6c0fa52938c61474a04ec7def48753668a9d8b4ea3a",
        file_size=2_524_817,
        urls=(f"{releases}/scrfd_500m_kps.onnx",),
        run_pixels=4096 * 2048,
        # The first convolutions, as the file calls them: in 8 bits, too, heads are 0.8 of their largest off, not 0.1.
        keep_float=("546", "550", "554", "558", "562", "566", "570", "574"),
    )
    yield _spec(
        size="2.5g",
        summary="SCRFD of 2.5 GFLOP; weights for research only",
        sha256="32d20c77b9e2dc1d07e94c2ab9d25bdd5cd05eddbe0b46e7b38e7a1eca22e99a",
        file_size=3_291_017,
        urls=(
            "https://github.com/anliyuan/FeatherTalk/raw/ace1227ec0a367a983101bfc17d7e5fcf2bfb63f/"
            "data_utils/scrfd_2.5g_kps.onnx",
        ),
        run_pixels=4096 * 2048,
    )
    yield _spec(
        size="10g",
        summary="SCRFD of 10 GFLOP: the most accurate; weights for research only",
        sha256="5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91",
        file_size=16_923_827,
        urls=(
            f"{releases}/scrfd_10g_kps.onnx",
            "https://huggingface.co/public-data/insightface/resolve/main/models/buffalo_l/det_10g.onnx",
        ),
        run_pixels=2048 * 2048,
    )
    yield FamilySpec(
        name="scrfd",
        summary="Scores, distances and five points at three strides, as in InsightFace's SCRFD",
        parameters=input_options(channels="rgb", mean=(127.5, 127.5, 127.5), std=(128, 128, 128)),
        describe=Ref("polyface_scrfd.families:scrfd"),
    )
