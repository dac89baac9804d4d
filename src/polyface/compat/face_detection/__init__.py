"""The interface of DSFD-Pytorch-Inference: ``import polyface.compat.face_detection as face_detection`` takes its place.

The rest of that project's README (https://github.com/hukkelas/DSFD-Pytorch-Inference) runs as it stands: names,
defaults, array layouts and colour orders are its own. All work is done by :func:`polyface.create_detector`.

What differs, with what it is worth in points of average precision (easy / medium / hard) of RetinaFace MobileNet0.25 on
400 WIDER FACE images:

- **Mean.** There, RetinaFace's mean, which is in BGR order, is subtracted from RGB pixels, so that red and blue are 19
  levels off. Here it is subtracted in the order the network was trained with: 1.2 / 1.2 / 3.0 points with the weights
  that project uses, 0.9 / 0.9 / 2.8 with the packaged ones.
- **Resizing.** There, by the nearest neighbour, which leaves out pixels; here anti-aliased: 0.1 / 0.3 / 0.5 points with
  ``max_resolution=800``, 0.7 / 0.7 / 0.4 with 640, and 0.3 / 0.0 / -0.2 with 512, at thresholds of 0.02 and IoU 0.4.
- **shrink.** There, any ``shrink`` but 1 without ``max_resolution`` is a ``TypeError``. Here it scales the image,
  enlarging it if it is above 1, and ``max_resolution`` still bounds the result.
- **NMS.** There, ``TensorRTRetinaFace`` keeps the lowest of overlapping boxes, whatever it scores. Here the best score
  wins, as with the other detectors, and results come with the highest score first: 6.2 / 3.7 / 1.2 points at 480x640
  and the wrapper's own thresholds.
- **Float images.** There, only uint8 passes the check, and the README's own ``zeros((2, 512, 512, 3))`` is float64.
  Here whole numbers from 0 to 255 in a float dtype are pixels; other floats are a :class:`polyface.ImageError`.
- **A batch of one.** The README gives ``batched_detect`` its one image, which fails there on a count of dimensions.
- **Padding.** There, the network runs at the image's size; here at the next multiple of 32, which moves average
  precision by +0.05 / +0.04 / +0.03. ``pad_to=1`` is the exact size.
- **Clipping.** ``clip_boxes`` clips landmarks as well, and so does ``TensorRTRetinaFace``, which always clips.
- **Half precision.** ``fp16_inference`` has no effect on the CPU, as there. A CUDA device without it is an error.
- **Weights.** There, a constructor downloads them and checks nothing. Here they are the detector's default, verified;
  where they are missing, the error says how to get them. ``RetinaNetMobileNetV1`` takes the packaged ones of
  yakhyo/retinaface-pytorch (90.85 / 88.04 / 73.67 on those images); ``weights="pytorch-retinaface"`` takes
  Pytorch_Retinaface's own, which the original has (90.98 / 88.33 / 73.94).
- **Faces.** All that NMS leaves; there, DSFD gives at most 750.
- **Views.** The network sees an image once, as there; ``view="auto"`` finds faces of every size.
- **Device.** ``device=None`` is polyface's own choice: CUDA where a backend that is installed has it, else the CPU.
- **Classes.** ``build_detector`` is the one way to a detector; the classes it names are not exported.
- **Errors** are polyface's, not ``AssertionError``.

Beyond the original, ``build_detector`` and ``TensorRTRetinaFace`` take every setting of polyface as a keyword, such as
``backend="onnxruntime"``. What is left out, or ``None``, comes from ``polyface.toml`` and ``POLYFACE_*``, as always.
"""

from __future__ import annotations

from polyface.compat.face_detection.build import Detector, available_detectors, build_detector
from polyface.compat.face_detection.retinaface.tensorrt_wrap import TensorRTRetinaFace

__all__ = ["Detector", "TensorRTRetinaFace", "available_detectors", "build_detector"]
