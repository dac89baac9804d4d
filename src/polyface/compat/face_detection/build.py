"""The detectors, by their names in DSFD-Pytorch-Inference."""

from __future__ import annotations

import math
import numbers
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

import polyface
from polyface.errors import ConfigError, ImageError, Reason, UnknownNameError, UnsupportedError, nearest, quoted

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, ImageArray

NAMES = {
    "DSFDDetector": "dsfd-resnet152",
    "RetinaNetResNet50": "retinaface-resnet50",
    "RetinaNetMobileNetV1": "retinaface-mobilenet025",
}
"""polyface's name of each detector."""

available_detectors = list(NAMES)


class Detector:
    """The original's methods; the ``face_detector`` of polyface does the work. :func:`build_detector` makes one."""

    def __init__(self, face_detector: polyface.FaceDetector) -> None:
        self.face_detector = face_detector

    def detect(self, image: npt.NDArray[Any], shrink: float = 1.0) -> FloatArray:
        """Return the faces of one image ``(N, 5)`` float32: x1, y1, x2, y2 in its pixels, and the score.

        Args:
            image: RGB pixels ``(H, W, 3)``: uint8, or whole numbers from 0 to 255 in a float dtype.
            shrink: scale the image by this before the network runs, though not beyond ``max_resolution``.

        Raises:
            ImageError: it is not an image, or has too many pixels once it is enlarged.
            ConfigError: ``shrink`` is not a number greater than 0.
        """
        return self._boxes([polyface.read_image(as_pixels(image))], shrink)[0]

    def batched_detect(self, image: npt.NDArray[Any], shrink: float = 1.0) -> list[FloatArray]:
        """Return what :meth:`detect` does for each image of ``(N, H, W, 3)``; ``(H, W, 3)`` is a batch of one."""
        return self._boxes(_batch(image), shrink)

    def batched_detect_with_landmarks(self, image: npt.NDArray[Any]) -> tuple[list[FloatArray], list[FloatArray]]:
        """Return the faces ``(N, 5)`` and the landmarks ``(N, 5, 2)`` of each image, float32, in its pixels.

        A face's landmarks are x, y of the left eye, the right eye, the nose, and the left and the right corner of the
        mouth, as seen in the image.

        Args:
            image: what :meth:`batched_detect` takes.

        Raises:
            ImageError: one is not an image; says which.
            UnsupportedError: the detector gives no landmarks.
        """
        detector = self.face_detector.spec
        if not detector.landmarks:
            fix = "build_detector('RetinaNetResNet50')"
            reason = Reason(subject=detector.name, why="its network finds boxes alone", fix=fix)
            raise UnsupportedError(f"'{detector.name}' gives no landmarks.", [reason])
        faces = self.face_detector.detect_batch(_batch(image))
        return [found.to_array() for found in faces], [np.asarray(found.landmarks) for found in faces]

    def _boxes(self, images: Any, shrink: Any) -> list[FloatArray]:
        factor = float(shrink) if isinstance(shrink, numbers.Real) else math.nan
        if not 0 < factor < math.inf:
            raise ConfigError(f"shrink must be a number greater than 0, not {quoted(shrink)}.")
        if factor == 1:
            return [found.to_array() for found in self.face_detector.detect_batch(images)]
        images = [polyface.read_image(image) for image in images]
        scaled = [_scale(image, factor, self.face_detector.config.max_side) for image in images]
        faces = [found.to_array() for found in self.face_detector.detect_batch(scaled)]
        for boxes, before, after in zip(faces, images, scaled, strict=True):
            boxes[:, :4] *= np.tile(np.divide(before.shape[1::-1], after.shape[1::-1]), 2)
        return faces


def build_detector(  # noqa: PLR0917 - the original's positions
    name: str = "DSFDDetector",
    confidence_threshold: float = 0.5,
    nms_iou_threshold: float = 0.3,
    device: object = None,
    max_resolution: int | None = None,
    fp16_inference: bool = False,
    clip_boxes: bool = False,
    **settings: Any,
) -> Detector:
    """Build a detector by its name in the original.

    Args:
        name: one of ``available_detectors``.
        confidence_threshold: a face must score at least this; in [0, 1].
        nms_iou_threshold: NMS drops a box that overlaps a higher-scoring one by more than this; in [0, 1].
        device: such as ``"cpu"``, ``"cuda:1"`` or a ``torch.device``; ``None`` leaves it to polyface.
        max_resolution: images with a longer side are shrunk to it, in pixels; smaller ones are never enlarged.
        fp16_inference: half precision on CUDA; without effect on the CPU.
        clip_boxes: clip boxes and landmarks to the image.
        **settings: what else :func:`polyface.create_detector` takes, such as ``backend``, ``weights`` or ``plugins``.

    Raises:
        UnknownNameError: there is no detector of that name, or the plugin that has it is not installed.
        PolyfaceError: whatever else :func:`polyface.create_detector` raises.
    """
    if name not in NAMES:
        raise UnknownNameError(
            f"There is no detector named {quoted(name)}{nearest(name, NAMES) or '.'}",
            why=[f"available: {', '.join(NAMES)}"],
        )
    make = _half_on_cuda if fp16_inference else polyface.create_detector
    face_detector = make(
        NAMES[name],
        score_threshold=confidence_threshold,
        iou_threshold=nms_iou_threshold,
        device=None if device is None else str(device),
        max_side=max_resolution,
        clip=clip_boxes,
        **{"view": "plain", **settings},
    )
    return Detector(face_detector)


def as_pixels(image: Any) -> Any:
    """Return a float array of whole numbers from 0 to 255 as uint8; anything else as it is, for polyface to judge."""
    if isinstance(image, np.ndarray) and image.dtype.kind == "f" and ((image >= 0) & (image <= 255)).all():
        pixels = image.astype(np.uint8)
        return pixels if np.array_equal(pixels, image) else image
    return image


def _batch(images: Any) -> Any:
    pixels = as_pixels(images)
    return pixels[np.newaxis] if isinstance(pixels, np.ndarray) and pixels.ndim == 3 else pixels


def _half_on_cuda(name: str, *, device: str | None, **settings: Any) -> polyface.FaceDetector:
    if device in (None, "auto"):
        # Where polyface's own choice leads is known once the detector is there; on the CPU it can stay.
        face_detector = polyface.create_detector(name, device=device, **settings)
        device = face_detector.execution.device
        if not device.startswith("cuda"):
            return face_detector
        face_detector.close()
    half: dict[str, Any] = {"precision": "fp16"} if device.startswith("cuda") else {}
    return polyface.create_detector(name, device=device, **half, **settings)


def _scale(image: ImageArray, shrink: float, max_side: int | None) -> ImageArray:
    """Scale as core does: Pillow's bilinear filter is anti-aliased."""
    height, width = image.shape[:2]
    scale = shrink if max_side is None else min(shrink, max_side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and size[0] * size[1] > 2 * limit:  # where Pillow refuses to read a file, too
        raise ImageError(
            f"An image of {width}x{height} pixels has too many once it is scaled by {scale:g}.",
            fix="a smaller shrink, or max_resolution; or, if memory is no matter, raise PIL.Image.MAX_IMAGE_PIXELS",
        )
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
