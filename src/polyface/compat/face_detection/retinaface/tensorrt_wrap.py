"""RetinaFace at a fixed size on TensorRT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import polyface
from polyface.compat.face_detection.build import NAMES, as_pixels
from polyface.errors import ImageError

if TYPE_CHECKING:
    from polyface.arrays import FloatArray


class TensorRTRetinaFace:
    """``retinaface-resnet50`` for images of one size, stretched to another, in half precision on TensorRT.

    Args:
        input_imshape: height and width of the images, in pixels.
        inference_imshape: height and width at which the network runs, in pixels.
        confidence_threshold: a face must score at least this; in [0, 1].
        nms_threshold: NMS drops a box that overlaps a higher-scoring one by more than this; in [0, 1].
        backend: what runs it.
        precision: of the network; ``"fp32"`` on a backend without half precision.
        **settings: what else :func:`polyface.create_detector` takes, such as ``weights`` or ``plugins``.

    Attributes:
        face_detector: what does the work.

    Raises:
        ConfigError: the network cannot run at that size.
        PolyfaceError: whatever else :func:`polyface.create_detector` raises.
    """

    def __init__(
        self,
        input_imshape: tuple[int, int],
        inference_imshape: tuple[int, int],
        confidence_threshold: float = 0.5,
        nms_threshold: float = 0.3,
        *,
        backend: str = "tensorrt",
        precision: str = "fp16",
        **settings: Any,
    ) -> None:
        self.input_imshape = tuple(input_imshape)
        self.face_detector = polyface.create_detector(
            NAMES["RetinaNetResNet50"],
            infer_size=inference_imshape,
            fit="stretch",
            clip=True,
            score_threshold=confidence_threshold,
            iou_threshold=nms_threshold,
            backend=backend,
            precision=precision,
            **settings,
        )

    def infer(self, img: npt.NDArray[Any]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return boxes ``(N, 4)``, landmarks ``(N, 5, 2)`` and scores ``(N,)`` of one image, float32, in its pixels.

        Args:
            img: **BGR** pixels ``(H, W, 3)``, as OpenCV reads them, where everything else takes RGB; uint8, or whole
                numbers from 0 to 255 in a float dtype.

        Raises:
            ImageError: it is not such an image, or not of the size ``input_imshape``.
        """
        pixels = as_pixels(np.asarray(img))
        if pixels.shape != (*self.input_imshape, 3):
            raise ImageError(
                f"Got an array of shape {pixels.shape}; wanted: BGR pixels of shape {(*self.input_imshape, 3)}.",
                why=["input_imshape says so"],
                fix="resize it, or make another TensorRTRetinaFace for that size",
            )
        found = self.face_detector.detect(pixels[:, :, ::-1])
        # RetinaFace always gives landmarks.
        return found.boxes, np.asarray(found.landmarks), found.scores
