"""The record of the DSFD detector; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable

import polyface
from polyface.plugins.records import (
    DetectDefaults,
    DetectorSpec,
    GraphSource,
    Preprocess,
    Ref,
    Requirement,
    TensorSpec,
    WeightsFile,
)

_TORCH = tuple(
    Requirement(module=module, install="polyface-dsfd[torch]") for module in ("torch", "torchvision", "polyface_torch")
)


@polyface.hookimpl
def polyface_detectors() -> Iterable[DetectorSpec]:
    """Yield ``dsfd-resnet152``."""
    yield DetectorSpec(
        name="dsfd-resnet152",
        summary="DSFD on ResNet-152: for faces down to a few pixels; large and slow, no landmarks",
        graph_version=1,
        input=TensorSpec(name="image", dims=("n", 3, "h", "w")),
        outputs=(
            TensorSpec(name="loc", dims=("n", "p", 4)),
            TensorSpec(name="logits", dims=("n", "p", 2)),
        ),
        preprocess=Preprocess(channels="bgr", mean=(104, 117, 123), stride=1),
        head=Ref("polyface_dsfd.head:Head"),
        graphs=(GraphSource(kind="torch-module", ref=Ref("polyface_dsfd.net:resnet152"), requires=_TORCH),),
        weights=(
            WeightsFile(
                name="tencent",
                filename="WIDERFace_DSFD_RES152.pth",
                sha256="76ea889083f2dddaa87cbaf4cff6bb70e3e34c83fb0ab8de7b2df15eaf78caf1",
                size=481_004_605,
                license="academic research only (Tencent FaceDetection-DSFD)",
                research_only=True,
                urls=(
                    "https://huggingface.co/spaces/haakohu/deep_privacy2_face/resolve/main/"
                    "torch_home/hub/checkpoints/WIDERFace_DSFD_RES152.pth",
                ),
                origin="https://github.com/Tencent/FaceDetection-DSFD, trained on WIDER FACE (for research)",
            ),
        ),
        keep_float=("loc.*.conv4.weight", "conf.*.conv4.weight"),
        defaults=DetectDefaults(score_threshold=0.5, iou_threshold=0.3, pre_nms_top_k=5000),
        min_side=1,  # every convolution is padded, so that the coarsest levels shrink to one cell and no further
        # Not measured: its anchors begin and end as RetinaFace's do, for which these are the sizes that were.
        face_sizes=(32, 512),
        run_pixels=2048 * 1536,  # 2.4 GB in PyTorch; about 2.2 GB in ONNX Runtime and 4.4 GB in OpenVINO
        references=("https://arxiv.org/abs/1810.10220", "https://github.com/Tencent/FaceDetection-DSFD"),
    )
