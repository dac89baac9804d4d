"""The records of the YuNet detectors; imports nothing heavy."""

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
    Requirement,
    TensorSpec,
    WeightsFile,
)
from polyface.plugins.toolkit import input_options

_TORCH = tuple(Requirement(module=module, install="polyface-yunet[torch]") for module in ("torch", "polyface_torch"))
_TRAIN = "https://github.com/ShiqiYu/libfacedetection.train"
_RAW = "https://raw.githubusercontent.com/ShiqiYu/libfacedetection.train/master"
_ORIGIN = f"{_TRAIN}, trained on WIDER FACE (for research)"


def _spec(*, name: str, summary: str, graphs: Iterable[GraphSource], weights: Iterable[WeightsFile]) -> DetectorSpec:
    return DetectorSpec(
        name=name,
        summary=summary,
        graph_version=1,
        input=TensorSpec(name="input", dims=("n", 3, "h", "w")),
        outputs=tuple(
            TensorSpec(name=f"{kind}_{stride}", dims=("n", f"p{stride}", values))
            for kind, values in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
            for stride in (8, 16, 32)
        ),
        preprocess=Preprocess(channels="bgr", mean=(0, 0, 0), stride=32),
        head=Ref("polyface_yunet.head:Head"),
        graphs=tuple(graphs),
        weights=tuple(weights),
        # With its heads and first layers in float, boxes of YuNet-n are still 5 to 10 pixels off on the examples.
        keep_float=("*",),
        landmarks=("left_eye", "right_eye", "nose", "mouth_left", "mouth_right"),  # as seen in the image
        # From this score on it is as precise on WIDER FACE as RetinaFace MobileNet0.25 from 0.5 on; see README.md.
        defaults=DetectDefaults(score_threshold=0.6, iou_threshold=0.45, pre_nms_top_k=5000),
        min_side=32,
        face_sizes=(21, 384),  # measured with YuNet-n, see README.md; YuNet-s was not at hand
        run_pixels=4096 * 2048,  # of YuNet-n 0.4 GB in ONNX Runtime, 0.5 GB in OpenVINO, 0.9 GB in PyTorch
        references=("https://doi.org/10.1007/s11633-023-1423-y", _TRAIN),
    )


@polyface.hookimpl
def polyface_detectors() -> Iterable[DetectorSpec | FamilySpec]:
    """Yield ``yunet-n`` and ``yunet-s``, and the family ``yunet``."""
    yield _spec(
        name="yunet-n",
        summary="YuNet-n: tiny and fast, good at small faces",
        graphs=(
            GraphSource(kind="onnx", weights="onnx"),
            GraphSource(kind="torch-module", ref=Ref("polyface_yunet.net:yunet_n"), requires=_TORCH),
        ),
        weights=(
            WeightsFile(
                name="onnx",
                filename="yunet_n_dynamic.onnx",
                sha256="104ee26c71d5c270ce79a6b3dced91c91013260d29a6bf18f9296c5b8c4c2b12",
                size=322_906,
                license="Apache-2.0",
                urls=(f"{_RAW}/onnx/yunet_n_dynamic.onnx",),
                origin=_ORIGIN,
            ),
            WeightsFile(
                name="checkpoint",
                filename="yunet_n.pth",
                sha256="9c7c9e14a4d60e57491d77e4d8b0d451bd834f300e05c0dea7fd1f6533817b06",
                size=747_497,
                license="Apache-2.0",
                urls=(f"{_RAW}/weights/yunet_n.pth",),
                origin=_ORIGIN,
            ),
        ),
    )
    yield _spec(
        name="yunet-s",
        summary="YuNet-s: smaller still, the file that OpenCV's FaceDetectorYN takes",
        graphs=(GraphSource(kind="onnx-file", weights="opencv"),),
        weights=(
            WeightsFile(
                name="opencv",
                filename="face_detection_yunet_2023mar.onnx",
                sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
                size=232_589,
                license="MIT",
                urls=(
                    "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/"
                    "face_detection_yunet_2023mar.onnx",
                    f"{_RAW}/onnx/yunet_s_640_640.onnx",
                ),
                origin=f"{_ORIGIN}, by way of https://github.com/opencv/opencv_zoo",
            ),
        ),
    )
    yield FamilySpec(
        name="yunet",
        summary="Two scores, boxes and five points at three strides, as in YuNet",
        parameters=input_options(channels="bgr", mean=(0, 0, 0)),
        describe=Ref("polyface_yunet.families:yunet"),
    )
